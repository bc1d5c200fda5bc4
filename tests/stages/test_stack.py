"""Classifiers side by side in one set of tensors, against PyTorch's own SGD; and steps that are replayed."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from test_together import short
from torch import nn
from torch.nn import functional as F

from gol_decouple import activations, losses, methods
from gol_decouple.classifiers import as_tensors
from gol_decouple.methods import Method
from gol_decouple.stages.jobs import Job, Retrained, State, Weights
from gol_decouple.stages.replay import Replay
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.stack import Stack
from gol_decouple.stages.together import train_together
from tests.conftest import TRAINED

CPU = torch.device("cpu")
NUM_CLASSES, SIZE = 4, 6
# The last batch of an epoch is smaller; then the next one begins.
BATCH_SIZES = (5, 5, 3, 5)
LRS = (0.01, 0.003, 0.05)

# Batches of features [S, B, D] and labels [S, B].
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def method(activation: str, **settings: float | str | None) -> Method:
    return replace(methods.get("softmax"), activation=activation, batch_size=max(BATCH_SIZES), **settings)


def drawn(count: int, shared: bool) -> tuple[list[Weights], Batches]:
    """Starts of `count` classifiers, and batches: one for all, or one each."""
    draws = torch.Generator().manual_seed(count)
    starts = [
        (torch.randn(NUM_CLASSES, SIZE, generator=draws), torch.randn(NUM_CLASSES, generator=draws))
        for _ in range(count)
    ]
    own = 1 if shared else count
    batches = [
        (torch.randn(own, size, SIZE, generator=draws), torch.randint(NUM_CLASSES, (own, size), generator=draws))
        for size in BATCH_SIZES
    ]
    return starts, batches


def stack_of(starts: list[Weights], chosen: Method, device: torch.device = CPU) -> Stack:
    return Stack(starts, chosen, losses.get("cross_entropy", activation=chosen.activation), 64, device)


def weights_of(stack: Stack, position: int) -> Weights:
    return as_tensors(stack.classifier(position))


def step_all(stack: Stack, batches: Batches, lrs: tuple[float, ...]) -> None:
    device = stack.trained.device
    minus_lrs = -torch.tensor(lrs, device=device).unsqueeze(1)
    for x, labels in batches:
        stack.step(x.to(device), labels.to(device), minus_lrs)


def summed_loss(activation: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy written out, through autograd."""
    if activation == "softmax":
        return F.cross_entropy(logits, labels, reduction="sum")
    eta = activations.get(activation)
    one_hot = F.one_hot(labels, NUM_CLASSES)
    return -(one_hot * eta.log_prob(logits) + (1 - one_hot) * eta.log_complement(logits)).sum()


def by_pytorch(
    start: Weights, batches: Batches, position: int, lr: float, chosen: Method
) -> tuple[nn.Linear, torch.Tensor, float]:
    """The layer that torch.optim.SGD trains, its velocity as a stack has it, and the sum of all losses."""
    layer = nn.Linear(SIZE, NUM_CLASSES)
    layer.load_state_dict({"weight": start[0], "bias": start[1]})
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay)
    total = 0.0
    for x, labels in batches:
        own = position % len(x)
        loss = summed_loss(chosen.activation, layer(x[own]), labels[own])
        total += loss.item()
        optimizer.zero_grad()
        (loss / x.shape[1]).backward()
        if chosen.clip_norm is not None:
            nn.utils.clip_grad_norm_(layer.parameters(), chosen.clip_norm)
        optimizer.step()
    momenta = [optimizer.state[part].get("momentum_buffer") for part in layer.parameters()]
    if None in momenta:
        momenta = [part.grad + chosen.weight_decay * part.detach() for part in layer.parameters()]
    return layer, torch.cat([momentum.flatten() for momentum in momenta]), total


