"""Focal loss against (1 - p_t)^gamma times -log p_t, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError
from gol_decouple.losses import terms

ACTIVATIONS = ("softmax", "sigmoid", "gumbel")
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def by_hand(logits: torch.Tensor, labels: torch.Tensor, name: str, gamma: float) -> torch.Tensor:
    """Equation 4 of Lin et al.: of the label for softmax, summed over classes for the others; a mean over samples.

    Labels that are no column of a one-vs-all activation are background.
    """
    if name == "softmax":
        right = (logits.exp() / logits.exp().sum(1, keepdim=True)).gather(1, labels.unsqueeze(1))
    else:
        eta = 1.0 / (1.0 + torch.exp(-logits)) if name == "sigmoid" else torch.exp(-torch.exp(-logits))
        positive = F.one_hot(labels, logits.shape[1] + 1)[:, :-1]
        right = positive * eta + (1 - positive) * (1.0 - eta)
    return -((1.0 - right) ** gamma * right.log()).sum(1).mean()


@pytest.fixture
def nine() -> tuple[torch.Tensor, torch.Tensor]:
    logits = 1.3 * torch.randn(9, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return logits.clamp(-3.0, 3.0), torch.tensor([0, 1, 2, 3, 0, 2, 1, 1, 3])


def assert_loss_and_gradient_are_by_hand(
    loss: losses.Loss, logits: torch.Tensor, labels: torch.Tensor, name: str, gamma: float
) -> None:
    ours, theirs = logits.clone().requires_grad_(True), logits.clone().requires_grad_(True)
    value, wanted = loss(ours, labels), by_hand(theirs, labels, name, gamma)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_loss_and_gradient_are_those_of_the_equation(
    nine: tuple[torch.Tensor, torch.Tensor], name: str, gamma: float
) -> None:
    loss = losses.get("focal", activation=name, gamma=gamma)
    assert_loss_and_gradient_are_by_hand(loss, *nine, name, gamma)


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_background_is_a_row_of_negatives(nine: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    logits, labels = nine[0], torch.tensor([0, 4, 2, 3, 4, 2, 1, 4, 3])
    loss = losses.get("focal", activation=name, background=True)
    assert_loss_and_gradient_are_by_hand(loss, logits, labels, name, 2.0)


def test_background_of_softmax_is_a_column_after_the_classes(nine: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("focal", activation="softmax", background=True)
    assert loss.num_columns(3) == 4
    assert loss.scores(nine[0]).shape == (9, 3)
    assert_loss_and_gradient_are_by_hand(loss, *nine, "softmax", 2.0)


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_it_does_not_depend_on_how_many_rows_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, nine: tuple[torch.Tensor, torch.Tensor], name: str
) -> None:
    monkeypatch.setattr(terms, "AT_ONCE", 8)
    assert_loss_and_gradient_are_by_hand(losses.get("focal", activation=name), *nine, name, 2.0)


@pytest.mark.parametrize(
    ("name", "row", "label", "wanted"),
    [
        ("softmax", [math.log(3.0), 0.0], 0, 0.0179801),  # p_t = 3/4: 1/16 * 0.287682
        ("softmax", [math.log(3.0), 0.0], 1, 0.7797905),  # p_t = 1/4: 9/16 * 1.386294
        ("sigmoid", [0.0, math.log(3.0)], 0, 0.9530773),  # 1/2, 1/4: 1/4 * 0.693147 + 9/16 * 1.386294
        ("gumbel", [0.0, 0.0], 0, 0.4616513),  # 1/e, 1 - 1/e: 0.632121^2 * 1 + 0.367879^2 * 0.458675
    ],
)
def test_cases_small_enough_for_a_pocket_calculator(name: str, row: list[float], label: int, wanted: float) -> None:
    loss = losses.get("focal", activation=name, gamma=2.0)
    assert loss(torch.tensor([row]), torch.tensor([label])).item() == pytest.approx(wanted, abs=1e-6)


def test_a_gradient_small_enough_for_a_pocket_calculator() -> None:
    # p = 3/4: dL/dp = 2 (1/4) log p - (1/4)^2 / p = -0.143841 - 0.083333, and dp/dq = p (1 - p) = 3/16.
    logits = torch.tensor([[math.log(3.0), 0.0]], requires_grad=True)
    losses.get("focal", activation="softmax", gamma=2.0)(logits, torch.tensor([0])).backward()
    assert logits.grad.flatten().tolist() == pytest.approx([-0.0425952, 0.0425952], abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_without_focus_it_is_pytorchs_cross_entropy(nine: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    logits, labels = nine
    one_hot = F.one_hot(labels, 4).double()
    wanted = {
        "softmax": F.cross_entropy(logits, labels),
        "sigmoid": F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / 9,
        "gumbel": F.binary_cross_entropy(torch.exp(-torch.exp(-logits)), one_hot, reduction="sum") / 9,
    }[name]
    torch.testing.assert_close(losses.get("focal", activation=name, gamma=0.0)(logits, labels), wanted)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gamma_is_two_unless_told(nine: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    assert_loss_and_gradient_are_by_hand(losses.get("focal", activation=name), *nine, name, 2.0)


# From nearly right to right beyond all digits, where the cost is 0.
SURE = (5.0, 15.0, 17.0, 30.0, 40.0, 100.0, 200.0, 1e4)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_samples_that_are_right_leave_no_nan(name: str, dtype: torch.dtype, gamma: float) -> None:
    logits = torch.tensor([[sure, -sure, -sure] for sure in SURE], dtype=dtype, requires_grad=True)
    loss = losses.get("focal", activation=name, gamma=gamma)
    value = loss(logits, torch.zeros(len(SURE), dtype=torch.int64))
    value.backward()
    assert 0.0 <= value.item() < 0.03
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() < 0.01
    right = logits.detach()[-1:].requires_grad_(True)
    value = loss(right, torch.tensor([0]))
    value.backward()
    assert value.item() == 0.0
    assert right.grad.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_samples_that_are_wrong_beyond_all_digits_cost_what_they_do_without_focus(
    name: str, dtype: torch.dtype, gamma: float
) -> None:
    logits = torch.tensor([[-6e4, 6e4, -6e4]], dtype=dtype, requires_grad=True)
    large = logits[0, 1].item()
    value = losses.get("focal", activation=name, gamma=gamma)(logits, torch.tensor([0]))
    value.backward()
    # Below q_min = -4, -log eta of Gumbel is e^4 (1 - (q + 4)); elsewhere each of the two terms is |q|.
    cost, slope = (math.exp(4.0) * (large - 3.0) + large, math.exp(4.0)) if name == "gumbel" else (2.0 * large, 1.0)
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(cost, rel=1e-6)
    assert logits.grad.dtype is dtype
    assert logits.grad[0].tolist() == pytest.approx([-slope, 1.0, 0.0], rel=1e-2 if dtype is torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_small_costs_keep_their_digits(gamma: float, dtype: torch.dtype) -> None:
    # Of both classes 1 - p_t = e^-15 / (1 + e^-15), which is -log p_t but for its square.
    missing = math.exp(-15.0) / (1.0 + math.exp(-15.0))
    cost = math.log1p(math.exp(-15.0))
    logits = torch.tensor([[15.0, -15.0]], dtype=dtype, requires_grad=True)
    value = losses.get("focal", activation="sigmoid", gamma=gamma)(logits, torch.tensor([0]))
    value.backward()
    slope = missing ** (gamma + 1.0) * (1.0 + gamma * cost * (1.0 - missing) / missing)
    assert value.item() == pytest.approx(2.0 * missing**gamma * cost, rel=1e-5)
    assert logits.grad.flatten().tolist() == pytest.approx([-slope, slope], rel=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradient_agrees_with_finite_differences(
    nine: tuple[torch.Tensor, torch.Tensor], name: str, gamma: float
) -> None:
    loss = losses.get("focal", activation=name, gamma=gamma)
    assert torch.autograd.gradcheck(lambda q: loss(q, nine[1]), (nine[0].requires_grad_(True),))


@pytest.mark.parametrize("gamma", [-0.5, -1e-9, math.nan])
def test_gamma_out_of_its_range(gamma: float) -> None:
    with pytest.raises(InputError) as error:
        losses.get("focal", activation="softmax", gamma=gamma)
    for named in ("'focal'", "gamma", repr(gamma)):
        assert named in str(error.value)


def test_an_endless_gamma_is_out_of_its_range() -> None:
    with pytest.raises(InputError, match="loss 'focal': gamma = inf"):
        losses.get("focal", activation="softmax", gamma=math.inf)


def test_other_parameters_and_activations_are_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="loss 'focal' has no parameter 'tau'") as error:
        losses.get("focal", activation="softmax", tau=1.0)
    assert "gamma" in (error.value.hint or "")
    with pytest.raises(InputError, match="unknown activation 'softmaxx'") as error:
        losses.get("focal", activation="softmaxx")
    assert "softmax" in (error.value.hint or "")


def test_it_needs_no_counts_and_has_no_state() -> None:
    assert losses.get("focal", activation="gumbel", class_counts=None).state_dict() == {}
