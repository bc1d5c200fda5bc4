"""What a file of annotations becomes: columns of its images, categories and annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Bad(NamedTuple):
    """What is wrong with a part of the file: `annotation 17`, `image 5`, `category 3`."""

    what: str
    reason: str


@dataclass(frozen=True)
class Images:
    """I images in the file's order: ids, heights and widths [I]; the names `coco_urls` and `file_names`, "" if there
    is none; and [M, 2] pairs (image index, label): `negative`, of classes that are verified not to be in the image, and
    `not_exhaustive`, of classes whose instances in it are not all annotated.
    """

    ids: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    coco_urls: list[str]
    file_names: list[str]
    negative: NDArray[np.int64]
    not_exhaustive: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Categories:
    """C categories in the order of their ids [C], which is that of labels: label c is the category `ids[c]`.

    What the file states, or None if it does not: `frequency` [C], of "r", "c", "f", and the two counts, [C].
    """

    ids: NDArray[np.int64]
    names: list[str]
    frequency: NDArray[np.str_] | None
    image_counts: NDArray[np.int64] | None
    instance_counts: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, category_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels [N] of category ids [N]; -1 where there is no such category."""
        return positions(self.ids, category_ids)


@dataclass(frozen=True)
class Annotations:
    """A annotations in the file's order: ids [A], indices of their images [A], labels [A], boxes x, y, width and height
    in pixels [A, 4], areas in pixels [A], whether they are crowds [A], whether the file wants them ignored when
    detections are evaluated [A], and segmentations as they stand (None: none, or not read).
    """

    ids: NDArray[np.int64]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    segmentations: list[Any]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class LvisData:
    """A file of annotations. `federated`: its images say which classes are verified not to be in them, as LVIS's do and
    COCO's do not; `notes` are what the user should know of how it was read.
    """

    name: str
    images: Images
    categories: Categories
    annotations: Annotations
    federated: bool
    notes: tuple[str, ...] = ()


def positions(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` [N] stands in `ids`, which are all different; -1: nowhere."""
    if len(ids) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(ids, kind="stable")
    places = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    found = order[places]
    return np.where(ids[found] == wanted, found, -1)
