"""Names beside points, where they cover each other least."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gol_decouple.report.figures.style import GREY, INK

Floats = NDArray[np.float64]

# In points, from the point that is named: tried in this order.
_DISTANCES = (5.0, 12.0, 20.0, 30.0, 42.0)
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
_ALIGNED = {-1: "right", 0: "center", 1: "left"}
_UPRIGHT = {-1: "top", 0: "center", 1: "bottom"}
_CLEAR = 5.0  # points around a point that no name should cover
_SMALL = 6.5


def place_labels(figure: Figure, axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write a name beside each of some points of `axes`, with a thin line to it where it is not next to it.

    One after the other, each where it covers least of the names before it, of all points, and of what is outside.

    Args:
        figure: with its layout settled.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    scale = figure.dpi / 72.0
    pixels = axes.transData.transform(list(points))
    taken = np.concatenate([pixels - _CLEAR * scale / 2, pixels + _CLEAR * scale / 2], axis=1)
    inside = np.array([[axes.bbox.x0, axes.bbox.y0, figure.bbox.x1, figure.bbox.y1]])
    tried = [(distance, x, y) for distance in _DISTANCES for x, y in _DIRECTIONS]
    for point, pixel, name in zip(points, pixels, names, strict=True):
        sized = axes.text(*point, name, fontsize=_SMALL)
        size = np.asarray(sized.get_window_extent(renderer).size)
        sized.remove()
        boxes = np.array([_box(pixel, distance * scale, x, y, size) for distance, x, y in tried])
        covered = np.prod(size) - _common(boxes, inside) + _common(boxes, taken)
        best = int(np.argmin(covered.round(3)))  # the first of equal ones
        taken = np.concatenate([taken, boxes[best : best + 1]])
        _write(axes, name, point, *tried[best])


def _box(pixel: Floats, distance: float, x: float, y: float, size: Floats) -> Floats:
    """What a name covers that is written to one side of a place, or in the middle of it: left, bottom, right, top."""
    away = np.array([x, y])
    corner: Floats = pixel + away * distance - size * (0.5 - 0.5 * away.round())
    return np.concatenate([corner, corner + size])


def _common(boxes: Floats, others: Floats) -> Floats:
    """The area of each of some boxes [N, 4] that others [M, 4] cover, [N]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas: Floats = np.clip(high - low, 0.0, None).prod(axis=2).sum(axis=1)
    return areas


def _write(axes: Axes, name: str, point: tuple[float, float], distance: float, x: float, y: float) -> None:
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        *(name, point, (x * distance, y * distance)),
        textcoords="offset points",
        fontsize=_SMALL,
        color=INK,
        ha=_ALIGNED[round(x)],
        va=_UPRIGHT[round(y)],
        arrowprops=line if distance > _DISTANCES[0] else None,
    )
