"""Figures with a dot for each class, from the most frequent to the least: weight norms and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gol_decouple.analyses.drawing.shown import drawn
from gol_decouple.analyses.gradients import Mass
from gol_decouple.analyses.norms import Norms
from gol_decouple.analyses.object_grid import Floats, Ints
from gol_decouple.analyses.sources import Frequencies
from gol_decouple.report.figures.style import (
    COLOURS,
    MARKERS,
    PANEL,
    legend_below,
    logarithmic,
    new_figure,
    style,
    text,
)
from gol_decouple.report.layout import EMPTY

_COLUMNS = 3
_LARGEST_DOT, _SMALLEST_DOT = 16.0, 2.0  # square points
_RANK = "class, most frequent first"


def draw_norms(found: Sequence[Norms], frequencies: Frequencies) -> Figure:
    """A panel for each classifier, with the rank correlation."""
    shown = drawn(found)
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with style():
        figure = new_figure(columns * PANEL + 0.6, rows * PANEL + 0.5)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for place, (axes, one) in enumerate(zip(panels, shown, strict=False)):
            _groups(axes, one.norms, frequencies)
            correlation = EMPTY if np.isnan(one.correlation) else f"{one.correlation:+.2f}"
            axes.set_title(f"{text(one.source.name)}\nrank correlation {correlation}")
            axes.set_ylim(0.0, 1.08 * float(one.norms.max()) or 1.0)
            if place % columns == 0:
                axes.set_ylabel("norm of the class's weight")
            if place + columns >= len(shown):
                axes.set_xlabel(_RANK)
        for axes in panels[len(shown) :]:
            axes.remove()
        legend_below(figure, panels[0], columns=len(frequencies.names))
        return figure


def draw_gradients(found: Sequence[Mass], frequencies: Frequencies, background: bool) -> Figure:
    """For each classifier, positive and negative gradient on the left, and their ratio on the right."""
    shown = drawn(found)
    with style():
        figure = new_figure(2 * PANEL + 1.0, len(shown) * (PANEL - 0.3) + 0.8)
        panels = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), one in zip(panels, shown, strict=True):
            parts = {"positive": one.positive, "negative": one.negative}
            parts |= {"background": one.background} if background else {}
            # Not those of the groups on the right.
            for (name, sums), colour, marker in zip(parts.items(), COLOURS[3:], MARKERS[3:], strict=False):
                _dots(left, np.arange(1, len(sums) + 1), sums[frequencies.order], colour, marker, name)
            _groups(right, one.ratio, frequencies)
            right.axhline(1.0, color="0.5", linewidth=0.8, zorder=0)
            for axes in (left, right):
                logarithmic(axes)
            left.set_ylabel(f"{text(one.source.name)}\nΣ |dL/dq|")
            right.set_ylabel("positive / all others")
        for axes in panels[-1]:
            axes.set_xlabel(_RANK)
        for axes in panels[0]:
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3}
            axes.legend(**place, fontsize="small", handletextpad=0.1, columnspacing=0.8)
        return figure


def _groups(axes: Axes, values: Floats, frequencies: Frequencies) -> None:
    """Values [C] in the colours of the classes' groups."""
    order = frequencies.order
    ranks = np.arange(1, len(order) + 1)
    for name, colour, marker in zip(frequencies.names, COLOURS, MARKERS, strict=False):
        members = frequencies.groups[order] == name
        if members.any():
            _dots(axes, ranks[members], values[order][members], colour, marker, name, len(order))


def _dots(axes: Axes, ranks: Ints, values: Floats, colour: str, marker: str, name: str, of: int | None = None) -> None:
    size = float(np.clip(1500.0 / (of or len(ranks)), _SMALLEST_DOT, _LARGEST_DOT))
    axes.scatter(ranks, values, s=size, color=colour, marker=marker, label=name, linewidths=0)
