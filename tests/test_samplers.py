"""Samplers: what they promise of an epoch."""

from __future__ import annotations

import math

import pytest
import torch

from gol_decouple import samplers
from gol_decouple.errors import InputError

LABELS = torch.tensor([0] * 50 + [1] * 9 + [3] * 1)  # class 2 has no sample


def draw(name: str, seed: int = 0) -> torch.Tensor:
    return samplers.get(name)(LABELS, torch.Generator().manual_seed(seed), 0.5)


@pytest.mark.parametrize("name", samplers.names())
def test_an_epoch_has_as_many_draws_as_samples_and_follows_its_seed(name: str) -> None:
    assert len(draw(name)) == len(LABELS)
    assert torch.equal(draw(name), draw(name))
    assert not torch.equal(draw(name), draw(name, seed=1))


def test_random_visits_every_sample_once() -> None:
    assert draw("random").sort().values.tolist() == list(range(60))


def test_class_balanced_draws_every_class_equally_often() -> None:
    assert torch.bincount(LABELS[draw("class_balanced")]).tolist() == [20, 20, 0, 20]


def test_class_balanced_gives_every_class_its_turn_before_any_comes_again() -> None:
    turns = LABELS[draw("class_balanced")].reshape(-1, 3)
    assert all(sorted(turn) == [0, 1, 3] for turn in turns.tolist())
    assert len({tuple(turn) for turn in turns.tolist()}) > 1


def test_class_balanced_goes_through_a_class_before_a_sample_comes_again() -> None:
    drawn = draw("class_balanced")
    large = drawn[LABELS[drawn] == 0]
    assert len(large.unique()) == 20
    small = drawn[LABELS[drawn] == 1]
    assert sorted(small[:9].tolist()) == sorted(small[9:18].tolist()) == list(range(50, 59))
    assert drawn[LABELS[drawn] == 3].unique().tolist() == [59]


def frequencies(name: str, share_done: float = 0.0, epochs: int = 400) -> list[float]:
    """How often each class comes, over many epochs."""
    draws = torch.Generator().manual_seed(5)
    drawn = torch.cat([samplers.get(name)(LABELS, draws, share_done) for _ in range(epochs)])
    return (torch.bincount(LABELS[drawn], minlength=4) / len(drawn)).tolist()


def test_square_root_draws_classes_by_the_root_of_their_size() -> None:
    roots = [math.sqrt(50), 3.0, 0.0, 1.0]
    assert frequencies("square_root") == pytest.approx([root / sum(roots) for root in roots], abs=0.01)


@pytest.mark.parametrize("share_done", [0.0, 0.25, 0.9])
def test_progressive_goes_from_the_sizes_to_balance(share_done: float) -> None:
    at_first, at_last = [50 / 60, 9 / 60, 0.0, 1 / 60], [1 / 3, 1 / 3, 0.0, 1 / 3]
    wanted = [(1 - share_done) * a + share_done * b for a, b in zip(at_first, at_last, strict=True)]
    assert frequencies("progressive", share_done) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("name", ["square_root", "progressive"])
def test_every_sample_of_a_class_is_drawn_as_often(name: str) -> None:
    draws = torch.Generator().manual_seed(5)
    drawn = torch.cat([samplers.get(name)(LABELS, draws, 0.5) for _ in range(400)])
    of_class = torch.bincount(drawn, minlength=60)[50:59].double()
    assert (of_class / of_class.mean() - 1).abs().max() < 0.15
    assert len(drawn.unique()) == 60


def test_repeat_factors_by_their_formula() -> None:
    # Class 0 in 4 of 8 images, class 1 in 2, class 2 in 1; threshold 0.5: sqrt(0.5 / f) = 1, 1.414, 2.
    images = [[0], [0], [0, 1], [0, 1, 1], [2], [], [], []]
    factors = samplers.repeat_factors(images, num_classes=4, threshold=0.5)
    assert factors.tolist() == pytest.approx([1, 1, math.sqrt(2), math.sqrt(2), 2, 1, 1, 1])


def test_repeated_images_come_as_often_as_their_factor_says() -> None:
    factors, draws = torch.tensor([1.0, 1.3, 2.0, 3.75]), torch.Generator().manual_seed(0)
    epochs = [samplers.repeated(factors, draws) for _ in range(2000)]
    counts = torch.stack([torch.bincount(epoch, minlength=4) for epoch in epochs]).double()
    assert counts.mean(0).tolist() == pytest.approx(factors.tolist(), abs=0.04)
    assert counts.unique(dim=0).tolist() == [[1, 1, 2, 3], [1, 1, 2, 4], [1, 2, 2, 3], [1, 2, 2, 4]]
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 100


def test_unknown_sampler() -> None:
    with pytest.raises(InputError, match="unknown sampler 'balanced'"):
        samplers.get("balanced")


@pytest.mark.parametrize("name", samplers.names())
def test_background_comes_once_each_whatever_the_sampler_does_with_classes(name: str) -> None:
    labels = torch.tensor([0] * 30 + [1] * 6 + [2] * 40)
    order = samplers.get(name, background=2)(labels, torch.Generator().manual_seed(0), 0.5)
    assert len(order) == len(labels)
    of_background = order[labels[order] == 2]
    assert sorted(of_background.tolist()) == list(range(36, 76))
    counts = torch.bincount(labels[order])
    assert {"random": counts[1] == 6, "class_balanced": counts[1] == 18}.get(name, counts[1] > 6)
    # In between, not at the end.
    places = (labels[order] == 2).nonzero().squeeze(1)
    assert 25 < places.float().mean() < 50
    again = samplers.get(name, background=2)(labels, torch.Generator().manual_seed(0), 0.5)
    assert torch.equal(order, again)
