"""RoIs: what a features file of detection holds beside features, labels and classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError
from gol_decouple.reported_ap import FREQUENCIES

# The label of rows that are no RoI; that of background is the number of classes.
UNUSED = -1


@dataclass(frozen=True)
class ImageRows:
    """I images, each of which owns `rois_per_image` rows that follow each other: ids, heights, widths int64 [I]."""

    ids: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    rois_per_image: int

    def __len__(self) -> int:
        """How many rows they own."""
        return len(self.ids) * self.rois_per_image


@dataclass(frozen=True)
class Images:
    """The I images of a split, in the order of their rows: ids, heights, widths and num_rois, the RoIs of each, int64
    [I]. Each owns `rois_per_image` rows, of which the first num_rois are RoIs.
    """

    ids: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    num_rois: NDArray[np.int64]
    rois_per_image: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ClassImages:
    """Of C classes: `counts` int64 [C], the annotated train images that hold each, `num_images`, how many of these
    there are, and `frequency` [C], of "r", "c", "f".
    """

    counts: NDArray[np.int64]
    num_images: int
    frequency: NDArray[np.str_]


@dataclass(frozen=True)
class Regressor:
    """The box regressor: `weight` float32 [G, 4, D] and `bias` float32 [G, 4], where G is C, or 1 for all classes; what
    it gives is divided by `coder_weights` (of x, y, width, height) and then applied to a RoI's box.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    coder_weights: tuple[float, ...] = CODER_WEIGHTS


def check_images(split: str, images: ImageRows) -> None:
    """Raise an InputError for images that cannot be."""
    ids, counts = np.unique(images.ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"image {ids[counts > 1][0]} is twice among the {split} images")
    for name, sizes in (("height", images.heights), ("width", images.widths)):
        if sizes.min() < 1:
            at = int(np.argmin(sizes))
            raise InputError(f"{split} image {images.ids[at]} has {name} {sizes[at]}")


def check_class_images(images: ClassImages) -> None:
    """Raise an InputError for counts of images that cannot be."""
    largest = int(images.counts.max())
    if images.counts.min() < 0 or largest > images.num_images:
        told = f"image_counts are {images.counts.min()} to {largest} for {images.num_images} annotated images"
        raise InputError(told, "num_images is how many train images have any annotation")
    if unknown := sorted(set(images.frequency.tolist()) - set(FREQUENCIES)):
        raise InputError(f"frequency {unknown[0]!r} is none of {', '.join(FREQUENCIES)}")


def check_regressor(regressor: Regressor, num_classes: int, feature_size: int) -> None:
    """Raise an InputError for a box regressor of other classes or features, or with values that are not finite."""
    weight, bias, coder = regressor.weight, regressor.bias, regressor.coder_weights
    if weight.shape not in [(groups, 4, feature_size) for groups in (1, num_classes)] or bias.shape != weight.shape[:2]:
        raise InputError(
            f"the box regressor is {list(weight.shape)} and {list(bias.shape)}, expected "
            f"[{num_classes}, 4, {feature_size}] and [{num_classes}, 4], or 1 in place of {num_classes}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError("the box regressor holds NaN or infinity")
    if len(coder) != 4 or not all(np.isfinite(coder)) or min(coder) <= 0:
        raise InputError(f"coder_weights are {list(coder)}, expected four numbers above 0")


def num_rois(labels: NDArray[np.int64], rois_per_image: int, num_classes: int, first_row: int = 0) -> NDArray[np.int64]:
    """How many RoIs each of I images has, [I], by the labels [I * rois_per_image] of its rows, from `first_row` on.

    Raises:
        InputError: a label that is none, or a RoI after a row that is no RoI.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < UNUSED or high > num_classes:
        raise InputError(f"label {low if low < UNUSED else high} is outside {UNUSED}..{num_classes}")
    used = (labels != UNUSED).reshape(-1, rois_per_image)
    counts: NDArray[np.int64] = used.sum(1, dtype=np.int64)
    ordered = (used == (np.arange(rois_per_image) < counts[:, None])).all(1)
    if not ordered.all():
        row = first_row + int(np.argmin(ordered)) * rois_per_image
        raise InputError(
            f"rows {row}..{row + rois_per_image - 1}, which are of one image, have a RoI after one with label {UNUSED}",
            "an image's RoIs come first, then rows with label -1",
        )
    return counts


def roi_counts(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """RoIs of each class, [C], by labels [N], which may be those of background and of rows that are no RoI."""
    # Places 0 and C + 1 are those of rows that are no RoI, and of background.
    counts: NDArray[np.int64] = class_counts(labels + 1, num_classes + 2)[1:-1]
    return counts
