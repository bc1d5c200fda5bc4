"""Evaluation of detections by LVIS's protocol, on columns (docs/lvis-evaluation.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gol_decouple.detection.accumulation import accumulate, summarize
from gol_decouple.detection.detections import Detections, Results, read_detections
from gol_decouple.detection.ground_truth import Bools, Floats, GroundTruth, Ints, IouType, read_ground_truth
from gol_decouple.detection.ious import box_pairs, mask_pairs
from gol_decouple.detection.matching import match, outside
from gol_decouple.errors import InputError, unknown

Evaluator = Literal["columnar", "lvis"]
EVALUATORS = ("columnar", "lvis")
MAX_DETECTIONS = 300  # an image, over all its categories
FIXED_AP_DETECTIONS = 10_000  # a category, over all images


class Evaluation:
    """Annotations that results are evaluated with: read once, for the results of many detectors or classifiers.

    Attributes:
        truth: the annotations, without what evaluation does not need.
    """

    def __init__(
        self, source: str | Path | Mapping[str, Any], iou_type: IouType, image_ids: Ints | None = None
    ) -> None:
        self._source = source
        self._iou_type: IouType = iou_type
        self.truth: GroundTruth = read_ground_truth(source, iou_type, image_ids)
        truth = self.truth
        self._ignored = truth.ignored[:, None] | outside(truth.areas)
        counted = np.zeros((len(truth.category_ids), self._ignored.shape[1]), dtype=np.int64)
        np.add.at(counted, truth.keys % len(counted), ~self._ignored)
        self._to_find = counted

    def evaluate(
        self,
        results: Results,
        *,
        evaluator: Evaluator = "columnar",
        fixed_ap: bool = False,
        max_dets: int = MAX_DETECTIONS,
    ) -> dict[str, Any]:
        """The figures of `evaluate_lvis`, which says what is given and raised."""
        if evaluator not in EVALUATORS:
            raise unknown("evaluator", str(evaluator), EVALUATORS)
        if max_dets < 1:
            raise InputError(f"max_dets is {max_dets}", "it is a number of detections an image, 300 by the protocol")
        detections = read_detections(results, self.truth)
        if evaluator == "lvis":
            from gol_decouple.detection.lvis_adapter import evaluate_with_lvis

            most = (FIXED_AP_DETECTIONS, True) if fixed_ap else (max_dets, False)
            return evaluate_with_lvis(self._source, results, self.truth, self._iou_type, *most)
        kept = _highest(detections, max_dets, fixed_ap)
        return self._evaluate(detections, kept)

    def _evaluate(self, detections: Detections, kept: Bools) -> dict[str, Any]:
        truth = self.truth
        keys = detections.images * np.int64(len(truth.category_ids)) + detections.categories
        kept &= (detections.areas > 0) & np.isfinite(detections.areas)
        chosen = np.flatnonzero(kept)
        chosen = chosen[is_in(keys[chosen], truth.listed)]
        images, scores, categories = (
            column[chosen] for column in (detections.images, detections.scores, detections.categories)
        )
        # By category, then from the highest score; of equal scores, by image and as given.
        chosen = chosen[np.lexsort((images, -scores, categories))]
        keys = keys[chosen]
        if detections.masks is None:
            assert detections.boxes is not None
            pairs = box_pairs(keys, detections.boxes[chosen], truth)
        else:
            pairs = mask_pairs(keys, [detections.masks[place] for place in chosen], truth)
        matches = match(pairs, keys, self._ignored)
        dismissed = outside(detections.areas[chosen]) | is_in(keys, truth.not_exhaustive)[:, None]
        curves = accumulate(detections.categories[chosen], dismissed, matches, self._to_find)
        return summarize(curves, truth)


def prepare(
    annotations: str | Path | Mapping[str, Any], iou_type: IouType = "bbox", image_ids: Ints | None = None
) -> Evaluation:
    """Read annotations once, to evaluate the results of many detectors or classifiers: `prepare(path).evaluate(found)`.

    Args:
        image_ids: [I], of the images to evaluate on, as if there were no others; None: all.

    Raises:
        InputError: the annotations cannot be used (`evaluate_lvis`), or do not have an image.
    """
    return Evaluation(annotations, iou_type, image_ids)


def evaluate_lvis(
    annotations: str | Path | Mapping[str, Any],
    results: Results,
    iou_type: IouType = "bbox",
    *,
    evaluator: Evaluator = "columnar",
    fixed_ap: bool = False,
    max_dets: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Evaluate detections by LVIS's protocol.

    Args:
        annotations: a JSON file in LVIS format, or what it holds.
        results: a JSON file with a list of objects, such a list, or columns. Objects have image_id, category_id,
            score, and bbox ([x, y, width, height] in pixels) or, for masks, segmentation (an RLE or polygons). Columns
            are a mapping with image_id [N], category_id [N], boxes [N, 4] and scores [N].
        iou_type: bbox or segm, what overlaps.
        evaluator: columnar, or lvis for the `lvis` package, which is slow and gives the same.
        fixed_ap: keep the 10,000 highest scores of each category over all images, and any number an image.
        max_dets: how many detections of an image are kept, over all categories; 300 by the protocol.

    Returns:
        in points, 0 to 100, None where nothing defines them: ap, ap50, ap75; ap_s, ap_m, ap_l (small, medium, large
        objects); ap_r, ap_c, ap_f (rare, common, frequent categories); ar, ar_s, ar_m, ar_l (recall); and per_class,
        the AP of every category id.

    Raises:
        InputError: annotations or results are not of this form, or do not go together.
        EnvironmentFailure: the `lvis` package cannot be imported.
    """
    return prepare(annotations, iou_type).evaluate(results, evaluator=evaluator, fixed_ap=fixed_ap, max_dets=max_dets)


def _highest(detections: Detections, max_dets: int, fixed_ap: bool) -> Bools:
    """Which detections are among the highest scores of their image, or for Fixed AP of their category."""
    if fixed_ap:
        return highest_of(detections.categories, detections.scores, FIXED_AP_DETECTIONS)
    return highest_of(detections.images, detections.scores, max_dets)


def is_in(keys: Ints, ascending: Ints) -> Bools:
    """Whether every key is among some that are ascending, [N]."""
    if not len(ascending):
        return np.zeros(len(keys), dtype=bool)
    places = np.searchsorted(ascending, keys).clip(max=len(ascending) - 1)
    return np.asarray(ascending[places] == keys)


def highest_of(owners: Ints, scores: Floats, most: int) -> Bools:
    """Which rows are among so many highest scores of their owner, [N]; of equal scores, the first given are."""
    kept = np.ones(len(owners), dtype=bool)
    if not len(owners):
        return kept
    crowded = np.flatnonzero((np.bincount(owners) > most)[owners])
    order = crowded[np.lexsort((-scores[crowded], owners[crowded]))]
    ordered = owners[order]
    kept[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered) < most
    return kept
