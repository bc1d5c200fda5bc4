"""What every kind of data becomes: named splits of labelled images, in an array or in files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts, empty_classes_warning, held_out_indices, long_tail_indices
from gol_decouple.data.images import ImageFiles, Images
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import Progress

SPLITS = ("train", "val", "test")

# Of a split without images, what helps.
_NO_IMAGE = {
    "val": "do without it (data.val_fraction = 0), or hold it out of classes that have at least two images",
    "test": "give it images; they are held out of train (data.test_fraction) where a class has at least two",
}


@dataclass(frozen=True)
class Split:
    """Labelled images: `images` [N], an array uint8 [N, H, W, 3] or files; `labels` int64 [N]; and `ids` int64 [N],
    each image's position in the split as it was published, so that a choice among them can be traced back.
    """

    images: Images
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Every height and width that an image has."""
        if isinstance(self.images, ImageFiles):
            return self.images.sizes
        return {(self.images.shape[1], self.images.shape[2])}

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The samples at `indices` [M], in that order."""
        return Split(self.images[indices], self.labels[indices], self.ids[indices])


@dataclass(frozen=True)
class Dataset:
    """A named dataset with its classes in label order; `notes` are what the user should know of how it was found,
    `warnings` what may be wrong with it.
    """

    name: str
    class_names: list[str]
    splits: dict[str, Split]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """Train images per class, [C]."""
        return class_counts(self.splits["train"].labels, self.num_classes)

    @cached_property
    def sha256(self) -> str:
        """Of all images, labels and ids; of images in files, their names and lengths stand for the pixels."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            split = self.splits[name]
            if isinstance(split.images, ImageFiles):
                digest.update(f"{name} {split.images.sha256}".encode())
            else:
                digest.update(f"{name} {split.images.shape}".encode())
                digest.update(np.ascontiguousarray(split.images).data)
            for array in (split.labels, split.ids):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def imbalance_factor(self) -> float:
        """Train images of the largest class over those of the smallest that has any."""
        counts = self.train_counts
        return float(counts.max() / counts[counts > 0].min())

    def long_tailed(self, imbalance_factor: float, kind: str, seed: int) -> Dataset:
        """This dataset with its train split made long-tailed (see `class_stats.long_tail_indices`)."""
        train = self.splits["train"]
        chosen = long_tail_indices(train.labels, self.class_names, imbalance_factor, kind, seed)
        return replace(self, splits=self.splits | {"train": train.take(chosen)})

    def with_held_out(self, name: str, fraction: float, seed: int) -> Dataset:
        """This dataset with a split `name` of images taken out of train (see `class_stats.held_out_indices`)."""
        train = self.splits["train"]
        held_out = held_out_indices(train.labels, fraction, seed)
        rest = np.setdiff1d(np.arange(len(train)), held_out)
        note = f"there is no {name} split: {len(held_out):,} train images, {fraction:.0%} of each class, are held out"
        splits = self.splits | {"train": train.take(rest), name: train.take(held_out)}
        in_order = {name: splits[name] for name in SPLITS if name in splits}
        return replace(self, splits=in_order, notes=(*self.notes, note))


def tell(dataset: Dataset, progress: Progress) -> None:
    """Say the notes and warnings on a dataset, and which classes have no train image."""
    for note in dataset.notes:
        progress.say(plain_line(note))
    for warning in dataset.warnings:
        progress.warn(warning)
    if empty := empty_classes_warning(dataset.class_names, dataset.train_counts):
        progress.warn(empty)


def make_split(images: NDArray[np.uint8], labels: NDArray[np.integer], where: str) -> Split:
    """A split from images [N, H, W], [N, H, W, 1] or [N, H, W, 3] of uint8 and labels [N] or [N, 1]; grey becomes RGB.

    Raises:
        InputError: shapes or dtypes that are not images and one label each.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise InputError(
            f"{where}: images are {images.dtype} {list(images.shape)}, expected uint8 [N, H, W] or [N, H, W, 3]"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}, expected one integer an image, [N] or [N, 1]"
        )
    if len(images) != len(labels):
        raise InputError(f"{where}: {len(images)} images but {len(labels)} labels")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    return Split(images, labels.astype(np.int64), np.arange(len(labels), dtype=np.int64))


def check(dataset: Dataset, where: str) -> None:
    """Refuse what no stage can use: an empty or missing split, or a label outside 0..C-1."""
    for required in ("train", "test"):
        if required not in dataset.splits:
            raise InputError(f"{where}: there is no {required} split")
    for name, split in dataset.splits.items():
        if len(split) == 0:
            raise InputError(f"{where}: the {name} split has no image", _NO_IMAGE.get(name))
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= dataset.num_classes:
            bad = low if low < 0 else high
            raise InputError(
                f"{where}: label {bad} in the {name} split is outside 0..{dataset.num_classes - 1}",
                "labels count from 0, and every class of val and test needs a name or a train image",
            )


def refuse_one_class(names: Sequence[str]) -> None:
    """Raise an InputError for classes that there is nothing to tell apart of."""
    if len(names) < 2:
        told = f"there is one class, {names[0]!r}: a classifier needs at least two"
        raise InputError(told, "images of anything else can be a class of their own")
