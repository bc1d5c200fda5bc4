"""Class sizes and groups against the published totals and hand-counted cases."""

from __future__ import annotations

import numpy as np
import pytest

from gol_decouple.class_stats import (
    class_counts,
    group_masks,
    held_out_indices,
    long_tail_counts,
    long_tail_indices,
)
from gol_decouple.errors import InputError


@pytest.mark.parametrize(
    ("imbalance_factor", "total", "smallest", "groups"),
    [
        (10, 19_573, 50, (69, 31, 0)),
        (50, 12_608, 10, (41, 41, 18)),
        (100, 10_847, 5, (35, 35, 30)),
        (200, 9_502, 2, (30, 31, 39)),
    ],
)
def test_cifar100_lt_has_its_published_sizes(
    imbalance_factor: int, total: int, smallest: int, groups: tuple[int, int, int]
) -> None:
    counts = long_tail_counts(500, 100, imbalance_factor)
    assert (sum(counts), counts[0], counts[-1]) == (total, 500, smallest)
    masks = group_masks(np.array(counts))
    assert tuple(int(masks[group].sum()) for group in ("many", "medium", "few")) == groups


@pytest.mark.parametrize(("imbalance_factor", "total"), [(10, 20_431), (50, 13_996), (100, 12_406), (200, 11_203)])
def test_cifar10_lt_has_its_published_sizes(imbalance_factor: int, total: int) -> None:
    assert sum(long_tail_counts(5000, 10, imbalance_factor)) == total


def test_step_gives_the_last_half_of_the_classes_the_small_size() -> None:
    assert long_tail_counts(500, 4, 50, "step") == [500, 500, 10, 10]
    assert long_tail_counts(500, 5, 50, "step") == [500, 500, 500, 10, 10]


@pytest.mark.parametrize("kind", ["exp", "step"])
@pytest.mark.parametrize("factor", [49, 98, 103, 107, 161])
def test_the_smallest_class_is_not_lost_to_rounding(kind: str, factor: int) -> None:
    assert long_tail_counts(factor, 10, factor, kind)[-1] == 1


def test_group_limits_are_more_than_100_and_less_than_20() -> None:
    masks = group_masks(np.array([0, 19, 20, 100, 101]))
    assert masks["few"].tolist() == [True, True, False, False, False]
    assert masks["medium"].tolist() == [False, False, True, True, False]
    assert masks["many"].tolist() == [False, False, False, False, True]


def test_class_counts_include_absent_classes() -> None:
    assert class_counts(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]


def test_images_are_chosen_as_ldams_code_chooses_them() -> None:
    """The global legacy stream, seeded once, shuffles each class in label order (imbalance_cifar.py)."""
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(10), 60))
    np.random.seed(7)
    expected = []
    for label in range(10):
        members = np.where(labels == label)[0]
        np.random.shuffle(members)
        expected.append(members[: int(60 * (1 / 20) ** (label / 9))])
    chosen = long_tail_indices(labels, [str(label) for label in range(10)], 20, seed=7)
    np.testing.assert_array_equal(chosen, np.concatenate(expected))


def test_a_class_too_small_for_its_share_is_named() -> None:
    labels = np.repeat([0, 1, 2], [50, 3, 50])
    with pytest.raises(InputError, match=r"class 1 \('frog'\) has 3 train images, but imbalance factor 4 asks for 25"):
        long_tail_indices(labels, ["cat", "frog", "dog"], 4)


@pytest.mark.parametrize(
    ("fraction", "held_out"),
    [
        # of 1, 2, 3, 4, 5, 10 and 13 samples
        (0.01, [0, 1, 1, 1, 1, 1, 1]),
        (0.2, [0, 1, 1, 1, 1, 2, 3]),
        (0.5, [0, 1, 2, 2, 2, 5, 6]),  # 1.5, 2.5 and 6.5 are rounded to even
        (0.99, [0, 1, 2, 3, 4, 9, 12]),
    ],
)
def test_a_share_of_every_class_is_held_out_but_never_all_of_it(fraction: float, held_out: list[int]) -> None:
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(7), [1, 2, 3, 4, 5, 10, 13]))
    chosen = held_out_indices(labels, fraction)
    assert np.bincount(labels[chosen], minlength=7).tolist() == held_out
    assert chosen.dtype == np.int64
    assert np.all(np.diff(chosen) > 0), "ascending, each once"


def test_labels_without_samples_hold_nothing_out() -> None:
    labels = np.array([4, 4, 1, 1, 1, 4])
    assert np.bincount(labels[held_out_indices(labels, 0.5)]).tolist() == [0, 2, 0, 0, 2]
    assert held_out_indices(np.empty(0, np.int64), 0.5).tolist() == []


def test_what_is_held_out_is_drawn_by_the_seed() -> None:
    labels = np.repeat([0, 1], [30, 20])
    drawn = [held_out_indices(labels, 0.2, seed) for seed in range(60)]
    np.testing.assert_array_equal(drawn[7], held_out_indices(labels, 0.2, 7))
    np.testing.assert_array_equal(drawn[0], held_out_indices(labels, 0.2))
    assert len({indices.tobytes() for indices in drawn}) == 60
    assert np.unique(np.concatenate(drawn)).tolist() == list(range(50)), "every sample has its chance"
