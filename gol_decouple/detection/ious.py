"""Which detections overlap which annotations of their group enough to be matched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gol_decouple.data.masks import Rle
from gol_decouple.detection.ground_truth import Floats, GroundTruth, Ints

LEAST_IOU = 0.5  # the lowest threshold of the protocol
_PAIRS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Pairs:
    """P pairs of a detection and an annotation of one group, with an IoU of at least `LEAST_IOU`.

    Attributes:
        detections: [P], ascending.
        truths: [P], places in the columns of `GroundTruth`.
        ious: [P], intersection over union.
    """

    detections: Ints
    truths: Ints
    ious: Floats


def box_pairs(keys: Ints, boxes: Floats, truth: GroundTruth) -> Pairs:
    """Pairs of boxes.

    Args:
        keys: [D], the group of every detection.
        boxes: [D, 4], x, y, width, height in pixels.
    """
    found = []
    for detections, truths in _candidates(keys, truth.keys):
        ious = _box_ious(boxes[detections], truth.boxes[truths])
        near = ious >= LEAST_IOU
        found.append(Pairs(detections[near], truths[near], ious[near]))
    return _joined(found)


def mask_pairs(keys: Ints, masks: list[Rle], truth: GroundTruth) -> Pairs:
    """Pairs of masks: a call of pycocotools for each group that has both.

    Args:
        keys: [D], the group of every detection.
    """
    assert truth.masks is not None
    by_group = np.argsort(keys, kind="stable")
    ordered = keys[by_group]
    groups = np.intersect1d(ordered, truth.keys)
    found = []
    edges = [np.searchsorted(of, groups, side) for of in (ordered, truth.keys) for side in ("left", "right")]
    for start, stop, first, last in np.stack(edges, 1).tolist():
        detections = by_group[start:stop]
        ious = _mask_ious([masks[place] for place in detections], truth.masks[first:last])
        rows, columns = np.nonzero(ious >= LEAST_IOU)
        found.append(Pairs(detections[rows], first + columns, ious[rows, columns]))
    pairs = _joined(found)
    order = np.argsort(pairs.detections, kind="stable")
    return Pairs(pairs.detections[order], pairs.truths[order], pairs.ious[order])


def _candidates(keys: Ints, truth_keys: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Every detection with every annotation of its group, so many at once that they fit in memory."""
    first = np.searchsorted(truth_keys, keys)
    counts = np.searchsorted(truth_keys, keys, "right") - first
    detections = np.flatnonzero(counts)
    sums = np.cumsum(counts[detections])
    start = 0
    while start < len(detections):
        done = sums[start - 1] if start else 0
        stop = max(int(np.searchsorted(sums, done + _PAIRS_AT_ONCE, "right")), start + 1)
        some = detections[start:stop]
        many = counts[some]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(some, many), np.repeat(first[some], many) + within
        start = stop


def _box_ious(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of each box with the other one of its row, in pycocotools' order of operations."""
    low = np.maximum(boxes[:, :2], others[:, :2])
    sides = np.minimum(boxes[:, 2:] + boxes[:, :2], others[:, 2:] + others[:, :2]) - low
    shared = sides[:, 0] * sides[:, 1]
    union = boxes[:, 2] * boxes[:, 3] + others[:, 2] * others[:, 3] - shared
    ious: Floats = np.divide(shared, union, out=np.zeros(len(boxes)), where=(sides > 0).all(1))
    return ious


def _mask_ious(masks: list[Rle], others: list[Rle]) -> Floats:
    """Intersection over union of every mask with every other, [N, M]."""
    from pycocotools import mask as coco

    return np.asarray(coco.iou(masks, others, [0] * len(others)), dtype=np.float64).reshape(len(masks), len(others))


def _joined(found: list[Pairs]) -> Pairs:
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    columns = (np.concatenate([getattr(pairs, name) for pairs in found]) for name in ("detections", "truths", "ious"))
    return Pairs(*columns)
