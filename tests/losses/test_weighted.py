"""Class-balanced and inverse-frequency weights against the papers' equations in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError

ACTIVATIONS = ("softmax", "sigmoid", "gumbel")
COUNTS = np.array([500, 120, 31, 7, 2])
NAMES = ("class_balanced", "inverse_frequency")


def effective_number_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Cui et al., equation 4, scaled to sum to C."""
    weights = np.array([(1.0 - beta) / (1.0 - beta ** int(n)) for n in counts])
    return weights * len(counts) / weights.sum()


def inverse_frequency_weights(counts: np.ndarray, power: float) -> np.ndarray:
    weights = (counts.sum() / counts) ** power
    return weights * len(counts) / weights.sum()


def cross_entropies(logits: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
    """Each sample's, [N]; a label that is no column of a one-vs-all activation is background."""
    if name == "softmax":
        return F.cross_entropy(logits, labels, reduction="none")
    eta = 1.0 / (1.0 + torch.exp(-logits)) if name == "sigmoid" else torch.exp(-torch.exp(-logits))
    positive = F.one_hot(labels, logits.shape[1] + 1)[:, :-1]
    return -(positive * eta.log() + (1 - positive) * (1.0 - eta).log()).sum(1)


def weights_of(loss: losses.Loss, num_classes: int) -> list[float]:
    """What each class's samples weigh: at equal logits, softmax cross entropy is log C for any of them."""
    logits = torch.zeros(1, num_classes, dtype=torch.float64)
    return [loss(logits, torch.tensor([c])).item() / math.log(num_classes) for c in range(num_classes)]


@pytest.fixture
def ten() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(10, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return logits.clamp(-3.0, 3.0), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3, 4])


def assert_weighs(
    loss: losses.Loss, logits: torch.Tensor, labels: torch.Tensor, name: str, weights: np.ndarray
) -> None:
    ours, theirs = logits.clone().requires_grad_(True), logits.clone().requires_grad_(True)
    value = loss(ours, labels)
    wanted = (torch.as_tensor(weights)[labels] * cross_entropies(theirs, labels, name)).sum() / len(labels)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_class_balanced_is_by_the_effective_number_and_a_mean_over_samples(
    ten: tuple[torch.Tensor, torch.Tensor], name: str, beta: float
) -> None:
    loss = losses.get("class_balanced", activation=name, class_counts=COUNTS, beta=beta)
    assert_weighs(loss, *ten, name, effective_number_weights(COUNTS, beta))


@pytest.mark.parametrize("power", [0.0, 1.0, 1.2])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inverse_frequency_is_a_power_of_it_and_a_mean_over_samples(
    ten: tuple[torch.Tensor, torch.Tensor], name: str, power: float
) -> None:
    loss = losses.get("inverse_frequency", activation=name, class_counts=COUNTS, power=power)
    assert_weighs(loss, *ten, name, inverse_frequency_weights(COUNTS, power))


@pytest.mark.parametrize(
    ("loss_name", "counts", "params", "wanted"),
    [
        # 1/2 / (1 - 1/2) = 1 and 1/2 / (1 - 1/4) = 2/3, times 2 / (5/3).
        ("class_balanced", [1, 2], {"beta": 0.5}, [1.2, 0.8]),
        # 1, 2/3 and 1/2 / (1 - 1/8) = 4/7, of which the sum is 47/21, times 63/47.
        ("class_balanced", [3, 2, 1], {"beta": 0.5}, [36 / 47, 42 / 47, 63 / 47]),
        # 1 and 1/3, times 2 / (4/3).
        ("inverse_frequency", [1, 3], {}, [1.5, 0.5]),
        # 32^-1.2 = 2^-6: 1 and 1/64, times 128/65.
        ("inverse_frequency", [1, 32], {"power": 1.2}, [128 / 65, 2 / 65]),
    ],
)
def test_weights_small_enough_for_a_pocket_calculator(
    loss_name: str, counts: list[int], params: dict[str, float], wanted: list[float]
) -> None:
    loss = losses.get(loss_name, activation="softmax", class_counts=np.array(counts), **params)
    assert weights_of(loss, len(counts)) == pytest.approx(wanted, rel=1e-12)


def test_a_loss_small_enough_for_a_pocket_calculator() -> None:
    # Weights 1.5 and 0.5: (1.5 + 0.5 + 0.5) / 3 samples * log 2; over the weights it would be log 2.
    loss = losses.get("inverse_frequency", activation="softmax", class_counts=np.array([1, 3]))
    assert loss(torch.zeros(3, 2), torch.tensor([0, 1, 1])).item() == pytest.approx(0.5776227, abs=1e-6)


