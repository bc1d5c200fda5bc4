"""LDAM against equation 13 of Cao et al., written out in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError

COUNTS = np.array([5000, 625, 81, 16, 1])


def margins(counts: np.ndarray, max_margin: float) -> list[float]:
    """C / n^(1/4), where C makes the largest `max_margin`."""
    proportional = [1.0 / math.sqrt(math.sqrt(n)) for n in counts.tolist()]
    return [max_margin * m / max(proportional) for m in proportional]


def by_hand(
    logits: torch.Tensor, labels: torch.Tensor, margin_of: list[float], scale: float, weights: list[float]
) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        own = torch.exp(scale * (row[label] - margin_of[label]))
        others = sum(torch.exp(scale * row[c]) for c in range(len(row)) if c != label)
        total = total - weights[label] * torch.log(own / (own + others))
    return total / len(labels)


def assert_is(loss: losses.Loss, wanted: torch.Tensor, at: torch.Tensor, labels: torch.Tensor) -> None:
    """Whether loss and gradient at the logits `at` are `wanted`, made from them by autograd."""
    ours = at.detach().clone().requires_grad_(True)
    value = loss(ours, labels)
    value.backward()
    (expected,) = torch.autograd.grad(wanted, at, retain_graph=True)
    torch.testing.assert_close(value, wanted, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(ours.grad, expected, rtol=1e-9, atol=1e-13)


@pytest.fixture
def cosines() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(7)
    logits = 2.0 * torch.rand(8, 5, generator=draws, dtype=torch.float64) - 1.0
    return logits.requires_grad_(True), torch.tensor([0, 1, 2, 3, 4, 0, 0, 2])


@pytest.mark.parametrize("max_margin", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0])
def test_loss_and_gradient_are_those_of_the_equation(
    cosines: tuple[torch.Tensor, torch.Tensor], max_margin: float, scale: float
) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, max_margin=max_margin, scale=scale)
    wanted = by_hand(*cosines, margins(COUNTS, max_margin), scale, [1.0] * 5)
    assert_is(loss, wanted, *cosines)


def test_defaults_are_those_of_the_paper(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS)
    wanted = by_hand(*cosines, margins(COUNTS, 0.5), 30.0, [1.0] * 5)
    assert_is(loss, wanted, *cosines)
    loss.start_epoch(0.99)
    assert_is(loss, wanted, *cosines)


# Counts 16 and 1: margins 0.5 / 2 and 0.5. Scale 2 and z = (1, 0).
@pytest.mark.parametrize(
    ("label", "wanted", "slope"),
    [
        (0, 0.2014133, 0.3648511),  # 2 (0.75, 0): log(1 + e^-1.5); 2 / (1 + e^1.5)
        (1, 3.0485874, 1.9051483),  # 2 (1, -0.5): log(1 + e^3); 2 / (1 + e^-3)
    ],
)
def test_cases_small_enough_for_a_pocket_calculator(label: int, wanted: float, slope: float) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=np.array([16, 1]), scale=2.0)
    logits = torch.tensor([[1.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([label]))
    value.backward()
    assert value.item() == pytest.approx(wanted, abs=1e-6)
    assert logits.grad[0, label].item() == pytest.approx(-slope, abs=1e-6)
    assert logits.grad[0, 1 - label].item() == pytest.approx(slope, abs=1e-6)


def test_margins_are_larger_for_smaller_classes_and_reach_the_largest() -> None:
    # At equal logits with two columns used, log(e^loss - 1) = scale * margin of the label.
    loss = losses.get("ldam", activation="softmax", class_counts=np.array([81, 16]), max_margin=0.6, scale=10.0)
    logits = torch.zeros(1, 2, dtype=torch.float64)
    of_each = [math.log(math.expm1(loss(logits, torch.tensor([c])).item())) / 10.0 for c in (0, 1)]
    assert of_each == pytest.approx([0.6 * 2 / 3, 0.6], rel=1e-9)


def test_without_margin_and_scale_it_is_cross_entropy(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, max_margin=0.0, scale=1.0)
    assert_is(loss, F.cross_entropy(*cosines), *cosines)


def test_a_class_without_samples_has_the_margin_of_one_sample(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=np.array([5000, 625, 81, 16, 0]))
    assert_is(loss, by_hand(*cosines, margins(COUNTS, 0.5), 30.0, [1.0] * 5), *cosines)


def effective_number_weights(beta: float) -> list[float]:
    weights = [(1.0 - beta) / (1.0 - beta**n) for n in COUNTS.tolist()]
    return [5 * weight / sum(weights) for weight in weights]


def test_deferred_weights_come_with_their_share_of_the_epochs(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, scale=4.0, deferred=0.8, beta=0.99)
    margin_of = margins(COUNTS, 0.5)
    assert_is(loss, by_hand(*cosines, margin_of, 4.0, [1.0] * 5), *cosines)
    loss.start_epoch(159 / 200)
    assert_is(loss, by_hand(*cosines, margin_of, 4.0, [1.0] * 5), *cosines)
    loss.start_epoch(160 / 200)
    assert_is(loss, by_hand(*cosines, margin_of, 4.0, effective_number_weights(0.99)), *cosines)


def test_deferred_weights_are_by_beta_0_9999_unless_told(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, deferred=0.8)
    loss.start_epoch(0.9)
    assert_is(loss, by_hand(*cosines, margins(COUNTS, 0.5), 30.0, effective_number_weights(0.9999)), *cosines)


# Scores


def test_scores_are_softmax_of_the_scaled_logits_without_margins(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, scale=7.0)
    logits = cosines[0].detach()
    powers = torch.exp(7.0 * logits)
    torch.testing.assert_close(loss.scores(logits), powers / powers.sum(1, keepdim=True))
    assert torch.equal(loss.ranking(logits).argmax(1), logits.argmax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_half_precision_are_worked_out_in_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.873, 0.951, 0.9], [3000.0, 1.0, 0.0]]).to(dtype)
    scores = losses.get("ldam", activation="softmax", class_counts=np.array([9, 3, 1])).scores(logits)
    assert scores.dtype is torch.float32
    torch.testing.assert_close(scores, torch.softmax(30.0 * logits.double(), 1).float())


# Numbers


@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float32, 1e6), (torch.float64, 1e6), (torch.float16, 6e4), (torch.bfloat16, 1e6)]
)
def test_extreme_logits_leave_loss_and_gradient_finite(dtype: torch.dtype, large: float) -> None:
    rows = [[large, -large, 0.0], [-large, large, 0.0], [-large] * 3, [large] * 3]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype, requires_grad=True)
    value = losses.get("ldam", activation="softmax", class_counts=np.array([10**6, 500, 1]))(
        logits, torch.arange(3).repeat(4)
    )
    value.backward()
    assert value.isfinite()
    assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype is dtype


def test_gradient_agrees_with_finite_differences(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("ldam", activation="softmax", class_counts=COUNTS, scale=5.0)
    assert torch.autograd.gradcheck(lambda q: loss(q, cosines[1]), (cosines[0],))


def test_the_logits_given_are_left_as_they_are(cosines: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = cosines[0].detach().clone()
    losses.get("ldam", activation="softmax", class_counts=COUNTS)(*cosines)
    assert torch.equal(cosines[0].detach(), before)


# Mistakes


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("max_margin", -0.1),
        ("max_margin", math.nan),
        ("scale", 0.0),
        ("scale", -1.0),
        ("scale", math.nan),
        ("deferred", -0.5),
        ("deferred", 1.5),
        ("beta", 1.0),
        ("beta", -0.5),
    ],
)
def test_parameters_out_of_their_range(parameter: str, value: float) -> None:
    with pytest.raises(InputError) as error:
        losses.get("ldam", activation="softmax", class_counts=COUNTS, **{parameter: value})
    for named in ("'ldam'", parameter, repr(value)):
        assert named in str(error.value)


@pytest.mark.parametrize("parameter", ["max_margin", "scale"])
def test_endless_parameters_are_out_of_their_range(parameter: str) -> None:
    with pytest.raises(InputError, match=f"loss 'ldam': {parameter} = inf"):
        losses.get("ldam", activation="softmax", class_counts=COUNTS, **{parameter: math.inf})


def test_other_parameters_are_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="loss 'ldam' has no parameter 'margin'") as error:
        losses.get("ldam", activation="softmax", class_counts=COUNTS, margin=0.5)
    assert error.value.hint == "it takes: max_margin, scale, deferred, beta"


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_it_goes_with_softmax_alone(name: str) -> None:
    with pytest.raises(InputError, match=f"loss 'ldam' does not go with activation '{name}'") as error:
        losses.get("ldam", activation=name, class_counts=COUNTS)
    assert "ldam goes with softmax;" in (error.value.hint or "")


def test_it_does_not_take_background() -> None:
    with pytest.raises(InputError, match="'ldam' on softmax does not take background"):
        losses.get("ldam", activation="softmax", class_counts=COUNTS, background=True)


def test_missing_counts_are_named() -> None:
    with pytest.raises(InputError, match="loss 'ldam' needs class_counts"):
        losses.get("ldam", activation="softmax", class_counts=None)
