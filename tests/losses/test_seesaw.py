"""Seesaw loss against its equations in float64 autograd, over several batches."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError
from tests.losses.oracle import check, run

C = 5

Batch = tuple[torch.Tensor, torch.Tensor]


def make(background: bool = False, num_classes: int = C, **params: Any) -> losses.Loss:
    """Seesaw counts by itself: the counts given here, all alike, must not matter."""
    counts = np.full(num_classes, 7)
    return losses.get("seesaw", activation="softmax", class_counts=counts, background=background, **params)


def batches(background: bool, count: int = 4, rows: int = 24, scale: float = 2.5) -> list[Batch]:
    """Class 0 most often, class 4 never; with background, half the rows are of it and there are two columns more."""
    stream = torch.Generator().manual_seed(6)
    shares = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0, 15.0 * background])
    made = []
    for _ in range(count):
        labels = torch.multinomial(shares, rows, replacement=True, generator=stream)
        logits = scale * torch.randn(rows, C + 2 * background, generator=stream, dtype=torch.float64)
        made.append((logits, labels))
    return made


class Oracle:
    """Equations 4 to 7, written for each pair of label i and class j."""

    def __init__(self, background: bool, p: float = 0.8, q: float = 2.0, eps: float = 0.01) -> None:
        self.background, self.p, self.q, self.eps = background, p, q, eps
        self.counts = [0] * C

    def factor(self, i: int, j: int, scores: list[float]) -> float:
        n_i, n_j = max(self.counts[i], 1), max(self.counts[j], 1)
        mitigation = (n_j / n_i) ** self.p if n_j < n_i else 1.0
        s_i = max(scores[i], self.eps)
        compensation = (scores[j] / s_i) ** self.q if scores[j] > s_i else 1.0
        return mitigation * compensation

    def __call__(self, batch: Batch, training: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        z, labels = batch[0].clone().requires_grad_(True), batch[1].tolist()
        if training:
            for label in labels:
                if label < C:
                    self.counts[label] += 1
        total = torch.zeros((), dtype=torch.float64)
        for row, i in zip(z, labels, strict=True):
            if self.background:
                foreground, background = torch.exp(row[C]), torch.exp(row[C + 1])
                total = total - torch.log((foreground if i < C else background) / (foreground + background))
            if i < C:
                exp = torch.exp(row[:C])
                scores = (exp / exp.sum()).tolist()  # constants
                others = [self.factor(i, j, scores) * exp[j] for j in range(C) if j != i]
                total = total - torch.log(exp[i] / (exp[i] + torch.stack(others).sum()))
        total = total / len(labels)
        total.backward()
        assert z.grad is not None
        return total.detach(), z.grad


@pytest.mark.parametrize(
    "params",
    [{}, {"p": 0.0}, {"q": 0.0}, {"p": 1.7, "q": 0.6}, {"eps": 0.2}, {"eps": 1.0}, {"eps": 1e-8}],
)
@pytest.mark.parametrize("background", [False, True])
def test_several_batches_in_a_row(background: bool, params: dict[str, float]) -> None:
    loss, oracle = make(background, **params), Oracle(background, **params)
    for batch in batches(background):
        check(run(loss, *batch), oracle(batch))
    assert oracle.counts[C - 1] == 0


def test_mitigation_by_hand() -> None:
    # Labels 0, 0, 0, 1 at z = 0: N = 3 and 1 scores alike. Label 0: log(1 + (1/3)^0.8), label 1: log 2.
    loss = make(num_classes=2)
    batch = (torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1]))
    value, gradient = run(loss, *batch)
    m = (1.0 / 3.0) ** 0.8
    assert value.item() == pytest.approx((3.0 * math.log(1.0 + m) + math.log(2.0)) / 4.0, rel=1e-12)
    assert gradient[0].tolist() == pytest.approx([-m / (1.0 + m) / 4.0, m / (1.0 + m) / 4.0], rel=1e-12)
    # A second batch of four with label 1: N = 3 and 5, so (3/5)^0.8. Then one of label 0: N = 4 and 5, so nothing.
    value, _ = run(loss, *(batch[0], torch.ones(4, dtype=torch.int64)))
    assert value.item() == pytest.approx(math.log(1.0 + 0.6**0.8), rel=1e-12)
    value, _ = run(loss, *(batch[0][:1], torch.tensor([0])))
    assert value.item() == pytest.approx(math.log(2.0), rel=1e-12)


def test_compensation_by_hand() -> None:
    # One row of label 0, z = 0 and log 3: N = 1 for both (class 1, without samples, counts as one). Scores 1/4 and 3/4:
    # C = 3^2, so log(1 + 9 * 3).
    batch = (torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64), torch.tensor([0]))
    value, gradient = run(make(num_classes=2), *batch)
    assert value.item() == pytest.approx(math.log(28.0), rel=1e-12)
    assert gradient[0].tolist() == pytest.approx([-27.0 / 28.0, 27.0 / 28.0], rel=1e-12)
    # z = 0 and log 999: scores 1/1000 and 0.999, of the former 0.01 is counted: C = 99.9^2.
    batch = (torch.tensor([[0.0, math.log(999.0)]], dtype=torch.float64), torch.tensor([0]))
    value, _ = run(make(num_classes=2), *batch)
    assert value.item() == pytest.approx(math.log(1.0 + 99.9**2 * 999.0), rel=1e-12)
    # A label that is scored highest is not compensated for.
    batch = (torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64), torch.tensor([0]))
    value, _ = run(make(num_classes=2), *batch)
    assert value.item() == pytest.approx(math.log(4.0 / 3.0), rel=1e-12)


def test_background_by_hand() -> None:
    # z = 0 everywhere, labels 0 and background (2): objectness is log 2 in both rows, and label 0's classes log 2 (one
    # sample of each class is counted). 3 log 2 over two rows; the background row's classes have no gradient.
    loss = make(background=True, num_classes=2)
    value, gradient = run(loss, *(torch.zeros(2, 4, dtype=torch.float64), torch.tensor([0, 2])))
    assert value.item() == pytest.approx(1.5 * math.log(2.0), rel=1e-12)
    wanted = [[-0.25, 0.25, -0.25, 0.25], [0.0, 0.0, 0.25, -0.25]]
    torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))


def test_plain_without_p_and_q() -> None:
    loss = make(p=0.0, q=0.0)
    for logits, labels in batches(False):
        z = logits.clone().requires_grad_(True)
        wanted = F.cross_entropy(z, labels)
        wanted.backward()
        assert z.grad is not None
        check(run(loss, *(logits, labels)), (wanted.detach(), z.grad))


def test_the_given_counts_do_not_matter() -> None:
    counts = np.array([1000, 100, 10, 1, 1])
    loss, oracle = losses.get("seesaw", activation="softmax", class_counts=counts), Oracle(False)
    for batch in batches(False):
        check(run(loss, *batch), oracle(batch))


def test_a_batch_of_background_alone_teaches_objectness_alone() -> None:
    loss = make(background=True)
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    logits = batches(True)[0][0]
    value, gradient = run(loss, *(logits, torch.full((len(logits),), C)))
    wanted = -torch.log_softmax(logits[:, C:], 1)[:, 1].mean()
    torch.testing.assert_close(value, wanted)
    assert gradient[:, :C].eq(0).all()
    assert before
    assert all(torch.equal(loss.state_dict()[key], tensor) for key, tensor in before.items())


def test_large_logits_are_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 3.0]])
    value, gradient = run(make(num_classes=3), *(logits, torch.tensor([1, 0])))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_columns_and_scores() -> None:
    logits = batches(True)[0][0]
    exp = torch.exp(logits)
    classes = exp[:, :C] / exp[:, :C].sum(1, keepdim=True)
    loss = make(background=True)
    assert loss.num_columns(C) == C + 2
    torch.testing.assert_close(loss.scores(logits), classes * exp[:, C : C + 1] / exp[:, C:].sum(1, keepdim=True))
    assert torch.equal(loss.ranking(logits).argsort(1), loss.scores(logits).argsort(1))
    loss = make()
    assert loss.num_columns(C) == C
    torch.testing.assert_close(loss.scores(logits[:, :C]), classes)


@pytest.mark.parametrize("background", [False, True])
def test_evaluation_uses_the_state_and_leaves_it(background: bool) -> None:
    loss, oracle = make(background), Oracle(background)
    first, second, third, fourth = batches(background)
    check(run(loss, *first), oracle(first))
    check(run(loss, *second), oracle(second))
    loss.eval()
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    check(run(loss, *third), oracle(third, training=False))
    assert before
    assert all(torch.equal(loss.state_dict()[key], tensor) for key, tensor in before.items())
    loss.train()
    check(run(loss, *fourth), oracle(fourth))


@pytest.mark.parametrize("background", [False, True])
def test_goes_on_alike_from_its_state(background: bool) -> None:
    loss, again = make(background), make(background)
    first, second, third, fourth = batches(background)
    run(loss, *first)
    run(loss, *second)
    again.load_state_dict({key: tensor.clone() for key, tensor in loss.state_dict().items()})
    fresh = run(make(background), *third)
    for batch in (third, fourth):
        wanted, got = run(loss, *batch), run(again, *batch)
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])
        assert not torch.equal(got[0], fresh[0])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *[(name, value) for name in ("p", "q") for value in (-1e-9, -2.0, math.nan)],
        *[("eps", value) for value in (0.0, -0.01, 1.01, math.nan)],
    ],
)
def test_a_parameter_out_of_its_range_is_named(parameter: str, value: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss 'seesaw': {parameter} = {value!r}")):
        make(**{parameter: value})
