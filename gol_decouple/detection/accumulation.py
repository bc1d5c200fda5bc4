"""Precision and recall of every category from its matched detections, and the figures that sum them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.ground_truth import Bools, Floats, GroundTruth, Ints
from gol_decouple.detection.matching import AREAS, IOU_THRESHOLDS, MATCHED, UNMATCHED, Matches
from gol_decouple.reported_ap import FREQUENCIES

RECALLS = np.linspace(0.0, 1.0, 101)
ALL, SMALL, MEDIUM, LARGE = range(len(AREAS))
_SIZES = {"s": SMALL, "m": MEDIUM, "l": LARGE}
_THRESHOLDS = {"ap50": 0, "ap75": 5}


@dataclass(frozen=True)
class Curves:
    """NaN where a category has no annotation to find.

    Attributes:
        precision: [categories, thresholds, areas, 101], the best at each recall or above.
        recall: [categories, thresholds, areas], of all detections.
    """

    precision: Floats
    recall: Floats


def accumulate(categories: Ints, dismissed: Bools, matches: Matches, to_find: Ints) -> Curves:
    """Curves of every category.

    Args:
        categories: [D], of the detections, ascending; of one category, from the highest score to the lowest.
        dismissed: [D, areas], whether a detection is no mistake when it is unmatched.
        to_find: [categories, areas], how many annotations count.
    """
    number = len(to_find)
    precision = np.full((number, len(IOU_THRESHOLDS), len(AREAS), len(RECALLS)), np.nan)
    recall = np.full(precision.shape[:3], np.nan)
    precision[:, :, :][np.broadcast_to((to_find > 0)[:, None], recall.shape)] = 0.0
    recall[np.broadcast_to((to_find > 0)[:, None], recall.shape)] = 0.0
    edges = np.searchsorted(categories, np.arange(number + 1))
    near = np.searchsorted(matches.detections, edges)
    for category in np.flatnonzero(near[1:] > near[:-1]):
        some = slice(near[category], near[category + 1])
        start, stop = edges[category], edges[category + 1]
        outcomes, places = matches.outcomes[some], matches.detections[some] - start
        true, false = _counts(outcomes, places, dismissed[start:stop])
        best = _best_precision(true, false)
        for area in np.flatnonzero(to_find[category]):
            # The number of annotations that must be found to reach each recall; the first for recall 0.
            found = np.arange(1, to_find[category, area] + 1) / to_find[category, area]
            needed = np.searchsorted(found, RECALLS) + 1
            recall[category, :, area] = true[-1, :, area] / to_find[category, area]
            for threshold in np.flatnonzero(true[-1, :, area]):
                rows = np.searchsorted(true[:, threshold, area], needed)
                reached = rows < len(true)
                precision[category, threshold, area, reached] = best[rows[reached], threshold, area]
    return Curves(precision, recall)


def _counts(outcomes: NDArray[np.uint8], places: Ints, dismissed: Bools) -> tuple[Ints, Ints]:
    """True and false positives down to each of the K detections that are near annotations: [K, thresholds, areas].

    Args:
        places: [K], where they are among the category's n detections.
        dismissed: [n, areas].
    """
    mistakes = ~dismissed
    mistakes[places] = False
    far = np.cumsum(mistakes, axis=0)[places][:, None]
    false = np.cumsum((outcomes == UNMATCHED) & ~dismissed[places][:, None], axis=0) + far
    return np.cumsum(outcomes == MATCHED, axis=0), false


def _best_precision(true: Ints, false: Ints) -> Floats:
    """The largest precision at each place or after it.

    That of a detection which is not matched is never larger than that of the last one matched before it, so those far
    from annotations need not be here.
    """
    precision = true / (false + true + np.spacing(1))
    return np.asarray(np.maximum.accumulate(precision[::-1], axis=0)[::-1])


def summarize(curves: Curves, truth: GroundTruth) -> dict[str, Any]:
    """The figures of LVIS in points, 0 to 100, None where nothing defines them; and `per_class`, AP by category id."""
    precision, recall = curves.precision, curves.recall
    figures: dict[str, Any] = {"ap": _points(precision[:, :, ALL])}
    figures |= {name: _points(precision[:, threshold, ALL]) for name, threshold in _THRESHOLDS.items()}
    figures |= {f"ap_{size}": _points(precision[:, :, area]) for size, area in _SIZES.items()}
    for frequency in FREQUENCIES:
        members = None if truth.frequencies is None else truth.frequencies == frequency
        figures[f"ap_{frequency}"] = None if members is None else _points(precision[members, :, ALL])
    figures["ar"] = _points(recall[:, :, ALL])
    figures |= {f"ar_{size}": _points(recall[:, :, area]) for size, area in _SIZES.items()}
    ids = truth.category_ids.tolist()
    figures["per_class"] = {id_: _points(precision[place, :, ALL]) for place, id_ in enumerate(ids)}
    return figures


def _points(values: Floats) -> float | None:
    defined = values[~np.isnan(values)]
    return 100 * float(defined.mean()) if len(defined) else None