@pytest.mark.parametrize(("loss_name", "params"), [("class_balanced", {"beta": 0.999}), ("inverse_frequency", {})])
def test_weights_sum_to_the_number_of_classes(loss_name: str, params: dict[str, float]) -> None:
    weights = weights_of(losses.get(loss_name, activation="softmax", class_counts=COUNTS, **params), 5)
    assert sum(weights) == pytest.approx(5.0, rel=1e-12)
    assert weights == sorted(weights)


@pytest.mark.parametrize("short_of_one", [1e-8, 1e-12, 2.0**-53])
def test_beta_near_one_is_the_inverse_frequency(short_of_one: float) -> None:
    loss = losses.get("class_balanced", activation="softmax", class_counts=COUNTS, beta=1.0 - short_of_one)
    wanted = [5 * (1 / n) / sum(1 / m for m in COUNTS) for n in COUNTS]
    assert weights_of(loss, 5) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("loss_name", "params"),
    [
        ("class_balanced", {"beta": 0.0}),
        ("class_balanced", {"deferred": 1.0}),
        ("inverse_frequency", {"power": 0.0}),
    ],
)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_limits_in_which_it_is_cross_entropy(
    ten: tuple[torch.Tensor, torch.Tensor], name: str, loss_name: str, params: dict[str, float]
) -> None:
    loss = losses.get(loss_name, activation=name, class_counts=COUNTS, **params)
    assert_weighs(loss, *ten, name, np.ones(5))


@pytest.mark.parametrize("loss_name", NAMES)
def test_equal_classes_weigh_one(ten: tuple[torch.Tensor, torch.Tensor], loss_name: str) -> None:
    loss = losses.get(loss_name, activation="gumbel", class_counts=np.full(5, 37))
    assert_weighs(loss, *ten, "gumbel", np.ones(5))


@pytest.mark.parametrize(("loss_name", "params"), [("class_balanced", {"beta": 0.9}), ("inverse_frequency", {})])
def test_a_class_without_samples_weighs_as_if_it_had_one(loss_name: str, params: dict[str, float]) -> None:
    without, with_one = (
        losses.get(loss_name, activation="softmax", class_counts=np.array([20, 4, n]), **params) for n in (0, 1)
    )
    assert weights_of(without, 3) == weights_of(with_one, 3)
    assert weights_of(without, 3)[2] > 1.0


def test_defaults_are_those_of_the_papers() -> None:
    class_balanced = losses.get("class_balanced", activation="softmax", class_counts=COUNTS)
    inverse = losses.get("inverse_frequency", activation="softmax", class_counts=COUNTS)
    assert weights_of(class_balanced, 5) == pytest.approx(effective_number_weights(COUNTS, 0.9999), rel=1e-9)
    assert weights_of(inverse, 5) == pytest.approx(inverse_frequency_weights(COUNTS, 1.0), rel=1e-12)


# Deferred re-weighting


def test_deferred_weights_are_one_before_their_share_and_class_balanced_from_it_on() -> None:
    loss = losses.get("class_balanced", activation="softmax", class_counts=COUNTS, beta=0.99, deferred=0.8)
    final = pytest.approx(effective_number_weights(COUNTS, 0.99), rel=1e-10)
    assert weights_of(loss, 5) == pytest.approx([1.0] * 5)
    for epoch in range(200):
        loss.start_epoch(epoch / 200)
        assert weights_of(loss, 5) == (final if epoch >= 160 else pytest.approx([1.0] * 5))


def test_deferred_weights_go_back_when_training_does() -> None:
    loss = losses.get("class_balanced", activation="softmax", class_counts=COUNTS, beta=0.99, deferred=0.5)
    loss.start_epoch(0.9)
    assert weights_of(loss, 5) != pytest.approx([1.0] * 5)
    loss.start_epoch(0.1)
    assert weights_of(loss, 5) == pytest.approx([1.0] * 5)


