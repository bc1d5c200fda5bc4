"""Softmax equalisation loss against its equation, with the same draws, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError

COUNTS = np.array([700, 230, 50, 15, 5])  # of 1000


def draws_from(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(
    logits: torch.Tensor, labels: torch.Tensor, frequency: np.ndarray, lambda_: float, gamma: float, seed: int
) -> torch.Tensor:
    """-log(e^z_y / sum of w_k e^z_k), w_k = 1 - beta T(f_k) (1 - y_k)."""
    beta = (torch.rand(logits.shape, generator=draws_from(seed)) < gamma).double()
    total = torch.zeros((), dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        below = torch.zeros((), dtype=torch.float64)
        for k in range(logits.shape[1]):
            weight = 1.0 - beta[i, k] * float(frequency[k] < lambda_) * (0.0 if k == label else 1.0)
            below = below + weight * torch.exp(logits[i, k])
        total = total - torch.log(torch.exp(logits[i, label]) / below)
    return total / len(labels)


def loss_and_gradient(
    loss: losses.Loss, logits: torch.Tensor, labels: torch.Tensor, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().clone().requires_grad_(True)
    value = loss(logits, labels, generator=draws_from(seed))
    value.backward()
    return value, logits.grad


@pytest.fixture
def twelve() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(12, 5, generator=draws_from(9), dtype=torch.float64).requires_grad_(True)
    return logits, torch.tensor([0, 1, 2, 3, 4, 0, 0, 1, 4, 3, 2, 0])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("lambda_", [0.01, 0.04, 0.1, 2.0])
@pytest.mark.parametrize("gamma", [0.3, 0.9, 1.0])
def test_loss_and_gradient_are_those_of_the_equation_with_the_same_draws(
    twelve: tuple[torch.Tensor, torch.Tensor], lambda_: float, gamma: float, seed: int
) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=lambda_, gamma=gamma)
    value, gradient = loss_and_gradient(loss, *twelve, seed)
    wanted = by_hand(*twelve, COUNTS / COUNTS.sum(), lambda_, gamma, seed)
    (expected,) = torch.autograd.grad(wanted, twelve[0])
    torch.testing.assert_close(value, wanted, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-14)


# Of 98, 1 and 1 samples the last two classes are below 0.05. e^z = (2, 3, 5), and all are left out that can be.
@pytest.mark.parametrize(
    ("label", "wanted", "gradient"),
    [
        (0, 0.0, [0.0, 0.0, 0.0]),  # nothing left but the label: -log(2/2)
        (1, 0.5108256, [0.4, -0.4, 0.0]),  # -log(3/5)
        (2, 0.3364722, [2 / 7, 0.0, -2 / 7]),  # -log(5/7)
    ],
)
def test_cases_small_enough_for_a_pocket_calculator(label: int, wanted: float, gradient: list[float]) -> None:
    counts = np.array([98, 1, 1])
    loss = losses.get("softmax_eql", activation="softmax", class_counts=counts, lambda_=0.05, gamma=1.0)
    value, at = loss_and_gradient(loss, torch.tensor([[2.0, 3.0, 5.0]]).log(), torch.tensor([label]))
    assert value.item() == pytest.approx(wanted, abs=1e-6)
    assert at[0].tolist() == pytest.approx(gradient, abs=1e-6)


def left_out(loss: losses.Loss, labels: torch.Tensor, num_classes: int, seed: int = 0) -> torch.Tensor:
    """Which terms [N, C] are: those a sample's gradient does not reach."""
    _, gradient = loss_and_gradient(loss, torch.zeros(len(labels), num_classes), labels, seed)
    return gradient == 0.0


def test_a_class_with_exactly_the_share_lambda_is_kept() -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=np.array([5, 2, 1]), lambda_=0.25, gamma=1.0)
    assert left_out(loss, torch.tensor([0]), 3).tolist() == [[False, False, True]]
    loss = losses.get("softmax_eql", activation="softmax", class_counts=np.array([5, 2, 1]), lambda_=0.125, gamma=1.0)
    assert left_out(loss, torch.tensor([0]), 3).tolist() == [[False, False, False]]


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_the_share_that_is_left_out_is_gamma_of_the_tail_for_each_sample_and_class(gamma: float) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=0.04, gamma=gamma)
    out = left_out(loss, torch.zeros(40_000, dtype=torch.int64), 5).double()
    error = math.sqrt(gamma * (1.0 - gamma) / 40_000)
    assert out[:, :3].sum() == 0.0
    for c in (3, 4):
        assert abs(out[:, c].mean().item() - gamma) < 5 * error
    # Drawn for each class: both are left out in gamma^2 of the samples. Drawn for each sample: halves differ.
    assert abs((out[:, 3] * out[:, 4]).mean().item() - gamma**2) < 0.0125
    assert not torch.equal(out[:20_000], out[20_000:])


def test_lambda_and_gamma_unless_told_are_those_of_the_paper() -> None:
    counts = np.array([9_900, 60, 40])  # shares 0.006 and 0.004
    loss = losses.get("softmax_eql", activation="softmax", class_counts=counts)
    out = left_out(loss, torch.zeros(40_000, dtype=torch.int64), 3).double()
    assert out[:, :2].sum() == 0.0
    assert out[:, 2].mean().item() == pytest.approx(0.9, abs=0.0075)


