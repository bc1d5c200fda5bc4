"""What holds for every loss on every activation it goes with; a new loss is covered by being listed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gol_decouple import activations, losses
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss

# Rare, common and frequent classes, and all groups of BAGS.
COUNTS = np.array([2400, 700, 150, 60, 30, 9, 3])
NUM_CLASSES, NUM_SAMPLES = len(COUNTS), 24


def make(activation: str, name: str, background: bool = False, **params: Any) -> Loss:
    return losses.get(name, activation=activation, class_counts=COUNTS, background=background, **params)


def batch(loss: Loss, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, columns] where no activation is continued by a tangent or cut, and labels."""
    draws = torch.Generator().manual_seed(seed)
    columns = loss.num_columns(NUM_CLASSES)
    logits = (1.5 * torch.randn(NUM_SAMPLES, columns, generator=draws, dtype=torch.float64)).clamp(-2.9, 6.0)
    labels = torch.randint(NUM_CLASSES + loss.background, (NUM_SAMPLES,), generator=draws)
    return logits.to(dtype), labels


def draws(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["acsl", "drop"])
def test_without_background_there_is_nothing_to_draw(name: str) -> None:
    assert make("sigmoid", name, background=True).random
    loss = make("sigmoid", name)
    assert loss.independent
    assert not loss.random


