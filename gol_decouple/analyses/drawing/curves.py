"""Activations and gradients as curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gol_decouple.analyses.curves import SOFTMAX, Curve
from gol_decouple.report.figures.style import COLOURS, PANEL, legend_below, logarithmic, new_figure, style

_STYLES = {"sigmoid": "-", "gumbel": "-", "gumbel_published": "--", SOFTMAX: ":"}
_POSITIVE = (1e-3, 2e2)  # what is shown of the gradients of positives; those of gumbel_published vanish
_NAMES = {SOFTMAX: "softmax, two classes"}


def draw_curves(found: Sequence[Curve]) -> Figure:
    """Three panels: eta, and how large the gradient is for positives (on a logarithmic axis) and for negatives."""
    with style():
        figure = new_figure(3 * PANEL, PANEL + 0.5)
        panels = figure.subplots(1, 3)
        for curve, colour in zip(found, COLOURS, strict=False):
            shown = {"color": colour, "linestyle": _STYLES.get(curve.name, "-"), "label": _NAMES.get(curve.name)}
            shown["label"] = shown["label"] or curve.name
            sizes = np.abs(curve.positive)
            values = (curve.eta, np.where(sizes > 0, sizes, np.nan), curve.negative)
            for axes, each in zip(panels, values, strict=True):
                axes.plot(curve.q, each, **shown)
        logarithmic(panels[1])
        panels[1].set_ylim(*_POSITIVE)
        names = ("score η(q)", "|dL/dq| where y = 1", "dL/dq where y = 0")
        for axes, name in zip(panels, names, strict=True):
            axes.set_xlabel("logit q")
            axes.set_ylabel(name)
            axes.set_xlim(found[0].q[0], found[0].q[-1])
        legend_below(figure, panels[0], columns=4)
        return figure
