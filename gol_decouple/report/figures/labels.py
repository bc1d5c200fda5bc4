"""Names beside points, where they cover each other least."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gol_decouple.report.figures.style import GREY, INK

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
    taken = [Bbox.from_extents(*(pixel - _CLEAR * scale / 2), *(pixel + _CLEAR * scale / 2)) for pixel in pixels]
    for point, name in zip(points, names, strict=True):
        best, least = None, float("inf")
        for distance, (x, y) in itertools.product(_DISTANCES, _DIRECTIONS):
            text = axes.annotate(
                *(name, point, (x * distance, y * distance)),
                textcoords="offset points",
                fontsize=_SMALL,
                color=INK,
                ha=_ALIGNED[round(x)],
                va=_UPRIGHT[round(y)],
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
                if distance > _DISTANCES[1]
                else None,
            )
            box = text.get_window_extent(renderer)
            outside = box.width * box.height - _common(box, axes.bbox.expanded(1.15, 1.1))
            covered = outside + sum(_common(box, other) for other in taken)
            if covered >= least:
                text.remove()
                continue
            if best is not None:
                best.remove()
            best, least = text, covered
            if covered <= 0.0:
                break
        if best is not None:
            taken.append(best.get_window_extent(renderer))


def _common(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
