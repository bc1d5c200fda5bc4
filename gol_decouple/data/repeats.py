"""Images that a dataset holds more than once: in two splits, or with two labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from gol_decouple.data.dataset import Dataset
from gol_decouple.data.images import ImageFiles


def with_repeats_told(dataset: Dataset) -> Dataset:
    """The dataset, with a warning for every two splits that share images, and for images with several labels."""
    files = {split: part.images for split, part in dataset.splits.items() if isinstance(part.images, ImageFiles)}
    warnings = (*dataset.warnings, *shared(files, "accuracies"), *_labelled_twice(dataset))
    return replace(dataset, warnings=warnings)


def shared(files: Mapping[str, ImageFiles], figures: str) -> Iterator[str]:
    """A warning for every two splits that share images.

    Args:
        files: of each split.
        figures: what the second of two is evaluated for.
    """
    names = {split: dict.fromkeys(images.names) for split, images in files.items()}
    for first, second in combinations(names, 2):
        if both := [name for name in names[first] if name in names[second]]:
            yield (
                f"{len(both):,} images are in {first} and in {second}, such as {both[0]}: {figures} on {second} "
                "are not those of images never seen"
            )


def _labelled_twice(dataset: Dataset) -> Iterator[str]:
    labels_of: dict[str, int] = {}
    twice: dict[str, tuple[int, int]] = {}
    for split in dataset.splits.values():
        if isinstance(split.images, ImageFiles):
            for name, label in zip(split.images.names, split.labels.tolist(), strict=True):
                if labels_of.setdefault(name, label) != label:
                    twice.setdefault(name, (labels_of[name], label))
    if twice:
        name, labels = next(iter(twice.items()))
        yield f"{len(twice):,} images have more than one label, such as {name}: {labels[0]} and {labels[1]}"
