"""Non-maximum suppression within each class, of boxes that come from the highest score down, some at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.ground_truth import Bools, Ints

Boxes = NDArray[np.float32]


class Survivors:
    """The boxes that no box of their class with a higher score overlaps, of all that were offered.

    Whether a box survives depends on those before it alone, so that nothing after the last one wanted has to be known.

    Attributes:
        boxes: float32 [N, 4], x1, y1, x2, y2.
        classes: [N].
    """

    def __init__(self, threshold: float) -> None:
        # A Python float would be rounded to float32 beside the IoUs, and some of them are equal to it then.
        self._threshold = np.float64(threshold)
        self.boxes: Boxes = np.zeros((0, 4), dtype=np.float32)
        self.classes: Ints = np.zeros(0, dtype=np.int64)

    def add(self, boxes: Boxes, classes: Ints) -> Ints:
        """Places [n] of those offered that survive.

        Args:
            boxes: float32 [N, 4], of scores not above those of former ones, from the highest to the lowest; no side
                is 0.
            classes: [N].
        """
        first = len(self.boxes)
        all_boxes, all_classes = np.concatenate([self.boxes, boxes]), np.concatenate([self.classes, classes])
        earlier, later = _pairs(all_classes, first)
        near = _ious(all_boxes[earlier], all_boxes[later]) > self._threshold
        kept = _greedy(earlier[near], later[near], len(all_boxes))
        self.boxes, self.classes = all_boxes[kept], all_classes[kept]
        return np.flatnonzero(kept[first:])


def _pairs(classes: Ints, first: int) -> tuple[Ints, Ints]:
    """Every two places of one class, the later of which is at least `first`."""
    by_class = np.argsort(classes, kind="stable")
    ordered = classes[by_class]
    rank = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    rank[by_class < first] = 0
    later = np.repeat(np.arange(len(classes)), rank)
    earlier = later - 1 - (np.arange(len(later)) - np.repeat(np.cumsum(rank) - rank, rank))
    return by_class[earlier], by_class[later]


def _ious(boxes: Boxes, others: Boxes) -> Boxes:
    """Intersection over union of each box with the other of its row, in float32 and torchvision's order of steps."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    found: Boxes = shared / (_areas(boxes) + _areas(others) - shared)
    return found


def _areas(boxes: Boxes) -> Boxes:
    areas: Boxes = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return areas


def _greedy(earlier: Ints, later: Ints, number: int) -> Bools:
    """Which are overlapped by no earlier one that is kept itself: [number].

    Each pass settles those whose earlier ones are settled, so that there are as many as the longest chain has boxes.
    """
    kept = np.ones(number, dtype=bool)
    while True:
        now = np.ones(number, dtype=bool)
        now[later[kept[earlier]]] = False
        if np.array_equal(now, kept):
            return kept
        kept = now
