"""Which detection is matched to which annotation, at every IoU threshold and size of objects at once.

Within a group, detections choose in the order of their scores; so the first of every group choose together, then the
second of every group, and so on. A detection takes the annotation not yet taken with which its IoU is largest, of equal
ones the last; one that is ignored only if no other is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.ground_truth import Bools, Floats, Ints
from gol_decouple.detection.ious import LEAST_IOU, Pairs

IOU_THRESHOLDS = np.linspace(LEAST_IOU, 0.95, 10)
# all, small, medium, large: least and largest area in square pixels, both included.
AREAS = np.array([(0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2)])

UNMATCHED, MATCHED, IGNORED = 0, 1, 2
_PAIRS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Matches:
    """What became of the K detections that are near enough to an annotation to be matched at some threshold.

    Attributes:
        detections: [K], ascending.
        outcomes: [K, thresholds, areas], UNMATCHED, MATCHED, or IGNORED: matched to an annotation that is ignored.
    """

    detections: Ints
    outcomes: NDArray[np.uint8]


def outside(areas: Floats) -> Bools:
    """Whether objects are too small or too large for each of `AREAS`: [N, areas]."""
    return np.asarray((areas[:, None] < AREAS[:, 0]) | (areas[:, None] > AREAS[:, 1]))


def match(pairs: Pairs, keys: Ints, ignored: Bools) -> Matches:
    """Match detections with annotations.

    Args:
        keys: [D], the group of every detection; of one group, the earlier detection chooses first.
        ignored: [A, areas], annotations that do not count.
    """
    detections, own = np.unique(pairs.detections, return_inverse=True)
    turns = _turns(keys[detections])[own]
    # In the order of turns and detections; of one detection, a later pair is the better match.
    order = np.lexsort((pairs.truths, pairs.ious, own, turns))
    outcomes = np.zeros((len(detections), len(IOU_THRESHOLDS), len(AREAS)), dtype=np.uint8)
    taken = np.zeros((len(ignored), len(IOU_THRESHOLDS), len(AREAS)), dtype=bool)
    for rows in _together(turns[order], own[order]):
        chosen = order[rows]
        starts = np.flatnonzero(np.diff(own[chosen], prepend=-1))
        truths = pairs.truths[chosen]
        outcomes[own[chosen[starts]]] = _choose(pairs.ious[chosen], truths, starts, ignored, taken)
    return Matches(detections, outcomes)


def _turns(groups: Ints) -> Ints:
    """How many of the same group come before each: [K]."""
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    turns = np.empty(len(groups), dtype=np.int64)
    turns[by_group] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return turns


def _together(turns: Ints, detections: Ints) -> Iterator[slice]:
    """Pairs of one turn; many are cut between detections, which are of different groups."""
    ends = np.flatnonzero(np.diff(turns, append=-1)) + 1
    start = 0
    for end in ends.tolist():
        while start < end:
            stop = end
            if end - start > _PAIRS_AT_ONCE:
                at = detections[start + _PAIRS_AT_ONCE]
                stop = start + int(np.searchsorted(detections[start:end], at, "right"))
            yield slice(start, stop)
            start = stop


def _choose(ious: Floats, truths: Ints, starts: Ints, ignored: Bools, taken: Bools) -> NDArray[np.uint8]:
    """Outcomes of the detections whose pairs begin at `starts`; what they choose is then taken."""
    number = len(ious)
    free = (ious[:, None] >= IOU_THRESHOLDS)[:, :, None] & ~taken[truths]
    rank = np.arange(1, number + 1)[:, None] + number * ~ignored[truths]
    best = np.maximum.reduceat(np.where(free, rank[:, None, :].astype(np.int32), 0), starts, axis=0)
    place, threshold, area = np.nonzero(best)
    taken[truths[(best[place, threshold, area] - 1) % number], threshold, area] = True
    return np.where(best > number, MATCHED, np.where(best > 0, IGNORED, UNMATCHED)).astype(np.uint8)
