"""Drawing some of a batch: how many, of which, and each as likely as the others."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from gol_decouple.losses.draws import drawn

AMONG = torch.tensor([True, False, True, True, False, True, True, False])  # five of eight


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [(0, 0), (1, 1), (3, 3), (5, 5), (6, 5), (1000, 5), (0.99, 0), (2.0, 2), (2.9, 2), (4.999, 4), (math.inf, 5)],
)
def test_the_whole_part_of_the_number_or_all_there_are(wanted: float, count: int) -> None:
    for seed in range(20):
        mask = drawn(AMONG, number(wanted), generator(seed))
        assert mask.dtype is torch.bool
        assert mask.shape == AMONG.shape
        assert mask.sum() == count
        assert not mask[~AMONG].any()


@pytest.mark.parametrize("wanted", [0, 1, 7])
def test_none_of_none(wanted: int) -> None:
    assert not drawn(torch.zeros(6, dtype=torch.bool), number(wanted), generator()).any()
    assert drawn(torch.zeros(0, dtype=torch.bool), number(wanted), generator()).shape == (0,)


@pytest.mark.parametrize("count", range(9))
def test_all_may_be_drawn_from(count: int) -> None:
    assert drawn(torch.ones(8, dtype=torch.bool), number(count), generator(count)).sum() == count


@pytest.mark.parametrize(("share", "divisor"), [(0.1, 10), (0.01, 100), (0.5, 2)])
def test_a_share_of_a_count_is_not_rounded_to_one_less(share: float, divisor: int) -> None:
    """As losses ask: a count on a tensor times a share, where 0.1 and 0.01 are no exact numbers."""
    for total in [*range(0, 1001, 10), 99, 199, 9_999]:
        among = torch.ones(total, dtype=torch.bool)
        assert drawn(among, among.sum() * share, generator()).sum() == total // divisor


def test_the_mask_itself_is_left_as_it_is() -> None:
    among = AMONG.clone()
    drawn(among, number(2), generator())
    assert torch.equal(among, AMONG)


def test_alike_from_the_same_seed_and_anew_from_the_next_draw() -> None:
    among, stream = torch.ones(200, dtype=torch.bool), generator(5)
    first, second = (drawn(among, number(100), stream) for _ in range(2))
    assert torch.equal(first, drawn(among, number(100), generator(5)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_selection_is_as_likely_as_every_other(count: int) -> None:
    draws, stream = 1500, generator(3)
    masks = torch.stack([drawn(AMONG, number(count), stream) for _ in range(draws)])
    members = AMONG.nonzero().squeeze(1).tolist()
    selections = list(combinations(members, count))
    probability = 1.0 / len(selections)
    deviation = math.sqrt(probability * (1.0 - probability) / draws)
    for selection in selections:
        share = masks[:, list(selection)].all(1).double().mean().item()
        assert abs(share - probability) <= 5.0 * deviation