@pytest.mark.parametrize("activation", activations.names())
@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"momentum": 0.9, "weight_decay": 0.3},
        {"momentum": 0.9, "clip_norm": 0.2},
        {"momentum": 0.5, "weight_decay": 0.3, "clip_norm": 2.0},
        {"momentum": 0.5, "clip_norm": 1e6},
    ],
    ids=str,
)
@pytest.mark.parametrize(("count", "shared"), [(1, True), (3, True), (3, False)])
def test_steps_are_those_of_pytorchs_sgd(activation: str, settings: dict[str, float], count: int, shared: bool) -> None:
    chosen = method(activation, **settings)
    starts, batches = drawn(count, shared)
    stack = stack_of(starts, chosen)
    step_all(stack, batches, LRS[:count])
    for position, (start, lr) in enumerate(zip(starts, LRS, strict=False)):
        layer, velocity, total = by_pytorch(start, batches, position, lr, chosen)
        weight, bias = weights_of(stack, position)
        torch.testing.assert_close(weight, layer.weight.detach(), rtol=2e-5, atol=2e-6)
        torch.testing.assert_close(bias, layer.bias.detach(), rtol=2e-5, atol=2e-6)
        if settings["momentum"]:
            torch.testing.assert_close(stack.velocity[position], velocity, rtol=1e-4, atol=1e-5)
        assert stack.loss_sums[position].item() == pytest.approx(total, rel=1e-5)
    assert stack.finite() == [True] * count


def test_weights_are_a_copy() -> None:
    starts, batches = drawn(2, shared=True)
    stack = stack_of(starts, method("softmax"))
    before = weights_of(stack, 1)
    for part, start in zip(before, starts[1], strict=True):
        assert torch.equal(part, start)
    step_all(stack, batches, LRS[:2])
    for part, start in zip(before, starts[1], strict=True):
        assert torch.equal(part, start)
    assert not torch.equal(weights_of(stack, 1)[0], starts[1][0])


