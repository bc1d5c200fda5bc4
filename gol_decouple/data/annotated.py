"""Images with boxes and masks: the splits that annotations in LVIS's format describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts, empty_classes_warning
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import Progress


class Segmentations:
    """Segmentations as they stand in the file, by position; kept as bytes, which worker processes share as they are.

    As Python's lists, those of LVIS would take ten times the memory, and each worker would come to have its own.
    """

    def __init__(self, segmentations: Sequence[Any]) -> None:
        try:
            texts = [json.dumps(one, separators=(",", ":")).encode() for one in segmentations]
        except RecursionError:
            raise InputError("annotations have a segmentation of lists in lists without an end") from None
        self._ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(texts), np.uint8)

    def __getitem__(self, position: int) -> Any:
        start = 0 if position == 0 else self._ends[position - 1]
        return json.loads(self._bytes[start : self._ends[position]].tobytes())

    @property
    def sha256(self) -> str:
        """Of all of them."""
        digest = hashlib.sha256(np.ascontiguousarray(self._ends).data)
        digest.update(self._bytes.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class AnnotatedSplit:
    """I images and their A objects, those of image i at `starts[i]:starts[i + 1]`.

    Attributes:
        images: the files [I], and `ids` int64 [I], the images' own.
        sizes: heights and widths that the annotations are of, int64 [I, 2].
        starts: int64 [I + 1].
        boxes: x1, y1, x2, y2 in pixels of the image, within it, float32 [A, 4].
        labels: 0..C-1, int64 [A].
        masks: positions of the objects' masks in `segmentations`, int64 [A].
        segmentations: of the whole file.
    """

    images: ImageFiles
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.int64]
    segmentations: Segmentations

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_objects(self) -> NDArray[np.int64]:
        """Objects of each image, [I]."""
        return np.diff(self.starts)

    @property
    def image_labels(self) -> list[list[int]]:
        """The labels of each image's objects."""
        return [part.tolist() for part in np.split(self.labels, self.starts[1:-1])]

    def take(self, indices: NDArray[np.int64]) -> AnnotatedSplit:
        """The images at `indices` [M] with their objects, in that order."""
        counts = self.num_objects[indices]
        starts = np.concatenate([[0], np.cumsum(counts)])
        objects = np.arange(starts[-1]) + np.repeat(self.starts[indices] - starts[:-1], counts)
        return replace(
            self,
            images=self.images[indices],
            ids=self.ids[indices],
            sizes=self.sizes[indices],
            starts=starts,
            boxes=self.boxes[objects],
            labels=self.labels[objects],
            masks=self.masks[objects],
        )


@dataclass(frozen=True)
class AnnotatedDataset:
    """A named dataset with its C classes in label order, and the ids of their categories [C].

    Attributes:
        splits: train, of which every image has an object, and val.
        frequency: LVIS's "r", "c" or "f" of each class, [C].
        notes, warnings: what the user should know of how it was found, and what may be wrong with it.
    """

    name: str
    class_names: list[str]
    category_ids: NDArray[np.int64]
    splits: dict[str, AnnotatedSplit]
    frequency: NDArray[np.str_]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """Train objects of each class, [C]."""
        return class_counts(self.splits["train"].labels, self.num_classes)

    @property
    def image_counts(self) -> NDArray[np.int64]:
        """Train images that have an object of each class, [C]."""
        train, num_classes = self.splits["train"], self.num_classes
        pairs = np.unique(np.repeat(np.arange(len(train)), train.num_objects) * num_classes + train.labels)
        return np.bincount(pairs % num_classes, minlength=num_classes).astype(np.int64)

    @cached_property
    def sha256(self) -> str:
        """Of all boxes, labels, masks and ids; the images' names and lengths stand for their pixels."""
        digest = hashlib.sha256()
        for name, split in sorted(self.splits.items()):
            digest.update(f"{name} {split.images.sha256} {split.segmentations.sha256}".encode())
            for array in (split.ids, split.sizes, split.starts, split.boxes, split.labels, split.masks):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def tell_annotated(dataset: AnnotatedDataset, progress: Progress) -> None:
    """Say the notes and warnings on a dataset, and which classes have no train image."""
    for note in dataset.notes:
        progress.say(plain_line(note))
    warn_of(dataset, progress)


def warn_of(dataset: AnnotatedDataset, progress: Progress) -> None:
    """Say the warnings on a dataset, and which classes have no train image."""
    for warning in dataset.warnings:
        progress.warn(warning)
    if empty := empty_classes_warning(dataset.class_names, dataset.train_counts):
        progress.warn(empty)
