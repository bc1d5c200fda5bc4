"""AP of the boxes of many classifiers in one pass over cached RoIs, an image at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gol_decouple.data.lvis_records import positions
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.evaluation import Evaluation, is_in
from gol_decouple.detection.ground_truth import Bools, GroundTruth, Ints
from gol_decouple.detection.roi_boxes import ImageBoxes, ImageRois, Scorer, detect_boxes
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.detection.suppression import Boxes
from gol_decouple.errors import InputError, few


class Evaluated:
    """Which detections a set of annotations evaluates: those of classes that an image is annotated or negative for.

    By LVIS's protocol the others count for nothing, so that they need not be kept; most of an image's 300 are such.

    Args:
        category_ids: [C], of the classifiers' labels.

    Raises:
        InputError: the annotations do not have a category.
    """

    def __init__(self, truth: GroundTruth, category_ids: Ints) -> None:
        self._truth = truth
        self._categories = positions(truth.category_ids, category_ids)
        if len(unknown := category_ids[self._categories < 0]):
            raise InputError(
                f"{len(unknown):,} of {len(category_ids):,} classes are not among the categories of {truth.name} "
                f"(ids {few([str(id_) for id_ in unknown])})",
                "evaluate with annotations of the same dataset as the features",
            )

    def among(self, image_id: int, labels: Ints) -> Bools:
        """Of detections in an image with these labels, [N].

        Raises:
            InputError: the annotations do not have the image.
        """
        truth = self._truth
        image = positions(truth.image_ids, np.array([image_id]))[0]
        if image < 0:
            hint = "evaluate with annotations of the split that the features are of"
            raise InputError(f"{truth.name} has no image {image_id}, of which there are RoIs", hint)
        return is_in(image * len(truth.category_ids) + self._categories[labels], truth.listed)


class BoxColumns:
    """Detections of one classifier, collected an image at a time, as columns that `Evaluation.evaluate` takes."""

    def __init__(self) -> None:
        self._image_ids: list[int] = []
        self._found: list[ImageBoxes] = []

    def add(self, image_id: int, found: ImageBoxes) -> None:
        """Those of an image."""
        self._image_ids.append(image_id)
        self._found.append(found)

    def columns(self, category_ids: Ints) -> dict[str, Any]:
        """image_id [N], category_id [N], boxes [N, 4] (x, y, width, height in pixels) and scores [N].

        Args:
            category_ids: [C], of the labels.
        """
        none = ImageBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
        found = [none, *self._found]
        boxes, labels, scores = (
            np.concatenate([getattr(one, name) for one in found]) for name in ("boxes", "labels", "scores")
        )
        image_ids = np.repeat(np.array([0, *self._image_ids], np.int64), [len(one.labels) for one in found])
        return {
            "image_id": image_ids,
            "category_id": category_ids[labels],
            "boxes": with_sides(boxes),
            "scores": scores,
        }


def with_sides(boxes: Boxes) -> Boxes:
    """x, y, width, height of x1, y1, x2, y2, both [N, 4]."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def box_columns(
    images: Iterable[ImageRois],
    regressor: BoxRegressor,
    scorers: Sequence[Scorer],
    category_ids: Ints,
    settings: DetectionSettings,
    evaluated: Evaluated | None = None,
) -> list[dict[str, Any]]:
    """The detections of each classifier as columns (see `BoxColumns.columns`); one image is in memory at a time.

    Args:
        images: the RoIs of every image.
        scorers: the classifiers, with their activations.
        category_ids: [C], of their labels.
        evaluated: which of the detections stay; None: all.

    Raises:
        InputError: parts that do not go together, or images that are not in the annotations.
    """
    collected = [BoxColumns() for _ in scorers]
    for rois in images:
        for columns, found in zip(collected, detect_boxes(rois, regressor, scorers, settings), strict=True):
            chosen = slice(None) if evaluated is None else evaluated.among(rois.image_id, found.labels)
            columns.add(rois.image_id, found.some(chosen))
    return [columns.columns(category_ids) for columns in collected]


def box_ap(
    prepared: Evaluation,
    images: Iterable[ImageRois],
    regressor: BoxRegressor,
    scorers: Sequence[Scorer],
    category_ids: Ints,
    settings: DetectionSettings,
) -> list[dict[str, Any]]:
    """LVIS's figures of boxes (see `evaluate_lvis`) for each classifier.

    Args:
        prepared: annotations, for bbox. Images that they have and `images` has not count as without detections.

    The others, and errors, are those of `box_columns`; also raises InputError for classes that the annotations do not
    have.
    """
    evaluated = Evaluated(prepared.truth, category_ids)
    found = box_columns(images, regressor, scorers, category_ids, settings, evaluated)
    return [prepared.evaluate(columns, max_dets=settings.max_detections) for columns in found]
