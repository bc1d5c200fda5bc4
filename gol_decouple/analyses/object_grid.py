"""Where objects are: counts of classes on a grid of box centres, what they are as probabilities, and how far apart.

Notation: y is a class, u a cell of the grid that every image is divided into, N(y, u) how many objects of y have their
centre in u. Predicted objects count as much as their score. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]

# The share of all probability that is spread evenly before distributions are compared: a / (1 + a).
SMOOTHING = 0.01


def centre_cells(boxes: NDArray[np.floating[Any]], sizes: Ints, grid: int) -> Ints:
    """The cell of each box's centre, row * grid + column, [N].

    Args:
        boxes: [N, 4], x1, y1, x2, y2 in pixels.
        sizes: [N, 2], height and width of each one's image in pixels; a centre outside is in the nearest cell.
    """
    centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2.0
    places = np.floor(centres / sizes[:, ::-1] * grid).astype(np.int64).clip(0, grid - 1)
    return np.asarray(places[:, 1] * grid + places[:, 0])


def empty_counts(num_classes: int, grid: int) -> Floats:
    """No objects: N(y, u), [C, grid * grid]."""
    return np.zeros((num_classes, grid * grid))


def add(counts: Floats, labels: Ints, cells: Ints, amounts: NDArray[np.floating[Any]] | float = 1.0) -> None:
    """Add objects [N] of some classes in some cells, each as much as its amount, to counts [C, U]."""
    np.add.at(counts, (labels, cells), amounts)


@dataclass(frozen=True)
class Distributions:
    """What counts N(y, u) [C, U] are as probabilities; NaN where nothing defines them.

    Attributes:
        objects: P(obj, u) = N(u) / N, the share of all objects that is in cell u, [U]; its sum is 1.
        classes: P(y | obj, u) = N(y, u) / N(u), of the objects in cell u, [C, U]; NaN in cells without objects.
        joint: P(y, u) = P(y | obj, u) P(obj, u) = N(y, u) / N, [C, U]; its sum is 1.
    """

    objects: Floats
    classes: Floats
    joint: Floats


def distributions(counts: Floats) -> Distributions:
    """P(obj, u), P(y | obj, u) and P(y, u) of counts [C, U]."""
    in_cell, total = counts.sum(0), counts.sum()
    with np.errstate(invalid="ignore"):
        return Distributions(in_cell / total, counts / in_cell, counts / total)


def divergence(truth: Floats, predicted: Floats, smoothing: float = SMOOTHING) -> float:
    """KL(truth || predicted) in nats, of counts of the same M events in any shape; NaN where truth has none.

    Both become probabilities P and then (P + a / M) / (sum P + a), which leaves no event impossible: so the divergence
    is finite, 0 where both are the same up to a factor, and what is never predicted counts as spread evenly.

    Args:
        smoothing: a.
    """
    p, q = (_smoothed(counts.ravel()[None], smoothing)[0] for counts in (truth, predicted))
    return float(np.sum(p * np.log(p / q))) if truth.sum() > 0 else float("nan")


def class_divergences(truth: Floats, predicted: Floats, smoothing: float = SMOOTHING) -> Floats:
    """`divergence` of each class's own P(u | y), [C], of counts [C, U]; NaN for classes without objects."""
    p, q = (_smoothed(counts, smoothing) for counts in (truth, predicted))
    found: Floats = np.where(truth.sum(1) > 0, np.sum(p * np.log(p / q), axis=1), np.nan)
    return found


def mean_of(values: Floats, chosen: Sequence[bool] | NDArray[np.bool_]) -> float:
    """The mean of those of some values that are defined; NaN if none is."""
    defined = values[np.asarray(chosen) & ~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _smoothed(counts: Floats, smoothing: float) -> Floats:
    """Each row [M] as smoothed probabilities; a row of zeros as even ones."""
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    smoothed: Floats = (shares + smoothing / counts.shape[1]) / ((totals > 0) + smoothing)
    return smoothed
