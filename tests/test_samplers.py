"""Samplers: what they promise of an epoch."""

from __future__ import annotations

import pytest
import torch

from gol_decouple import samplers
from gol_decouple.errors import InputError

LABELS = torch.tensor([0] * 50 + [1] * 9 + [3] * 1)  # class 2 has no sample


def draw(name: str, seed: int = 0) -> torch.Tensor:
    return samplers.get(name)(LABELS, torch.Generator().manual_seed(seed))


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


def test_unknown_sampler() -> None:
    with pytest.raises(InputError, match="unknown sampler 'balanced'"):
        samplers.get("balanced")
