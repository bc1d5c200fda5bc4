"""Balanced group softmax against softmaxes written out in float64 autograd."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError
from tests.losses.oracle import check, run

# Groups under 10, 10 to 99, 100 to 999, from 1000, with members that do not stand side by side.
COUNTS = np.array([1000, 9, 10, 999, 1, 100, 5000, 99])
GROUPS = ((1, 4), (2, 7), (3, 5), (0, 6))
C = len(COUNTS)
ALL = 1e9  # a ratio with which all others count

Drawn = dict[int, torch.Tensor]


def make(background: bool = False, counts: np.ndarray = COUNTS, **params: Any) -> losses.Loss:
    return losses.get("bags", activation="softmax", class_counts=counts, background=background, **params)


def batch(labels: Sequence[int], background: bool, seed: int = 0, columns: int = C + 4) -> tuple[torch.Tensor, ...]:
    stream = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(len(labels), columns + 2 * background, generator=stream, dtype=torch.float64)
    return logits, torch.tensor(labels)


def oracle(
    logits: torch.Tensor, labels: torch.Tensor, background: bool, selected: Drawn | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over groups of the mean -log softmax over the rows selected of each; None: over all, where it has its own."""
    z = logits.clone().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    for number, members in enumerate(GROUPS):
        own = torch.tensor([label in members for label in labels.tolist()])
        rows = selected[number] if selected else torch.full_like(own, bool(own.any()))
        exp = torch.exp(z[:, [*members, C + number]])
        place = [members.index(label) if label in members else len(members) for label in labels.tolist()]
        cost = -torch.log(exp[torch.arange(len(labels)), place] / exp.sum(1))
        if rows.any():
            total = total + cost[rows].sum() / rows.sum()
    if background:
        exp = torch.exp(z[:, -2:])
        right = torch.where(labels < C, exp[:, 0], exp[:, 1])
        total = total - torch.log(right / exp.sum(1)).mean()
    total.backward()
    assert z.grad is not None
    return total.detach(), z.grad


# The loss with all others: nothing is left to chance


@pytest.mark.parametrize("ratio", [ALL, 1e6, 100.0])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5, 6, 7, 0, 6, 6, 3], [0, 6, 6, 3, 0], [4], [1, 4, 1]])
def test_all_others(labels: list[int], ratio: float) -> None:
    logits, target = batch(labels, background=False)
    check(run(make(ratio=ratio), logits, target), oracle(logits, target, background=False))


@pytest.mark.parametrize("ratio", [ALL, 1e6])
@pytest.mark.parametrize("labels", [[0, 1, C, 2, 3, C, C, 4, 5, 6, 7, C, 0], [C, 6, C, 3, 0], [4], [C, C, C]])
def test_all_others_with_background(labels: list[int], ratio: float) -> None:
    logits, target = batch(labels, background=True)
    check(run(make(background=True, ratio=ratio), logits, target), oracle(logits, target, background=True))


def test_by_hand() -> None:
    # Two groups: class 0 (5000), with others a softmax over 2; classes 1 and 2 (5 each), with others over 3. Labels 0
    # and 1 at z = 0, all others taken: log 2 + log 3. With background, over all rows: log 2 more.
    counts = np.array([5000, 5, 5])
    labels = torch.tensor([0, 1])
    value, gradient = run(make(counts=counts), torch.zeros(2, 5, dtype=torch.float64), labels)
    assert value.item() == pytest.approx(math.log(6.0), rel=1e-12)
    # Columns: classes 0, 1, 2; others of the smaller classes' group; others of the larger's.
    wanted = [[-1 / 4, 1 / 6, 1 / 6, -1 / 3, 1 / 4], [1 / 4, -1 / 3, 1 / 6, 1 / 6, -1 / 4]]
    torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))
    loss = make(background=True, counts=counts)
    value, gradient = run(loss, torch.zeros(2, 7, dtype=torch.float64), labels)
    assert value.item() == pytest.approx(math.log(12.0), rel=1e-12)
    wanted = [[*row, -1 / 4, 1 / 4] for row in wanted]
    torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))


def test_a_group_without_rows_of_its_own_learns_nothing() -> None:
    logits, labels = batch([0, 6, C, C, 0], background=True)
    for ratio in (0.0, 0.5, 8.0, ALL):
        _, gradient = run(make(background=True, ratio=ratio), logits, labels)
        for number, members in enumerate(GROUPS[:3]):
            assert gradient[:, [*members, C + number]].eq(0).all()
        assert gradient[:, [*GROUPS[3], C + 3]].ne(0).any()


def test_background_alone_teaches_objectness_alone() -> None:
    logits, labels = batch([C] * 6, background=True)
    value, gradient = run(make(background=True), logits, labels)
    torch.testing.assert_close(value, -torch.log_softmax(logits[:, -2:], 1)[:, 1].mean())
    assert gradient[:, :-2].eq(0).all()


# The draws


def selected_rows(gradient: torch.Tensor) -> Drawn:
    """Of each group the rows that have a gradient: in all of its columns, or in none."""
    found = {}
    for number, members in enumerate(GROUPS):
        part = gradient[:, [*members, C + number]] != 0
        assert torch.equal(part.any(1), part.all(1))
        found[number] = part.any(1)
    return found


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("background", [False, True])
def test_up_to_ratio_times_as_many_others_as_rows_of_its_own(background: bool, ratio: float) -> None:
    labels = [*[0] * 30, *[6] * 10, 1, 4, 4, *[2] * 7, 3, *[C] * (40 * background)]
    for seed in range(3):
        logits, target = batch(labels, background, seed)
        value, gradient = run(make(background, ratio=ratio), logits, target, seed)
        selected = selected_rows(gradient)
        for number, own in enumerate((3, 7, 1, 40)):
            is_own = torch.tensor([label in GROUPS[number] for label in labels])
            assert is_own.sum() == own
            assert selected[number][is_own].all()
            assert selected[number][~is_own].sum() == min(math.floor(ratio * own), len(labels) - own)
        check((value, gradient), oracle(logits, target, background, selected))


