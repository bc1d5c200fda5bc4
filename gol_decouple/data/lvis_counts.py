"""How many images and instances each class of an annotation file has, and whether it is rare, common or frequent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import COMMON_UP_TO, RARE_UP_TO, frequency_masks
from gol_decouple.data.lvis_records import Categories, LvisData
from gol_decouple.errors import InputError, few

_RULE = f"r: up to {RARE_UP_TO} images, c: up to {COMMON_UP_TO}, f: more"


@dataclass(frozen=True)
class Counts:
    """Of C classes: `images` [C] that have an annotation of the class, `instances` [C], annotations of the class (both
    with crowds), and `frequency` [C], of "r", "c", "f"; and of the file, `num_images` that have any annotation. `notes`
    say where the frequencies are from, and where what the file states is not what it holds.
    """

    images: NDArray[np.int64]
    instances: NDArray[np.int64]
    num_images: int
    frequency: NDArray[np.str_]
    notes: tuple[str, ...] = ()


def count(data: LvisData, train: LvisData | None = None) -> Counts:
    """What a file holds of each class.

    Frequencies are those that the file states, else by LVIS's rule those of `train`, a file of train annotations with
    the same categories, else of this one.

    Raises:
        InputError: `train` has not the same categories.
    """
    images, instances, num_images = _held(data)
    notes = []
    if data.categories.frequency is not None:
        frequency = data.categories.frequency
    elif train is not None:
        frequency = by_rule(of_same_categories(data, train)[0])
        notes.append(f"frequencies are counted in {train.name} ({_RULE})")
    else:
        frequency = by_rule(images)
        notes.append(f"{data.name} states no frequency: counted in it, as if it were all train images ({_RULE})")
    return Counts(images, instances, num_images, frequency, (*notes, *_differences(data.categories, images, instances)))


def of_same_categories(data: LvisData, train: LvisData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images and instances [C] in `train` of each category of `data`.

    Raises:
        InputError: a category that `train` does not have, or calls another name.
    """
    labels = train.categories.labels(data.categories.ids)
    for id_, name, label in zip(data.categories.ids.tolist(), data.categories.names, labels.tolist(), strict=True):
        there = train.categories.names[label] if label >= 0 else None
        if there != name:
            found = "has no such category" if there is None else f"calls it {there!r}"
            raise InputError(
                f"category {id_} of {data.name} is {name!r}, but {train.name} {found}",
                "name the train file of this one",
            )
    images, instances, _ = _held(train)
    return images[labels], instances[labels]


def by_rule(image_counts: NDArray[np.int64]) -> NDArray[np.str_]:
    """LVIS's "r", "c" or "f" of each class [C], from the train images that have it."""
    masks = frequency_masks(image_counts)
    return np.select([masks["rare"], masks["common"]], ["r", "c"], "f")


def in_words(frequency: NDArray[np.str_]) -> str:
    """How many classes are rare, common and frequent."""
    return ", ".join(f"{np.count_nonzero(frequency == name[0]):,} {name}" for name in ("rare", "common", "frequent"))


def _held(data: LvisData) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Images and instances of each class [C], and the images with any annotation."""
    annotations, num_classes = data.annotations, len(data.categories)
    pairs = np.unique(annotations.images * num_classes + annotations.labels)
    images = np.bincount(pairs % num_classes, minlength=num_classes).astype(np.int64)
    instances = np.bincount(annotations.labels, minlength=num_classes).astype(np.int64)
    return images, instances, len(np.unique(pairs // num_classes))


def _differences(categories: Categories, images: NDArray[np.int64], instances: NDArray[np.int64]) -> list[str]:
    """Where the counts and frequencies that a file states are not what it holds, or not of one another."""
    notes = []
    for key, stated, held in (
        ("image_count", categories.image_counts, images),
        ("instance_count", categories.instance_counts, instances),
    ):
        if stated is not None and (differ := np.flatnonzero(stated != held).tolist()):
            named = few([f"{categories.names[c]} {stated[c]:,}, here {held[c]:,}" for c in differ])
            notes.append(f"{key} is not what the file holds for {len(differ):,} of {len(held):,} classes ({named})")
    if notes:
        notes[-1] += ": it counts other images or annotations, as that of LVIS's val files does"
    counted = images if categories.image_counts is None else categories.image_counts
    frequency = categories.frequency
    if frequency is not None and (differ := np.flatnonzero(by_rule(counted) != frequency).tolist()):
        named = few([f"{categories.names[c]} {frequency[c]}, {counted[c]:,} images" for c in differ])
        notes.append(
            f"frequency is not that of the image counts for {len(differ):,} of {len(counted):,} classes ({named})"
        )
    return notes