def test_deferred_weights_are_there_at_once_or_never_at_the_ends_of_the_range() -> None:
    at_once, never = (
        losses.get("class_balanced", activation="softmax", class_counts=COUNTS, beta=0.99, deferred=share)
        for share in (0.0, 1.0)
    )
    final = pytest.approx(effective_number_weights(COUNTS, 0.99), rel=1e-10)
    assert weights_of(at_once, 5) == final
    for share in (0.0, 0.5, 1.0):
        at_once.start_epoch(share)
        never.start_epoch(share)
        assert weights_of(at_once, 5) == final
        assert weights_of(never, 5) == pytest.approx([1.0] * 5)


def test_deferred_weights_reach_the_gradient(ten: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("class_balanced", activation="sigmoid", class_counts=COUNTS, beta=0.99, deferred=0.8)
    assert_weighs(loss, *ten, "sigmoid", np.ones(5))
    loss.start_epoch(0.8)
    assert_weighs(loss, *ten, "sigmoid", effective_number_weights(COUNTS, 0.99))


@pytest.mark.parametrize("loss_name", NAMES)
def test_it_has_no_state_and_leaves_the_counts_alone(loss_name: str) -> None:
    counts = COUNTS.copy()
    assert losses.get(loss_name, activation="softmax", class_counts=counts).state_dict() == {}
    assert counts.tolist() == COUNTS.tolist()


# Background


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_background_rows_weigh_one(ten: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    logits, labels = ten[0], torch.tensor([0, 5, 0, 5, 0, 1, 5, 2, 3, 4])
    loss = losses.get("class_balanced", activation=name, class_counts=COUNTS, beta=0.99, background=True)
    assert_weighs(loss, logits, labels, name, np.append(effective_number_weights(COUNTS, 0.99), 1.0))


def test_background_of_softmax_is_a_column_and_weighs_one(ten: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = ten[0], torch.tensor([0, 4, 0, 4, 0, 1, 4, 2, 3, 3])
    loss = losses.get("inverse_frequency", activation="softmax", class_counts=COUNTS[:4], background=True)
    assert loss.num_columns(4) == 5
    assert_weighs(loss, logits, labels, "softmax", np.append(inverse_frequency_weights(COUNTS[:4], 1.0), 1.0))


# Numbers


@pytest.mark.parametrize("loss_name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_finite_at_large_logits(name: str, dtype: torch.dtype, loss_name: str) -> None:
    logits = torch.tensor([[6e4, -6e4, 0.0], [-6e4, 6e4, -5.0]], dtype=dtype, requires_grad=True)
    loss = losses.get(loss_name, activation=name, class_counts=np.array([10**6, 300, 1]))
    value = loss(logits, torch.tensor([1, 2]))
    value.backward()
    assert value.isfinite()
    assert value.dtype is torch.float32
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype is dtype


# Mistakes


@pytest.mark.parametrize(
    ("loss_name", "parameter", "value"),
    [
        ("class_balanced", "beta", -0.1),
        ("class_balanced", "beta", 1.0),
        ("class_balanced", "beta", 1.5),
        ("class_balanced", "beta", math.nan),
        ("class_balanced", "deferred", -0.1),
        ("class_balanced", "deferred", 1.01),
        ("class_balanced", "deferred", math.nan),
        ("inverse_frequency", "power", -1.0),
        ("inverse_frequency", "power", math.nan),
    ],
)
def test_parameters_out_of_their_range(loss_name: str, parameter: str, value: float) -> None:
    with pytest.raises(InputError) as error:
        losses.get(loss_name, activation="softmax", class_counts=COUNTS, **{parameter: value})
    for named in (repr(loss_name), parameter, repr(value)):
        assert named in str(error.value)


def test_an_endless_power_is_out_of_its_range() -> None:
    with pytest.raises(InputError, match="loss 'inverse_frequency': power = inf"):
        losses.get("inverse_frequency", activation="softmax", class_counts=COUNTS, power=math.inf)


@pytest.mark.parametrize(("loss_name", "takes"), [("class_balanced", "beta, deferred"), ("inverse_frequency", "power")])
def test_other_parameters_are_answered_with_those_there_are(loss_name: str, takes: str) -> None:
    with pytest.raises(InputError, match=f"loss '{loss_name}' has no parameter 'gamma'") as error:
        losses.get(loss_name, activation="softmax", class_counts=COUNTS, gamma=1.0)
    assert takes in (error.value.hint or "")


@pytest.mark.parametrize("loss_name", NAMES)
def test_missing_counts_are_named(loss_name: str) -> None:
    with pytest.raises(InputError, match=f"loss '{loss_name}' needs class_counts"):
        losses.get(loss_name, activation="softmax", class_counts=None)