def test_the_labels_own_class_is_never_left_out(twelve: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=2.0, gamma=1.0)
    value, gradient = loss_and_gradient(loss, *twelve)
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient.abs().max().item() == pytest.approx(0.0, abs=1e-12)
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=0.04, gamma=1.0)
    out = left_out(loss, torch.tensor([3, 4, 0]), 5)
    assert out.tolist() == [[False] * 4 + [True], [False] * 3 + [True, False], [False] * 3 + [True] * 2]


@pytest.mark.parametrize("params", [{"lambda_": 0.0}, {"gamma": 0.0}, {"gamma": 0.0, "lambda_": 2.0}])
def test_limits_in_which_it_is_cross_entropy(
    twelve: tuple[torch.Tensor, torch.Tensor], params: dict[str, float]
) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, **params)
    value, gradient = loss_and_gradient(loss, *twelve)
    wanted = F.cross_entropy(*twelve)
    (expected,) = torch.autograd.grad(wanted, twelve[0])
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-15)


# Draws


def test_the_same_seed_gives_the_same_loss_and_another_another(twelve: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=0.1, gamma=0.5)
    first, again, other = (loss_and_gradient(loss, *twelve, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_draws_go_on_from_call_to_call_and_leave_pytorchs_own_alone(
    twelve: tuple[torch.Tensor, torch.Tensor],
) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=0.1, gamma=0.5)
    generator, state = draws_from(3), torch.get_rng_state()
    first, second = (loss(*twelve, generator=generator).item() for _ in range(2))
    assert first != second
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_pytorchs_own_is_drawn_from(twelve: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=0.1, gamma=0.5)
    assert loss.random
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert loss(*twelve).item() == loss_and_gradient(loss, *twelve, 3)[0].item()


# Frequency


def test_the_share_of_images_goes_before_that_of_samples(twelve: tuple[torch.Tensor, torch.Tensor]) -> None:
    frequency = np.array([0.02, 0.5, 0.9, 0.01, 0.3])
    loss = losses.get(
        "softmax_eql", activation="softmax", class_counts=COUNTS, image_frequency=frequency, lambda_=0.1, gamma=0.6
    )
    wanted = by_hand(*twelve, frequency, 0.1, 0.6, 0)
    torch.testing.assert_close(loss_and_gradient(loss, *twelve)[0], wanted, rtol=1e-11, atol=0.0)


def test_a_class_without_samples_is_in_the_tail() -> None:
    loss = losses.get("softmax_eql", activation="softmax", class_counts=np.array([9, 4, 0]), lambda_=0.01, gamma=1.0)
    assert left_out(loss, torch.tensor([0, 2]), 3).tolist() == [[False, False, True], [False, False, False]]


# Numbers


@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float32, 1e6), (torch.float64, 1e6), (torch.float16, 6e4), (torch.bfloat16, 1e6)]
)
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_extreme_logits_leave_loss_and_gradient_finite(gamma: float, dtype: torch.dtype, large: float) -> None:
    rows = [[large, -large, 0.0], [-large, large, 0.0], [0.0, -large, large], [-large] * 3, [large] * 3]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype)
    loss = losses.get("softmax_eql", activation="softmax", class_counts=np.array([98, 1, 1]), lambda_=2.0, gamma=gamma)
    value, gradient = loss_and_gradient(loss, logits, torch.arange(3).repeat(5))
    assert value.isfinite()
    assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert gradient.isfinite().all()
    assert gradient.dtype is dtype


def test_the_logits_given_are_left_as_they_are(twelve: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = twelve[0].detach().clone()
    losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=2.0)(*twelve)
    assert torch.equal(twelve[0].detach(), before)


def test_scores_leave_nothing_out() -> None:
    logits = torch.tensor([[0.5, 0.0, -1.0, 2.0, 0.1]])
    loss = losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, lambda_=2.0, gamma=1.0)
    torch.testing.assert_close(loss.scores(logits), logits.exp() / logits.exp().sum())


# Mistakes


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("lambda_", -1e-3),
        ("lambda_", math.nan),
        ("gamma", -0.1),
        ("gamma", 1.1),
        ("gamma", math.nan),
    ],
)
def test_parameters_out_of_their_range(parameter: str, value: float) -> None:
    with pytest.raises(InputError) as error:
        losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, **{parameter: value})
    for named in ("'softmax_eql'", parameter, repr(value)):
        assert named in str(error.value)


def test_other_parameters_are_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="loss 'softmax_eql' has no parameter 'beta'") as error:
        losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, beta=0.9)
    assert error.value.hint == "it takes: lambda_, gamma"


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_it_goes_with_softmax_alone(name: str) -> None:
    with pytest.raises(InputError, match=f"'softmax_eql' does not go with activation '{name}'") as error:
        losses.get("softmax_eql", activation=name, class_counts=COUNTS)
    assert "softmax_eql goes with softmax;" in (error.value.hint or "")
    assert "eql" in (error.value.hint or "").split(";")[1]


def test_it_does_not_take_background() -> None:
    with pytest.raises(InputError, match="'softmax_eql' on softmax does not take background"):
        losses.get("softmax_eql", activation="softmax", class_counts=COUNTS, background=True)


def test_missing_counts_are_named() -> None:
    with pytest.raises(InputError, match="loss 'softmax_eql' needs class_counts"):
        losses.get("softmax_eql", activation="softmax", class_counts=None)