def test_eight_others_by_default() -> None:
    logits, labels = batch([1, *[0] * 30], background=False)
    assert selected_rows(run(make(), logits, labels)[1])[0].sum() == 9


def test_others_are_drawn_anew_and_each_is_as_likely() -> None:
    calls, labels = 400, torch.tensor([1, *[0] * 5, *[C] * 5])
    loss, generator = make(background=True, ratio=3.0), torch.Generator().manual_seed(2)
    times = torch.zeros(10)
    for _ in range(calls):
        gradient = torch.zeros(11, C + 6)
        loss.per_sample_(gradient, labels, generator)
        times += gradient[1:, 1] != 0
    # Three of ten.
    assert times.sum() == 3 * calls
    deviation = math.sqrt(0.3 * 0.7 / calls)
    assert ((times / calls - 0.3).abs() <= 5.0 * deviation).all()


# Columns, scores and ranking


def test_the_number_of_columns() -> None:
    assert make().num_columns(C) == C + 4
    assert make(background=True).num_columns(C) == C + 6
    assert make(edges=(100,)).num_columns(C) == C + 2
    # Only two of the four bins have classes.
    assert make(counts=np.array([5, 2000, 3])).num_columns(3) == 3 + 2
    assert make(counts=np.array([5, 2000, 3]), background=True).num_columns(3) == 3 + 4
    # One group has no others, but where there is background.
    assert make(counts=np.array([50, 20, 30])).num_columns(3) == 3
    assert make(counts=np.array([50, 20, 30]), background=True).num_columns(3) == 3 + 3
    assert make(edges=()).num_columns(C) == C
    assert make(edges=(), background=True).num_columns(C) == C + 3


def scores_of(logits: torch.Tensor, background: bool) -> torch.Tensor:
    exp, scores = torch.exp(logits), torch.zeros(len(logits), C, dtype=logits.dtype)
    for number, members in enumerate(GROUPS):
        part = exp[:, [*members, C + number]]
        scores[:, list(members)] = part[:, :-1] / part.sum(1, keepdim=True)
    return scores * (exp[:, -2:-1] / exp[:, -2:].sum(1, keepdim=True)) if background else scores


@pytest.mark.parametrize("background", [False, True])
def test_scores_are_those_within_the_groups_times_that_of_foreground(background: bool) -> None:
    logits, _ = batch([0] * 50, background)
    before = logits.clone()
    loss = make(background)
    torch.testing.assert_close(loss.scores(logits), scores_of(logits, background))
    assert torch.equal(loss.ranking(logits).argsort(1), scores_of(logits, background).argsort(1))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("background", [False, True])
def test_the_ranking_does_not_underflow(background: bool, dtype: torch.dtype) -> None:
    # Others far above every class, and background far above foreground: all scores are 0, the order is still there.
    logits = torch.zeros(1, C + 4 + 2 * background)
    logits[0, :C] = torch.tensor([-320.0, -250.0, -300.0, -310.0, -280.0, -270.0, -260.0, -290.0])
    if background:
        logits[0, -2:] = torch.tensor([-500.0, 0.0])
    logits = logits.to(dtype)
    loss = make(background)
    assert loss.scores(logits).eq(0).all()
    ranking = loss.ranking(logits)
    assert ranking.isfinite().all()
    assert ranking.argsort(1).tolist() == [[0, 3, 2, 7, 4, 5, 6, 1]]


def test_the_ranking_is_by_the_scores_and_not_by_the_logits() -> None:
    # Class 0 has the larger logit, but less than the others of its group; class 1 the smaller, but more than its.
    logits = torch.tensor([[3.0, 0.0, -9.0, -4.0, 6.0]])  # classes 0, 1, 2; others of (1, 2); others of (0)
    loss = make(counts=np.array([5000, 5, 5]))
    assert loss.ranking(logits).argmax(1).item() == 1
    assert loss.scores(logits).argmax(1).item() == 1


@pytest.mark.parametrize(("counts", "edges"), [(COUNTS, ()), (np.array([100, 999, 500, 100]), (10, 100, 1000))])
def test_one_group_is_plain_softmax(counts: np.ndarray, edges: tuple[int, ...]) -> None:
    num_classes = len(counts)
    logits, labels = batch([0, 3, 2, 1, 1, 0], background=False, columns=num_classes)
    z = logits.clone().requires_grad_(True)
    wanted = F.cross_entropy(z, labels)
    wanted.backward()
    assert z.grad is not None
    loss = make(counts=counts, edges=edges)
    check(run(loss, logits, labels), (wanted.detach(), z.grad))
    torch.testing.assert_close(loss.scores(logits), logits.softmax(1))
    assert torch.equal(loss.ranking(logits).argsort(1), logits.argsort(1))


def test_edges_may_be_a_list_and_are_10_100_and_1000_by_default() -> None:
    logits, labels = batch([0, 1, 2, 3, 4, 5, 6, 7], background=False)
    check(run(make(edges=[10, 100, 1000]), logits, labels), run(make(), logits, labels))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *[("edges", value) for value in ((100, 10), (10, 10), [10, 1000, 100])],
        *[("ratio", value) for value in (-1e-9, -8.0, math.nan)],
    ],
)
def test_a_parameter_out_of_its_range_is_named(parameter: str, value: float | Sequence[int]) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss 'bags': {parameter} = {value!r}")):
        make(**{parameter: value})
