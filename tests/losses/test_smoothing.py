"""Label-aware smoothing against equations 4 and 6 of MiSLAS, written out in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError
from tests.losses.oracle import ETA, NAMES

COUNTS = np.array([900, 400, 120, 30, 6])


def smoothing(counts: np.ndarray, head: float, tail: float) -> list[float]:
    """Equation 6, the concave form."""
    largest, smallest = int(counts.max()), int(counts.min())
    return [tail + (head - tail) * math.sin((int(n) - smallest) * math.pi / (2 * (largest - smallest))) for n in counts]


def as_in_the_code(logits: torch.Tensor, labels: torch.Tensor, epsilon: list[float]) -> torch.Tensor:
    """(1 - e_y) nll + e_y mean over all classes of -log p."""
    log_prob = logits - logits.exp().sum(1, keepdim=True).log()
    parts = [
        -(1.0 - epsilon[label]) * row[label] - epsilon[label] * row.sum() / len(row)
        for row, label in zip(log_prob, labels.tolist(), strict=True)
    ]
    return torch.stack(parts).mean()


def as_in_the_paper(logits: torch.Tensor, labels: torch.Tensor, epsilon: list[float]) -> torch.Tensor:
    """Equation 4: targets 1 - e_y of the label, and e_y / (C - 1) of each other class."""
    log_prob = logits - logits.exp().sum(1, keepdim=True).log()
    num_classes = logits.shape[1]
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(log_prob, labels.tolist(), strict=True):
        for c in range(num_classes):
            target = 1.0 - epsilon[label] if c == label else epsilon[label] / (num_classes - 1)
            total = total - target * row[c]
    return total / len(labels)


def assert_is(loss: losses.Loss, wanted: torch.Tensor, at: torch.Tensor, labels: torch.Tensor) -> None:
    """Whether loss and gradient at the logits `at` are `wanted`, made from them by autograd."""
    ours = at.detach().clone().requires_grad_(True)
    value = loss(ours, labels)
    value.backward()
    (expected,) = torch.autograd.grad(wanted, at)
    torch.testing.assert_close(value, wanted, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(ours.grad, expected, rtol=1e-9, atol=1e-14)


def smoothing_of(loss: losses.Loss, num_classes: int) -> list[float]:
    """What each class's labels are smoothed by: at logits 0 the label's gradient is (1 - e) (1 / C - 1)."""
    of_each = []
    for label in range(num_classes):
        logits = torch.zeros(1, num_classes, dtype=torch.float64, requires_grad=True)
        loss(logits, torch.tensor([label])).backward()
        of_each.append(1.0 - logits.grad[0, label].item() / (1.0 / num_classes - 1.0))
    return of_each


@pytest.fixture
def eight() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return (2.0 * logits).requires_grad_(True), torch.tensor([0, 1, 2, 3, 4, 0, 0, 4])


@pytest.mark.parametrize(("head", "tail"), [(0.4, 0.1), (0.3, 0.0), (0.2, 0.2), (0.0, 0.5), (0.99, 0.0)])
def test_loss_and_gradient_are_those_of_the_equations(
    eight: tuple[torch.Tensor, torch.Tensor], head: float, tail: float
) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, head=head, tail=tail)
    epsilon = smoothing(COUNTS, head, tail)
    assert_is(loss, as_in_the_code(*eight, epsilon), *eight)


def test_the_papers_form_is_the_same_with_its_share_of_the_label(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS)
    without_the_labels = [e * (5 - 1) / 5 for e in smoothing(COUNTS, 0.4, 0.1)]
    assert_is(loss, as_in_the_paper(*eight, without_the_labels), *eight)


def test_defaults_are_those_of_the_paper(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS)
    assert_is(loss, as_in_the_code(*eight, smoothing(COUNTS, 0.4, 0.1)), *eight)


# Counts 3 and 1, and q = (log 3, 0): p = (3/4, 1/4), -log p = (0.287682, 1.386294) of which the mean is 0.836988.
@pytest.mark.parametrize(
    ("label", "wanted", "gradient"),
    [
        (0, 0.5074044, -0.05),  # 0.6 * 0.287682 + 0.4 * 0.836988; 0.75 - 0.6 - 0.4 / 2
        (1, 1.3313637, -0.7),  # 0.9 * 1.386294 + 0.1 * 0.836988; 0.25 - 0.9 - 0.1 / 2
    ],
)
def test_cases_small_enough_for_a_pocket_calculator(label: int, wanted: float, gradient: float) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=np.array([3, 1]))
    logits = torch.tensor([[math.log(3.0), 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([label]))
    value.backward()
    assert value.item() == pytest.approx(wanted, abs=1e-6)
    assert logits.grad[0, label].item() == pytest.approx(gradient, abs=1e-6)
    assert logits.grad[0, 1 - label].item() == pytest.approx(-gradient, abs=1e-6)


def test_smoothing_rises_by_a_quarter_of_a_sine_from_the_smallest_class_to_the_largest() -> None:
    # A third and a half of the way: sin 30 degrees = 1/2 and sin 45 degrees = 0.7071068.
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=np.array([13, 5, 1, 7]))
    assert smoothing_of(loss, 4) == pytest.approx([0.4, 0.25, 0.1, 0.1 + 0.3 * 0.7071067812], rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 37])
def test_equal_classes_are_smoothed_alike(eight: tuple[torch.Tensor, torch.Tensor], count: int) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=np.full(5, count))
    assert loss(*eight).isfinite()
    of_each = smoothing_of(loss, 5)
    assert of_each == pytest.approx([of_each[0]] * 5)
    assert 0.1 - 1e-9 <= of_each[0] <= 0.4 + 1e-9


def test_without_smoothing_it_is_cross_entropy(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, head=0.0, tail=0.0)
    assert_is(loss, F.cross_entropy(*eight), *eight)


def test_equal_ends_are_pytorchs_label_smoothing(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, head=0.3, tail=0.3)
    assert_is(loss, F.cross_entropy(*eight, label_smoothing=0.3), *eight)


def test_a_class_without_samples_counts_as_if_it_had_one() -> None:
    without, with_one = (
        losses.get("label_aware_smoothing", activation="softmax", class_counts=np.array([9, 4, n])) for n in (0, 1)
    )
    assert smoothing_of(without, 3) == smoothing_of(with_one, 3)


@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float32, 1e6), (torch.float64, 1e6), (torch.float16, 6e4), (torch.bfloat16, 1e6)]
)
def test_extreme_logits_leave_loss_and_gradient_finite(dtype: torch.dtype, large: float) -> None:
    rows = [[large, -large, 0.0], [-large, large, 0.0], [-large] * 3, [large] * 3]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype, requires_grad=True)
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=np.array([10**6, 500, 1]))
    value = loss(logits, torch.arange(3).repeat(4))
    value.backward()
    assert value.isfinite()
    assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype is dtype


def test_gradient_agrees_with_finite_differences(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS)
    assert torch.autograd.gradcheck(lambda q: loss(q, eight[1]), (eight[0],))


# One-vs-all activations


def one_vs_all(activation: str, logits: torch.Tensor, labels: torch.Tensor, epsilon: list[float]) -> torch.Tensor:
    """The sum over classes of -t log eta - (1 - t) log(1 - eta), class by class."""
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(ETA[activation](logits), labels.tolist(), strict=True):
        for c, eta in enumerate(row):
            target = (1.0 - epsilon[label]) * (c == label) + epsilon[label] / len(row)
            total = total - target * torch.log(eta) - (1.0 - target) * torch.log(1.0 - eta)
    return total / len(labels)


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize(("head", "tail"), [(0.4, 0.1), (0.3, 0.0), (0.0, 0.5)])
def test_one_vs_all_losses_and_gradients_are_those_of_the_sum(
    eight: tuple[torch.Tensor, torch.Tensor], activation: str, head: float, tail: float
) -> None:
    # Where Gumbel's log eta is continued by its tangent, below -4, the plain formula is another function.
    at, labels = eight[0].detach().clamp(min=-3.0).requires_grad_(True), eight[1]
    loss = losses.get("label_aware_smoothing", activation=activation, class_counts=COUNTS, head=head, tail=tail)
    assert_is(loss, one_vs_all(activation, at, labels, smoothing(COUNTS, head, tail)), at, labels)


@pytest.mark.parametrize("activation", NAMES)
def test_one_vs_all_without_smoothing_is_cross_entropy(
    eight: tuple[torch.Tensor, torch.Tensor], activation: str
) -> None:
    loss = losses.get("label_aware_smoothing", activation=activation, class_counts=COUNTS, head=0.0, tail=0.0)
    assert_is(loss, losses.get("cross_entropy", activation=activation)(*eight), *eight)


def test_one_vs_all_has_its_least_loss_where_scores_are_the_targets() -> None:
    """One sample of the largest of two classes: e = 0.4, targets 0.8 and 0.2, Gumbel's -log(-log t) are the logits."""
    loss = losses.get("label_aware_smoothing", activation="gumbel", class_counts=np.array([9, 1]))
    logits = torch.tensor([[-math.log(-math.log(t)) for t in (0.8, 0.2)]], dtype=torch.float64, requires_grad=True)
    value = loss(logits, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(-2 * (0.8 * math.log(0.8) + 0.2 * math.log(0.2)))
    assert logits.grad.abs().max().item() < 1e-12


# Mistakes


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("parameter", ["head", "tail"])
def test_parameters_out_of_their_range(parameter: str, value: float) -> None:
    with pytest.raises(InputError) as error:
        losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, **{parameter: value})
    for named in ("'label_aware_smoothing'", parameter, repr(value)):
        assert named in str(error.value)


def test_other_parameters_are_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="loss 'label_aware_smoothing' has no parameter 'smoothing'") as error:
        losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, smoothing=0.1)
    assert error.value.hint == "it takes: head, tail"


def test_it_does_not_take_background() -> None:
    with pytest.raises(InputError, match="'label_aware_smoothing' on softmax does not take background"):
        losses.get("label_aware_smoothing", activation="softmax", class_counts=COUNTS, background=True)


def test_missing_counts_are_named() -> None:
    with pytest.raises(InputError, match="loss 'label_aware_smoothing' needs class_counts"):
        losses.get("label_aware_smoothing", activation="softmax", class_counts=None)