def makes_draws(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether draws change the loss of a batch: without background, some losses have nothing to draw."""
    return loss.random and not torch.equal(loss(logits, labels, draws(1)), loss(logits, labels, draws(2)))


def cases(*, drawing: bool = True) -> list[tuple[str, str, bool]]:
    """Each pair without background, and with it where it takes it; all, or those whose draws change nothing."""
    found = []
    for activation, name in losses.pairs():
        for background in (False, True):
            if background and activation not in make(activation, name).with_background:
                continue
            loss = make(activation, name, background).eval()
            if drawing or not makes_draws(loss, *batch(loss)):
                found.append((activation, name, background))
    return found


def parametrized(of: list[tuple[str, str, bool]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("activation", "name", "background"), of)


EVERY_PAIR = pytest.mark.parametrize(("activation", "name"), losses.pairs())
EVERY_CASE = parametrized(cases())
WITHOUT_DRAWS = parametrized(cases(drawing=False))


def value_and_gradient(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_(True)
    value = loss(logits, labels, draws())
    value.backward()
    return value.detach(), logits.grad


@EVERY_CASE
def test_per_sample_is_what_the_mean_is_of(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background).eval()
    logits, labels = batch(loss)
    value, gradient = value_and_gradient(loss, logits, labels)
    per_sample = loss.per_sample_(logits, labels, draws())
    assert per_sample.shape == (NUM_SAMPLES,)
    torch.testing.assert_close(per_sample.mean(), value)
    torch.testing.assert_close(logits / NUM_SAMPLES, gradient)


@EVERY_CASE
def test_gradient_agrees_with_finite_differences(
    monkeypatch: pytest.MonkeyPatch, activation: str, name: str, background: bool
) -> None:
    loss = make(activation, name, background).eval()
    logits, labels = batch(loss)
    if loss.held_constant is not None:
        monkeypatch.setattr(loss, loss.held_constant, held(getattr(loss, loss.held_constant)))
    assert torch.autograd.gradcheck(lambda q: loss(q, labels, draws()), (logits.requires_grad_(True),))


def held(function: Callable[..., Any]) -> Callable[..., Any]:
    """What it gave first, for ever; of a function that it gave, the same."""
    known: list[Any] = []

    def first(*arguments: Any) -> Any:
        if not known:
            result = function(*arguments)
            known.append(held(result) if callable(result) else result)
        return known[0]

    return first


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_at_large_logits_and_gradient_in_the_logits_dtype(
    activation: str, name: str, background: bool, dtype: torch.dtype
) -> None:
    loss = make(activation, name, background)
    most = 6e4 if dtype is torch.float16 else 1e6
    rows = torch.tensor([most, -most, 0.0, 30.0, -30.0, 3.0, -3.0])
    columns = loss.num_columns(NUM_CLASSES)
    values = torch.stack([rows.roll(shift).repeat(2)[:columns] for shift in range(7)]).repeat(2, 1).to(dtype)
    logits = values.requires_grad_(True)
    labels = torch.cat([torch.arange(7), torch.full((7,), NUM_CLASSES if background else 0)])
    for _ in range(3):  # states see such gradients too
        logits.grad = None
        value = loss(logits, labels, draws())
        value.backward()
        assert value.isfinite()
        assert value.dtype is torch.float32
        assert logits.grad.isfinite().all()
        assert logits.grad.dtype is dtype


@EVERY_CASE
def test_autocast_changes_the_logits_and_nothing_else(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background).eval()
    columns = loss.num_columns(NUM_CLASSES)
    layer = torch.nn.Linear(5, columns)
    x = torch.randn(NUM_SAMPLES, 5, generator=draws(3))
    _, labels = batch(loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(x)
        value = loss(logits, labels, draws())
    assert logits.dtype is torch.bfloat16
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, loss(logits.float(), labels, draws()))
    value.backward()
    assert layer.weight.grad.isfinite().all()


@WITHOUT_DRAWS  # which depend on the dtype
def test_float32_is_as_exact_as_its_digits(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background).eval()
    logits, labels = batch(loss)
    double, single = value_and_gradient(loss, logits, labels), value_and_gradient(loss, logits.float(), labels)
    torch.testing.assert_close(single[0].double(), double[0], rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(single[1].double(), double[1], rtol=1e-4, atol=2e-6)


@EVERY_CASE
def test_state_continues_where_it_was(activation: str, name: str, background: bool) -> None:
    loss, other = (make(activation, name, background) for _ in range(2))
    for seed in range(3):
        loss(*batch(loss, seed), draws(seed))
    other.load_state_dict(loss.state_dict())
    assert loss.state_dict().keys() == {name for name, _ in loss.named_buffers()} & loss.state_dict().keys()
    for found, wanted in zip(*(value_and_gradient(one, *batch(one, 9)) for one in (other, loss)), strict=True):
        assert torch.equal(found, wanted)
    for key, tensor in loss.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key])


@EVERY_CASE
def test_only_training_changes_the_state(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background)
    logits, labels = batch(loss)
    before = {key: tensor.clone() for key, tensor in loss.state_dict().items()}
    loss.eval()(logits, labels, draws())
    assert all(torch.equal(tensor, before[key]) for key, tensor in loss.state_dict().items())
    loss.train()(logits, labels, draws())
    assert all(not torch.equal(tensor, before[key]) for key, tensor in loss.state_dict().items())


@pytest.mark.parametrize(
    ("activation", "name", "params"),
    [
        (activation, name, limit)
        for activation, name in losses.pairs()
        for limit in losses.get(name, activation=activation, class_counts=COUNTS).plain_at
    ],
)
def test_limit_case_is_cross_entropy(activation: str, name: str, params: dict[str, Any]) -> None:
    loss, plain = make(activation, name, **params), make(activation, "cross_entropy")
    for seed in range(2):  # the second with a state, where there is one
        logits, labels = batch(plain, seed)
        found, wanted = (value_and_gradient(one, logits, labels) for one in (loss, plain))
        torch.testing.assert_close(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1])


@pytest.mark.parametrize(
    ("activation", "name"),
    [(activation, name) for activation, name in losses.pairs() if make(activation, name).plain_when_uniform],
)
def test_equal_counts_make_it_cross_entropy_where_it_says_so(activation: str, name: str) -> None:
    even = np.full(NUM_CLASSES, 40)
    loss = losses.get(name, activation=activation, class_counts=even)
    plain = make(activation, "cross_entropy")
    found, wanted = (value_and_gradient(one, *batch(plain)) for one in (loss, plain))
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])


@WITHOUT_DRAWS  # which go by the place in the batch
def test_order_of_the_samples_does_not_matter(activation: str, name: str, background: bool) -> None:
    loss, other = (make(activation, name, background) for _ in range(2))
    logits, labels = batch(loss)
    order = torch.randperm(NUM_SAMPLES, generator=draws())
    value, gradient = value_and_gradient(loss, logits, labels)
    shuffled, gradient_of_shuffled = value_and_gradient(other, logits[order], labels[order])
    torch.testing.assert_close(shuffled, value)
    torch.testing.assert_close(gradient_of_shuffled, gradient[order])
    for key, tensor in loss.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], tensor)


@parametrized([case for case in cases(drawing=False) if make(*case).independent])
def test_independent_samples_have_the_loss_they_have_alone(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background)
    logits, labels = batch(loss)
    alone = torch.cat([loss.per_sample_(logits[[row]], labels[[row]]) for row in range(NUM_SAMPLES)])
    torch.testing.assert_close(loss.per_sample_(logits.clone(), labels), alone)


@EVERY_CASE
def test_thirty_steps_lower_the_loss(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background)
    logits, labels = batch(loss, dtype=torch.float32)
    judge = make(activation, name, background).eval()
    before = judge(logits, labels, draws())
    logits = logits.requires_grad_(True)
    optimizer = torch.optim.SGD([logits], lr=0.1)
    for step in range(30):
        optimizer.zero_grad()
        loss(logits, labels, draws(step)).backward()
        optimizer.step()
    assert judge(logits.detach(), labels, draws()) < before


@EVERY_CASE
def test_scores_and_ranking_are_of_the_classes(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background)
    logits, _ = batch(loss)
    scores, ranking = loss.scores(logits), loss.ranking(logits)
    assert scores.shape == ranking.shape == (NUM_SAMPLES, NUM_CLASSES)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert torch.equal(scores.argsort(1), ranking.argsort(1))
    torch.testing.assert_close(loss.log_scores(logits).exp(), scores)
    assert loss.log_scores(logits.half() * 100).isfinite().all()
    far_below = torch.full_like(logits, -50.0)
    far_below[:, 1] = -40.0
    assert loss.ranking(far_below).argmax(1).eq(1).all()


@EVERY_PAIR
def test_equal_generators_give_equal_losses_and_others_are_left_alone(activation: str, name: str) -> None:
    loss = make(activation, name).eval()
    logits, labels = batch(loss)
    before = torch.get_rng_state()
    assert torch.equal(loss(logits, labels, draws()), loss(logits, labels, draws()))
    assert torch.equal(torch.get_rng_state(), before)
    assert loss(logits, labels).isfinite()
    assert loss.random or torch.equal(torch.get_rng_state(), before)


@EVERY_CASE
def test_a_batch_of_one_and_a_batch_of_background_alone(activation: str, name: str, background: bool) -> None:
    loss = make(activation, name, background)
    logits, labels = batch(loss)
    for part in (slice(0, 1), slice(None)):
        of_part = torch.full_like(labels[part], NUM_CLASSES) if background else labels[part]
        value, gradient = value_and_gradient(loss, logits[part], of_part)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_all_are_what_they_are_on_the_cpu() -> None:
    for case in cases():
        loss, other = (make(*case).eval() for _ in range(2))
        logits, labels = batch(loss, dtype=torch.float32)
        on_gpu = (logits.cuda(), labels.cuda(), torch.Generator("cuda").manual_seed(1))
        if case not in cases(drawing=False):
            assert other.cuda()(*on_gpu).isfinite(), case
            continue
        per_sample = other.cuda().per_sample_(*on_gpu)
        torch.testing.assert_close(per_sample.cpu(), loss.per_sample_(logits, labels), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(on_gpu[0].cpu(), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", losses.names())
def test_a_pair_that_makes_no_sense_lists_those_that_do(name: str) -> None:
    takes = [activation for activation, loss in losses.pairs() if loss == name]
    for activation in set(activations.names()) - set(takes):
        with pytest.raises(InputError, match=f"loss '{name}' does not go with activation '{activation}'") as error:
            make(activation, name)
        assert f"{name} goes with {', '.join(takes)}" in error.value.hint
        assert "cross_entropy" in error.value.hint


@pytest.mark.parametrize(
    ("activation", "name"),
    [(activation, name) for activation, name in losses.pairs() if (activation, name, True) not in cases()],
)
def test_background_is_refused_where_it_makes_no_sense(activation: str, name: str) -> None:
    with pytest.raises(InputError, match=f"loss '{name}' on {activation} does not take background samples"):
        make(activation, name, background=True)


@pytest.mark.parametrize("name", losses.names())
def test_each_loss_is_documented_with_its_source(name: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    assert f"\n### {name}" in text
    loss = losses.get(name, activation=next(on for on, loss in losses.pairs() if loss == name), class_counts=COUNTS)
    assert re.search(r"(19|20)\d\d", loss.__doc__), "no paper is named"
