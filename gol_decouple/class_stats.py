"""Counts per class: long-tailed class sizes and the many / medium / few groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError, few

MANY_ABOVE = 100
FEW_BELOW = 20
GROUPS = ("many", "medium", "few")
RARE_UP_TO = 10
COMMON_UP_TO = 100


def class_counts(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Samples per class, [C], from labels [N] in 0..C-1."""
    return np.bincount(labels, minlength=num_classes).astype(np.int64)


def empty_classes_warning(names: Sequence[str], train_counts: NDArray[np.int64]) -> str | None:
    """What to tell the user of classes without train samples, or None if every class has some."""
    empty = [name for name, count in zip(names, train_counts, strict=True) if count == 0]
    if not empty:
        return None
    return f"no train sample of {len(empty):,} classes: {few(empty, 5)}"


def group_masks(train_counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which classes are many (> 100 train samples), medium (20 to 100) and few (< 20); each mask is [C].

    The rule of classifier-balancing (Kang et al., ICLR 2020). OLTR's code counts 100 as many and 20 as few, so group
    accuracies of different code bases are not always comparable.
    """
    many = train_counts > MANY_ABOVE
    few = train_counts < FEW_BELOW
    return {"many": many, "medium": ~many & ~few, "few": few}


def frequency_masks(image_counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which classes are rare (in at most 10 train images), common (11 to 100) and frequent (> 100), by LVIS's rule."""
    rare = image_counts <= RARE_UP_TO
    frequent = image_counts > COMMON_UP_TO
    return {"rare": rare, "common": ~rare & ~frequent, "frequent": frequent}


def held_out_indices(labels: NDArray[np.int64], fraction: float, seed: int = 0) -> NDArray[np.int64]:
    """Indices [M], ascending, of a random share of every class among labels [N].

    Of a class with n samples, round(fraction * n) are taken, and of one with at least two, at least one and not all.
    """
    stream = np.random.default_rng(seed)
    chosen = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen.append(stream.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def long_tail_counts(largest: int, num_classes: int, imbalance_factor: float, kind: str = "exp") -> list[int]:
    """Class sizes of a long-tailed dataset, in label order (Cui et al., CVPR 2019; LDAM, NeurIPS 2019).

    Args:
        largest: n_0, the number of images of class 0.
        imbalance_factor: size of the largest class over that of the smallest, at least 1.
        kind: "exp" gives int(n_0 * IF^(-c/(C-1))), "step" gives int(n_0/IF) to the last half of the classes.
    """
    if kind == "step":
        first_small = num_classes - num_classes // 2
        return [largest if c < first_small else int(largest / imbalance_factor) for c in range(num_classes)]
    last = max(num_classes - 1, 1)
    return [int(largest / imbalance_factor ** (c / last)) for c in range(num_classes)]


def long_tail_indices(
    labels: NDArray[np.int64],
    class_names: list[str],
    imbalance_factor: float,
    kind: str = "exp",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Indices [M] into `labels` [N] of a long-tailed subset; class by class, in the order in which they were drawn.

    The images of a class are drawn as LDAM's code does: one legacy NumPy stream, seeded once, shuffles each class in
    label order and the first n_c are kept.

    Raises:
        InputError: a class has fewer images than its share.
    """
    num_classes = len(class_names)
    counts = class_counts(labels, num_classes)
    wanted = long_tail_counts(int(counts[0]), num_classes, imbalance_factor, kind)
    stream = np.random.RandomState(seed)
    chosen: list[NDArray[np.int64]] = []
    for label, count in enumerate(wanted):
        if counts[label] < count:
            raise InputError(
                f"class {label} ({class_names[label]!r}) has {counts[label]} train images, but imbalance factor "
                f"{imbalance_factor:g} asks for {count}",
                "choose a larger data.imbalance_factor, or 1 to keep the data as they are",
            )
        members = np.flatnonzero(labels == label)
        stream.shuffle(members)
        chosen.append(members[:count])
    return np.concatenate(chosen).astype(np.int64)
