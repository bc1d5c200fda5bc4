"""Adaptive class suppression against its equation in float64 autograd, and how many background rows it takes."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from gol_decouple import losses
from gol_decouple.errors import InputError
from gol_decouple.losses import terms
from tests.losses.oracle import ETA, NAMES, check, run, weighted_negatives

# Rare are up to 10, common 11 to 100, frequent above.
COUNTS = np.array([10, 11, 100, 101, 1, 5000])
GROUPS = ("rare", "common", "common", "frequent", "rare", "frequent")
C = len(COUNTS)
FOREGROUND = [0, 1, 2, 3, 4, 5, 3, 5]


def make(activation: str = "sigmoid", background: bool = True, **params: Any) -> losses.Loss:
    params.setdefault("class_counts", COUNTS)
    return losses.get("acsl", activation=activation, background=background, **params)


def batch(labels: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(len(labels), C, generator=stream, dtype=torch.float64)
    return logits.clamp(min=-3.4), torch.tensor(labels)


# Foreground


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("name", NAMES)
def test_foreground_is_a_negative_where_it_scores_the_threshold(name: str, threshold: float, background: bool) -> None:
    logits, labels = batch(FOREGROUND * 3)
    weights = (ETA[name](logits) >= threshold).to(torch.float64)
    assert 0 < weights.mean() < 1
    got = run(make(name, background, threshold=threshold), logits, labels)
    check(got, weighted_negatives(name, logits, labels, weights))


def test_the_default_threshold_is_seven_tenths() -> None:
    logits, labels = batch(FOREGROUND * 3)
    weights = (ETA["sigmoid"](logits) >= 0.7).to(torch.float64)
    check(run(make(background=False), logits, labels), weighted_negatives("sigmoid", logits, labels, weights))


def test_by_hand() -> None:
    # Sigmoid, label 0 of three classes, threshold 0.7. q = 0: the positive is log 2 although 1/2 is below 0.7. Class 1,
    # q = log 3, scores 3/4: log 4. Class 2, q = log 2, scores 2/3: nothing.
    logits = torch.tensor([[0.0, math.log(3.0), math.log(2.0)]], dtype=torch.float64)
    loss = losses.get("acsl", activation="sigmoid", threshold=0.7)
    value, gradient = run(loss, logits, torch.tensor([0]))
    assert value.item() == pytest.approx(3.0 * math.log(2.0), rel=1e-12)
    assert gradient[0].tolist() == pytest.approx([-0.5, 0.75, 0.0], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_that_is_the_threshold_counts(dtype: torch.dtype) -> None:
    loss = losses.get("acsl", activation="sigmoid", threshold=0.5)
    value, gradient = run(loss, torch.zeros(1, 3, dtype=dtype), torch.tensor([0]))
    assert value.item() == pytest.approx(3.0 * math.log(2.0))
    assert gradient[0].tolist() == pytest.approx([-0.5, 0.5, 0.5])


@pytest.mark.parametrize("name", NAMES)
def test_threshold_zero_is_plain_without_background(name: str) -> None:
    logits, labels = batch(FOREGROUND * 3)
    got = run(make(name, background=False, threshold=0.0), logits, labels)
    check(got, weighted_negatives(name, logits, labels, torch.ones(len(labels), C)))


def test_threshold_zero_counts_scores_too_small_for_a_float() -> None:
    # Their cost is 0 and so is their gradient; nothing may turn out as NaN.
    value, gradient = run(make("gumbel", threshold=0.0), torch.full((2, C), -50.0), torch.tensor([0, C]))
    assert value.isfinite()
    assert gradient.isfinite().all()


# Background


def share_of(group: str) -> int:
    """One row in so many."""
    return {"rare": 100, "common": 10, "frequent": 1}[group]


@pytest.mark.parametrize("num_background", [0, 1, 9, 10, 57, 99, 100, 230, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_of_background_all_are_negatives_for_frequent_a_tenth_for_common_a_hundredth_for_rare(
    name: str, num_background: int
) -> None:
    logits, labels = batch([*FOREGROUND, *[C] * num_background])
    # Foreground and background in turn, as far as there is of each.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    logits, labels = logits[order], labels[order]
    value, gradient = run(make(name), logits, labels)
    is_class = (labels < C).unsqueeze(1)
    chosen = gradient != 0
    for column, group in enumerate(GROUPS):
        assert chosen[labels == C, column].sum() == num_background // share_of(group)
    weights = torch.where(is_class, ETA[name](logits) >= 0.7, chosen).to(torch.float64)
    check((value, gradient), weighted_negatives(name, logits, labels, weights))


@pytest.mark.parametrize("q", [-3.0, 3.0])
def test_of_background_any_score_counts(q: float) -> None:
    labels = torch.full((200,), C)
    _, gradient = run(make(), torch.full((200, C), q, dtype=torch.float64), labels)
    assert (gradient != 0).sum(0).tolist() == [200 // share_of(group) for group in GROUPS]


@pytest.mark.parametrize("at_once", [1, 7 * C, 10**6])
def test_however_many_rows_are_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    logits, labels = batch([*FOREGROUND, *[C] * 100])
    wanted = run(make(), logits, labels)
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    check(run(make(), logits, labels), wanted)


def test_background_is_drawn_anew_and_each_row_is_as_likely() -> None:
    rows, calls = 20, 500
    loss, labels = make(), torch.tensor([3, *[C] * rows])
    generator = torch.Generator().manual_seed(2)
    times = torch.zeros(rows)
    for _ in range(calls):
        gradient = torch.zeros(rows + 1, C)
        loss.per_sample_(gradient, labels, generator)
        times += gradient[1:, 1] != 0
    # Two of twenty rows, each with probability 1/10.
    assert times.sum() == 2 * calls
    deviation = math.sqrt(0.1 * 0.9 / calls)
    assert ((times / calls - 0.1).abs() <= 5.0 * deviation).all()


def test_groups_go_by_images_where_they_are_given() -> None:
    labels, logits = torch.full((300,), 3), torch.zeros(300, 3, dtype=torch.float64)
    counts = np.array([1000, 1000, 1000])
    loss = make(class_counts=counts, image_frequency=np.array([10, 100, 101]) / 7_777, num_images=7_777)
    _, gradient = run(loss, logits, labels)
    assert (gradient != 0).sum(0).tolist() == [3, 30, 300]


def test_frequencies_without_the_number_of_images_say_what_to_give() -> None:
    with pytest.raises(InputError, match="loss 'acsl' needs num_images"):
        losses.get("acsl", activation="sigmoid", background=True, image_frequency=np.array([0.5, 0.1]))


def test_no_counts_are_needed_without_background() -> None:
    logits, labels = batch(FOREGROUND)
    check(run(losses.get("acsl", activation="sigmoid"), logits, labels), run(make(background=False), logits, labels))
    with pytest.raises(InputError, match="loss 'acsl' needs class_counts"):
        losses.get("acsl", activation="sigmoid", background=True)


def test_a_background_row_has_no_column_and_scores_are_eta() -> None:
    logits, _ = batch(FOREGROUND)
    loss = make("gumbel")
    assert loss.num_columns(C) == C
    torch.testing.assert_close(loss.scores(logits), ETA["gumbel"](logits))


@pytest.mark.parametrize("value", [-1e-9, -0.7, 1.0, 1.5, math.nan])
def test_a_threshold_out_of_its_range_is_named(value: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss 'acsl': threshold = {value!r}")):
        make(threshold=value)