@pytest.mark.parametrize("kept", [[0], [2], [0, 2], [1, 2], []])
def test_what_is_kept_goes_on_as_it_was(kept: list[int]) -> None:
    chosen = method("gumbel", weight_decay=0.1)
    starts, batches = drawn(3, shared=True)
    whole, some = stack_of(starts, chosen), stack_of(starts, chosen)
    for stack in (whole, some):
        step_all(stack, batches, LRS)
    some.keep(kept)
    assert some.loss_sums.tolist() == [0.0] * len(kept)
    if not kept:
        assert some.finite() == []
        return
    whole.loss_sums.zero_()
    step_all(whole, batches, LRS)
    step_all(some, batches, tuple(LRS[position] for position in kept))
    for place, position in enumerate(kept):
        for part, wanted in zip(weights_of(some, place), weights_of(whole, position), strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(some.velocity, whole.velocity[kept], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(some.loss_sums, whole.loss_sums[kept], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["weight", "bias", "loss"])
def test_finite_tells_which_are(value: float, place: str) -> None:
    stack = stack_of(drawn(3, shared=True)[0], method("softmax"))
    assert stack.finite() == [True, True, True]
    if place == "loss":
        stack.loss_sums[1] = value
    else:
        stack.trained[1, 0 if place == "weight" else -1] = value
    assert stack.finite() == [True, False, True]


# Products in bfloat16


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_products_come_near_to_float32(gaussian_rows: InMemory, stage_one: Weights, name: str) -> None:
    jobs = [
        Job(short(name, precision=precision), seed, stage_one)
        for precision, seed in product(("float32", "bfloat16"), (0, 1))
    ]
    seen: list[State] = []
    results = dict(train_together(gaussian_rows, jobs, on_epoch=lambda states: seen.extend(one for _, one in states)))
    for exact, near in zip(jobs[:2], jobs[2:], strict=True):
        one, other = results[exact], results[near]
        assert isinstance(one, Retrained)
        assert isinstance(other, Retrained)
        pairs = [(one.classifier.tensors()[name], tensor) for name, tensor in other.classifier.tensors().items()]
        assert not all(torch.equal(wanted, found) for wanted, found in pairs)
        for wanted, found in pairs:
            torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)
        np.testing.assert_allclose(other.history[-1]["loss"], one.history[-1]["loss"], rtol=0.05, atol=0.02)
    for state in seen:
        for part in (state.trained, state.velocity):
            assert part.dtype is torch.float32
            assert not torch.equal(part, part.bfloat16().float()), "has digits that bfloat16 has not"


@pytest.mark.parametrize("activation", activations.names())
def test_only_the_products_are_rounded(activation: str) -> None:
    """Where features and weights are bfloat16 numbers, the logits are those of float32: so are losses and bias."""
    starts, batches = drawn(2, shared=True)
    starts = [(weight.bfloat16().float(), bias) for weight, bias in starts]
    x, labels = batches[0]
    stacks = []
    for dtype in (torch.float32, torch.bfloat16):
        stack = stack_of(starts, method(activation, momentum=0.0))
        # One feature at a time: a logit is then one product, with nothing summed.
        only = torch.zeros_like(x)
        only[..., 0] = 2.0
        stack.step(only.to(dtype), labels, -torch.tensor([[0.5], [0.25]]))
        stacks.append(stack)
    torch.testing.assert_close(stacks[1].loss_sums, stacks[0].loss_sums)
    for position in range(2):
        exact, near = (weights_of(stack, position) for stack in stacks)
        torch.testing.assert_close(near[1], exact[1])
        torch.testing.assert_close(near[0], exact[0], rtol=0.02, atol=0.02)


# Replay


def test_on_the_cpu_a_replay_calls_the_function_with_what_it_is_given() -> None:
    calls: list[tuple[torch.Tensor, ...]] = []
    replay = Replay(lambda *arguments: calls.append(arguments))
    given = [(torch.ones(2), torch.zeros(3)), (torch.ones(2), torch.ones(3)), (torch.ones(4), torch.zeros(3))]
    for arguments in given:
        replay(*arguments)
    assert [[id(one) for one in call] for call in calls] == [[id(one) for one in call] for call in given]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_cuda
def test_a_replay_works_on_the_values_of_each_call() -> None:
    total = torch.zeros(3, device="cuda")
    calls = []

    def add(x: torch.Tensor, factor: torch.Tensor) -> None:
        calls.append(len(x))
        total.add_((x * factor).sum(0))

    replay, wanted = Replay(add), torch.zeros(3)
    for number in range(12):
        x = torch.full((4 if number % 3 else 2, 3), float(number))
        factor = torch.tensor([float(number % 5)])
        replay(x.cuda(), factor.cuda())
        wanted += (x * factor).sum(0)
    torch.testing.assert_close(total.cpu(), wanted)
    assert calls == [2, 4, 4, 2], "each shape as it is, then for its recording"


@needs_cuda
@pytest.mark.parametrize("activation", activations.names())
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1, "clip_norm": 0.5}, {"precision": "bfloat16"}], ids=str)
def test_replayed_steps_are_plain_ones(
    monkeypatch: pytest.MonkeyPatch, activation: str, settings: dict[str, float | str]
) -> None:
    """Of three, and of the one that is kept."""
    chosen = method(activation, **settings)
    starts, drawn_batches = drawn(3, shared=False)
    batches = [(x.to(getattr(torch, chosen.precision)), labels) for x, labels in drawn_batches * 4]

    def trained() -> list[torch.Tensor]:
        stack = stack_of(starts, chosen, torch.device("cuda"))
        step_all(stack, batches, LRS)
        three = [part.clone() for part in (stack.trained, stack.velocity, stack.loss_sums)]
        stack.keep([2])
        step_all(stack, [(x[2:], labels[2:]) for x, labels in batches], LRS[2:])
        return [*three, stack.trained, stack.velocity, stack.loss_sums]

    replayed = trained()
    monkeypatch.setattr(Replay, "__call__", lambda self, *arguments: self._function(*arguments))
    for part, wanted in zip(replayed, trained(), strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-6)
