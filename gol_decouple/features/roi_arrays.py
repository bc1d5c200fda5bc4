"""RoIs that any detector made, as `features.write` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.lvis_counts import by_rule
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError
from gol_decouple.features.given import array, integers, numbers, pair
from gol_decouple.features.rois import (
    ClassImages,
    ImageRows,
    Regressor,
    check_class_images,
    check_images,
    check_regressor,
)


@dataclass(frozen=True)
class Rois:
    """A split's RoIs, beside its features and labels: arrays or tensors.

    I images own N / I rows each, in their order. An image's RoIs come first; its other rows have label -1, and
    features, boxes and IoUs of zeros.

    Attributes:
        boxes: [N, 4]: x1, y1, x2, y2 in pixels of the original image.
        iou: [N]: the largest IoU with an annotated box, 0 to 1.
        image_ids, heights, widths: [I], integers; heights and widths in pixels of the original image.
    """

    boxes: Any
    iou: Any
    image_ids: Any
    heights: Any
    widths: Any


@dataclass(frozen=True)
class Detection:
    """What there is beside features and labels where rows are RoIs: arrays or tensors.

    Attributes:
        rois: for each split.
        image_counts: annotated train images that hold each class, [C].
        num_images: how many annotated train images there are.
        frequency: "r", "c" or "f" for each class, [C]; None: by LVIS's rule (up to 10 images, up to 100, more).
        regressor: the box regressor's weight [G, 4, D] and bias [G, 4], where G is C, or 1 for all classes; None: there
            is none, and boxes are final.
        coder_weights: by which the regressor's deltas of x, y, width and height are divided.
    """

    rois: Mapping[str, Rois]
    image_counts: Any
    num_images: int
    frequency: Sequence[str] | None = None
    regressor: tuple[Any, Any] | None = None
    coder_weights: Sequence[float] = CODER_WEIGHTS

    def class_images(self) -> ClassImages:
        """Which images hold the classes.

        Raises:
            InputError: counts or frequencies that cannot be.
        """
        given = array("image_counts", self.image_counts)
        counts = integers("image_counts", given, given.shape[0] if given.ndim == 1 else 0)
        if len(counts) == 0:
            raise InputError("image_counts are of no class")
        frequency = by_rule(counts) if self.frequency is None else np.array(list(self.frequency), dtype=np.str_)
        if frequency.shape != counts.shape:
            raise InputError(f"there are {len(counts)} image_counts, but {len(frequency)} frequencies")
        images = ClassImages(counts, int(self.num_images), frequency)
        check_class_images(images)
        return images

    def box_regressor(self, num_classes: int, feature_size: int) -> Regressor | None:
        """The box regressor.

        Raises:
            InputError: one for other classes or features, or that is not finite.
        """
        if self.regressor is None:
            return None
        given = pair("regressor", self.regressor, "(weight, bias)")
        weight, bias = (array("the box regressor's weight and bias", part) for part in given)
        with np.errstate(over="ignore"):
            coder = tuple(float(value) for value in self.coder_weights)
            regressor = Regressor(weight.astype(np.float32), bias.astype(np.float32), coder)
        check_regressor(regressor, num_classes, feature_size)
        return regressor

    def images(self, split: str, num_rows: int) -> ImageRows:
        """The images that own a split's rows.

        Raises:
            InputError: images that cannot be, or that do not own all rows alike.
        """
        rois = self.rois[split]
        num_images = len(np.atleast_1d(array(f"{split} image_ids", rois.image_ids)))
        if num_images == 0 or num_rows % num_images:
            told = f"{split} has {num_rows} rows of {num_images} images, which cannot own equally many"
            raise InputError(told, "fill an image's rows up with label -1")
        ids, heights, widths = (
            integers(f"{split} {name}", getattr(rois, name), num_images) for name in ("image_ids", "heights", "widths")
        )
        rows = ImageRows(ids, heights, widths, num_rows // num_images)
        check_images(split, rows)
        return rows

    def columns(self, split: str, num_rows: int) -> dict[str, NDArray[np.float32]]:
        """Boxes [N, 4] and IoUs [N] of a split, whose values are checked as they are written.

        Raises:
            InputError: another shape.
        """
        rois = self.rois[split]
        return {
            "boxes": numbers(f"{split} boxes", rois.boxes, (num_rows, 4)),
            "iou": numbers(f"{split} iou", rois.iou, (num_rows,)),
        }
