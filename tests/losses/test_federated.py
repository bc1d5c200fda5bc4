"""Federated loss: its negatives against the equation in float64 autograd, its draws against their probabilities."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from gol_decouple import losses
from gol_decouple.errors import InputError
from tests.losses.oracle import NAMES, check, run, weighted_negatives

COUNTS = np.array([900, 400, 100, 64, 25, 9, 4, 1])
C = len(COUNTS)


def make(activation: str = "sigmoid", counts: np.ndarray = COUNTS, **params: Any) -> losses.Loss:
    params.setdefault("background", True)
    return losses.get("federated", activation=activation, class_counts=counts, **params)


def batch(labels: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(len(labels), C, generator=stream, dtype=torch.float64)
    return logits.clamp(min=-3.4), torch.tensor(labels)


def classes_with_negatives(gradient: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """The classes at which rows that have another label have a gradient: each either in all of these or in none."""
    found = []
    for column in range(gradient.shape[1]):
        others = gradient[labels != column, column] != 0
        assert others.all() or not others.any()
        if others.any():
            found.append(column)
    return found


@pytest.mark.parametrize("num_sampled", [1, 3, 4, 5, 7])
@pytest.mark.parametrize("labels", [[0, 5, 5, 2, 0], [0, C, 5, C, 2, C], [C] * 6])
@pytest.mark.parametrize("name", NAMES)
def test_all_rows_have_negatives_of_one_set_that_holds_the_batchs_classes(
    name: str, labels: list[int], num_sampled: int
) -> None:
    present = set(labels) - {C}
    loss = make(name, num_sampled=num_sampled)
    for seed in range(5):
        logits, target = batch(labels, seed)
        value, gradient = run(loss, logits, target, seed)
        chosen = classes_with_negatives(gradient, target)
        assert set(chosen) >= present
        # More present than num_sampled: these, and no other.
        assert len(chosen) == max(num_sampled, len(present))
        weights = torch.zeros(C, dtype=torch.float64)
        weights[chosen] = 1.0
        check((value, gradient), weighted_negatives(name, logits, target, weights))


@pytest.mark.parametrize("name", NAMES)
def test_without_background(name: str) -> None:
    logits, labels = batch([3, 3, 6, 1])
    value, gradient = run(make(name, background=False, num_sampled=5), logits, labels)
    chosen = classes_with_negatives(gradient, labels)
    assert len(chosen) == 5
    weights = torch.zeros(C, dtype=torch.float64).index_fill(0, torch.tensor(chosen), 1.0)
    check((value, gradient), weighted_negatives(name, logits, labels, weights))


def test_by_hand() -> None:
    # Sigmoid at q = 0: each term is log 2. Classes 0 and 2 are in the batch and fill num_sampled: label 0 has itself
    # and class 2, label 2 itself and class 0, background both; class 1 has nothing. 6 log 2 over 3 rows.
    loss = losses.get(
        "federated", activation="sigmoid", class_counts=np.array([5, 5, 5]), background=True, num_sampled=2
    )
    value, gradient = run(loss, torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0, 2, 3]))
    assert value.item() == pytest.approx(2.0 * math.log(2.0), rel=1e-12)
    wanted = [[-1 / 6, 0.0, 1 / 6], [1 / 6, 0.0, -1 / 6], [1 / 6, 0.0, 1 / 6]]
    torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("num_sampled", [C, C + 1, 50, 10**6])
@pytest.mark.parametrize("labels", [[0, 5, C, 2], [C, C]])
@pytest.mark.parametrize("name", NAMES)
def test_all_classes_sampled_is_plain_cross_entropy(name: str, labels: list[int], num_sampled: int) -> None:
    logits, target = batch(labels)
    wanted = weighted_negatives(name, logits, target, torch.ones(C, dtype=torch.float64))
    check(run(make(name, num_sampled=num_sampled), logits, target), wanted)


def test_fifty_are_sampled_with_power_one_half_by_default() -> None:
    counts = np.arange(1, 81)
    logits, labels = torch.zeros(4, 80, dtype=torch.float64), torch.tensor([3, 3, 79, 80])
    got = run(make(counts=counts), logits, labels, 5)
    assert len(classes_with_negatives(got[1], labels)) == 50
    check(got, run(make(counts=counts, num_sampled=50, power=0.5), logits, labels, 5))


def sets_drawn(loss: losses.Loss, labels: list[int], calls: int, num_classes: int = C) -> torch.Tensor:
    """Which classes were negatives of a background row, [calls, C], from one generator."""
    target = torch.tensor([*labels, num_classes])
    generator = torch.Generator().manual_seed(17)
    found = torch.zeros(calls, num_classes, dtype=torch.bool)
    for call in range(calls):
        gradient = torch.zeros(len(target), num_classes)
        loss.per_sample_(gradient, target, generator)
        found[call] = gradient[-1] != 0
    return found


def assert_share(happened: torch.Tensor, probability: float) -> None:
    """Within five standard deviations of the binomial distribution."""
    deviation = math.sqrt(probability * (1.0 - probability) / len(happened))
    assert abs(happened.double().mean().item() - probability) <= 5.0 * deviation + 1e-12


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_first_draw_goes_by_frequency_to_the_power(power: float) -> None:
    drawn = sets_drawn(make(num_sampled=3, power=power), [0, 6, 0], calls=700)
    weights = COUNTS.astype(float) ** power
    weights[[0, 6]] = 0.0  # there already
    for column in range(C):
        assert_share(drawn[:, column], 1.0 if column in (0, 6) else weights[column] / weights.sum())


def test_one_class_is_drawn_as_often_as_many_small_ones_together() -> None:
    drawn = sets_drawn(make(counts=np.array([40] + [1] * 40), num_sampled=1, power=1.0), [], 500, num_classes=41)
    assert drawn.sum(1).eq(1).all()
    assert_share(drawn[:, 0], 0.5)


def test_two_draws_are_without_replacement() -> None:
    drawn = sets_drawn(make(num_sampled=3), [0], calls=1000)
    p = COUNTS**0.5
    p[0] = 0.0
    p = p / p.sum()
    # Either order: first a, then b among what is left, or first b, then a.
    for a in range(1, C):
        for b in range(a + 1, C):
            assert_share(drawn[:, a] & drawn[:, b], p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]))


def test_frequencies_of_images_go_before_those_of_samples() -> None:
    frequency = np.array([0.01, 0.01, 0.04, 0.16])
    loss = make(counts=np.array([1000, 10, 10, 10]), image_frequency=frequency, num_sampled=1)
    drawn = sets_drawn(loss, [], calls=700, num_classes=4)
    for column, probability in enumerate((1 / 8, 1 / 8, 2 / 8, 4 / 8)):
        assert_share(drawn[:, column], probability)


def test_classes_without_any_sample_are_drawn_last() -> None:
    counts = np.array([0, 50, 1, 0, 2000, 3])
    for num_sampled, empty in ((1, 0), (4, 0), (5, 1), (6, 2)):
        drawn = sets_drawn(make(counts=counts, num_sampled=num_sampled), [], calls=50, num_classes=6)
        assert drawn.sum(1).eq(num_sampled).all()
        assert drawn[:, [0, 3]].sum(1).eq(empty).all()


def test_at_power_zero_a_class_without_any_sample_is_not_drawn_before_the_others() -> None:
    # frequency^0 = 1 for all: one in four. That such a class comes last would be right as well.
    drawn = sets_drawn(make(counts=np.array([0, 50, 1, 20]), num_sampled=1, power=0.0), [], 200, num_classes=4)
    assert drawn.sum(1).eq(1).all()
    assert drawn[:, 0].double().mean() <= 0.25 + 5 * math.sqrt(0.25 * 0.75 / 200)


def test_a_class_without_any_sample_that_is_in_the_batch_is_kept() -> None:
    drawn = sets_drawn(make(counts=np.array([0, 50, 1, 20]), num_sampled=2), [0], calls=20, num_classes=4)
    assert drawn[:, 0].all()
    assert drawn.sum(1).eq(2).all()


def test_draws_are_alike_from_the_same_seed_and_else_not() -> None:
    logits, labels = batch([0, C, C])
    loss = make(num_sampled=4)
    gradients = [run(loss, logits, labels, seed)[1] for seed in (1, 1, 2, 3, 4)]
    assert torch.equal(gradients[0], gradients[1])
    assert not all(torch.equal(gradients[0], other) for other in gradients[2:])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("num_sampled", 0), ("num_sampled", -3), ("power", -0.5), ("power", math.nan)],
)
def test_a_parameter_out_of_its_range_is_named(parameter: str, value: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss 'federated': {parameter} = {value!r}")):
        make(**{parameter: value})
