"""EQLv2 over several batches against an oracle that keeps the gradients itself, in float64 autograd."""

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
from gol_decouple.losses import terms
from tests.losses.oracle import ETA, NAMES, check, run

C = 5

Batch = tuple[torch.Tensor, torch.Tensor]


def make(activation: str = "sigmoid", background: bool = False, **params: Any) -> losses.Loss:
    return losses.get(
        "eqlv2", activation=activation, class_counts=np.array([50, 20, 8, 3, 1]), background=background, **params
    )


def batches(background: bool, count: int = 4, rows: int = 24) -> list[Batch]:
    """Class 0 most often, class 4 never; with background, half the rows are of it and there is a column more."""
    stream = torch.Generator().manual_seed(4)
    shares = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0, 15.0 * background])
    made = []
    for _ in range(count):
        labels = torch.multinomial(shares, rows, replacement=True, generator=stream)
        logits = 1.5 * torch.randn(rows, C + background, generator=stream, dtype=torch.float64)
        made.append((logits.clamp(min=-3.4), labels))
    return made


class Oracle:
    """Equations 6 to 9: f(g) = 1/(1 + e^(-gamma (g - mu))), positives 1 + alpha (1 - f(g)), negatives f(g)."""

    def __init__(
        self, activation: str, background: bool, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0
    ) -> None:
        self.eta, self.background = ETA[activation], background
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.positive = self.negative = torch.zeros(C, dtype=torch.float64)
        self.first = True

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of positives and negatives, [C]."""
        if self.first:
            return torch.ones(C, dtype=torch.float64), torch.ones(C, dtype=torch.float64)
        ratio = self.positive / (self.negative + 1e-10)
        f = 1.0 / (1.0 + torch.exp(-self.gamma * (ratio - self.mu)))
        return 1.0 + self.alpha * (1.0 - f), f

    def __call__(self, batch: Batch, training: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        q, labels = batch[0].clone().requires_grad_(True), batch[1]
        y = F.one_hot(labels, C + self.background).to(torch.float64)
        of_positives, of_negatives = self.weights()
        if self.background:
            of_positives, of_negatives = (F.pad(w, (0, 1), value=1.0) for w in (of_positives, of_negatives))
        eta = self.eta(q)
        costs = -y * of_positives * torch.log(eta) - (1.0 - y) * of_negatives * torch.log(1.0 - eta)
        costs.sum().backward()
        assert q.grad is not None
        if training:
            self.positive = self.positive + (y * q.grad).abs().sum(0)[:C]
            self.negative = self.negative + ((1.0 - y) * q.grad).abs().sum(0)[:C]
            self.first = False
        return costs.detach().sum() / len(labels), q.grad / len(labels)


@pytest.mark.parametrize("params", [{}, {"gamma": 2.0, "mu": 0.1, "alpha": 1.5}, {"alpha": 0.0}, {"mu": -0.3}])
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_several_batches_in_a_row(name: str, background: bool, params: dict[str, float]) -> None:
    loss, oracle = make(name, background, **params), Oracle(name, background, **params)
    for batch in batches(background):
        check(run(loss, *batch), oracle(batch))


@pytest.mark.parametrize("at_once", [1, 11, 30])
@pytest.mark.parametrize("background", [False, True])
def test_gradients_are_collected_however_many_rows_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, background: bool, at_once: int
) -> None:
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    loss, oracle = make("sigmoid", background), Oracle("sigmoid", background)
    for batch in batches(background):
        check(run(loss, *batch), oracle(batch))


def test_two_batches_by_hand() -> None:
    # Sigmoid at q = 0: every term is log 2 and every slope 1/2. First batch, labels 0, 0, 1, all weights 1: class 0 has
    # had 2/2 as positives and 1/2 as negatives, class 1 the reverse, so g = 2 and 1/2; f(2) = 1/(1 + e^-14.4) and
    # f(1/2) = 1/(1 + e^3.6). Second batch, label 1: log 2 times 1 + 4 (1 - f(1/2)) + f(2).
    counts = np.array([2, 1])
    loss = losses.get("eqlv2", activation="sigmoid", class_counts=counts)
    value, gradient = run(loss, *(torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 0, 1])))
    assert value.item() == pytest.approx(2.0 * math.log(2.0), rel=1e-12)
    assert gradient[2].tolist() == pytest.approx([1 / 6, -1 / 6], rel=1e-12)
    f0, f1 = 1.0 / (1.0 + math.exp(-14.4)), 1.0 / (1.0 + math.exp(3.6))
    value, gradient = run(loss, *(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1])))
    assert value.item() == pytest.approx(math.log(2.0) * (1.0 + 4.0 * (1.0 - f1) + f0), rel=1e-9)
    assert gradient[0].tolist() == pytest.approx([f0 / 2.0, -(1.0 + 4.0 * (1.0 - f1)) / 2.0], rel=1e-9)
    # Third batch, label 0. The second added, as weighted, f(2)/2 to the negatives of 0 and (1 + 4 (1 - f(1/2)))/2 to
    # the positives of 1: g_0 = 1 / (1/2 + f0/2), g_1 = 1/2 + (1 + 4 (1 - f1))/2.
    g0, g1 = 1.0 / (0.5 + f0 / 2.0), 0.5 + (1.0 + 4.0 * (1.0 - f1)) / 2.0
    f0, f1 = (1.0 / (1.0 + math.exp(-12.0 * (g - 0.8))) for g in (g0, g1))
    value, _ = run(loss, *(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])))
    assert value.item() == pytest.approx(math.log(2.0) * (1.0 + 4.0 * (1.0 - f0) + f1), rel=1e-9)


def test_background_by_hand() -> None:
    # Sigmoid at q = 0; columns class 0, class 1, background. First batch, labels 0 and background (2): 6 terms of log 2
    # over 2 rows. Class 0 has had 1/2 as positive and 1/2 as negative (of the background row), class 1 none and 1. So
    # g = 1 and 0: f(1) = 1/(1 + e^-2.4), f(0) = 1/(1 + e^9.6). Second batch, a background row: f(1) + f(0) + 1.
    counts = np.array([2, 1])
    loss = losses.get("eqlv2", activation="sigmoid", class_counts=counts, background=True)
    value, _ = run(loss, *(torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0, 2])))
    assert value.item() == pytest.approx(3.0 * math.log(2.0), rel=1e-12)
    f0, f1 = 1.0 / (1.0 + math.exp(-2.4)), 1.0 / (1.0 + math.exp(9.6))
    value, gradient = run(loss, *(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([2])))
    assert value.item() == pytest.approx(math.log(2.0) * (f0 + f1 + 1.0), rel=1e-8)
    assert gradient[0].tolist() == pytest.approx([f0 / 2.0, f1 / 2.0, -0.5], rel=1e-8)


@pytest.mark.parametrize("params", [{}, {"gamma": 0.02}, {"gamma": 12.0, "mu": 100.5}])
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_batch_is_plain_cross_entropy(name: str, background: bool, params: dict[str, float]) -> None:
    logits, labels = batches(background)[0]
    q = logits.clone().requires_grad_(True)
    y = F.one_hot(labels, C + background).to(torch.float64)
    eta = ETA[name](q)
    wanted = -(y * torch.log(eta) + (1.0 - y) * torch.log(1.0 - eta)).sum(1).mean()
    wanted.backward()
    assert q.grad is not None
    check(run(make(name, background, **params), *(logits, labels)), (wanted.detach(), q.grad))


@pytest.mark.parametrize("name", NAMES)
def test_plain_without_alpha_and_with_mu_below_every_ratio(name: str) -> None:
    loss = make(name, alpha=0.0, mu=-1e6)
    plain = Oracle(name, background=False)
    for batch in batches(False):
        check(run(loss, *batch), plain(batch, training=False))


def test_neither_positives_nor_gradients_of_the_objectness_column_are_collected() -> None:
    loss = make(background=True)
    run(loss, *batches(True)[0])
    state = loss.state_dict()
    assert state
    assert all(tensor.shape == (C,) for tensor in state.values())


@pytest.mark.parametrize("name", NAMES)
def test_columns_and_scores(name: str) -> None:
    logits = batches(True)[0][0]
    eta = ETA[name](logits)
    loss = make(name, background=True)
    assert loss.num_columns(C) == C + 1
    torch.testing.assert_close(loss.scores(logits), eta[:, :C] * (1.0 - eta[:, C:]))
    assert torch.equal(loss.ranking(logits).argsort(1), loss.scores(logits).argsort(1))
    loss = make(name)
    assert loss.num_columns(C) == C
    torch.testing.assert_close(loss.scores(logits[:, :C]), eta[:, :C])


@pytest.mark.parametrize("background", [False, True])
def test_evaluation_uses_the_state_and_leaves_it(background: bool) -> None:
    loss, oracle = make("gumbel", background), Oracle("gumbel", background)
    first, second, third, fourth = batches(background)
    loss.eval()
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    check(run(loss, *first), oracle(first, training=False))
    assert all(torch.equal(loss.state_dict()[key], tensor) for key, tensor in before.items())
    loss.train()
    check(run(loss, *first), oracle(first))
    check(run(loss, *second), oracle(second))
    loss.eval()
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    check(run(loss, *third), oracle(third, training=False))
    assert all(torch.equal(loss.state_dict()[key], tensor) for key, tensor in before.items())
    loss.train()
    check(run(loss, *fourth), oracle(fourth))


@pytest.mark.parametrize("background", [False, True])
def test_goes_on_alike_from_its_state(background: bool) -> None:
    loss, again = make("gumbel", background), make("gumbel", background)
    first, second, third, fourth = batches(background)
    run(loss, *first)
    run(loss, *second)
    again.load_state_dict({key: tensor.clone() for key, tensor in loss.state_dict().items()})
    fresh = run(make("gumbel", background), *third)
    for batch in (third, fourth):
        wanted, got = run(loss, *batch), run(again, *batch)
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])
        assert not torch.equal(got[0], fresh[0])


def test_collected_in_float64_from_float32_logits() -> None:
    # 2^24 + 1 is no float32. Sigmoid at 0: each row adds 1/2 to class 0.
    loss = losses.get("eqlv2", activation="sigmoid", class_counts=np.array([1, 1]))
    state = {key: torch.full_like(tensor, 2.0**25) for key, tensor in loss.state_dict().items()}
    loss.load_state_dict(state)
    run(loss, *(torch.zeros(1, 2), torch.tensor([0])))
    for tensor in loss.state_dict().values():
        assert (tensor > 2.0**25).sum() == 1


@pytest.mark.parametrize(("parameter", "value"), [("alpha", -1e-9), ("alpha", -4.0), ("alpha", math.nan)])
def test_a_parameter_out_of_its_range_is_named(parameter: str, value: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss 'eqlv2': {parameter} = {value!r}")):
        make(**{parameter: value})
