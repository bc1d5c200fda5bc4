"""Accuracy or AP of every class against how frequent it is, with a smoothed curve for each method."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import GREY, PANEL, legend_below, logarithmic_x, new_figure, settled, style, text
from gol_decouple.report.per_class import PerClass, mean_per_class

Floats = NDArray[np.float64]

BANDWIDTH = 0.15  # decades of the train count
POINTS = 101  # of a curve
# Dots that are drawn one by one in an SVG; more of them are one picture in it.
MOST_DOTS = 600
COLUMNS = ("method", "kind", "class", "name", "count", "value")


def smoothed(counts: NDArray[np.int64], values: Floats, at: Floats) -> Floats:
    """The weighted mean of classes' values around some counts, [P].

    A class of count n has the weight exp(-d^2 / 2), with d the difference of log10 n and log10 of the count where the
    curve is wanted, in units of BANDWIDTH (Nadaraya and Watson's estimate with a Gaussian kernel).

    Args:
        counts: of each class, [C]; 0 is taken as 1.
        values: [C]; classes of NaN are left out.
        at: counts above 0, [P].
    """
    present = ~np.isnan(values)
    logs = np.log10(np.maximum(counts[present], 1))
    distances = (np.log10(at)[:, None] - logs) / BANDWIDTH
    exponents = -0.5 * distances**2
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))  # far from every class, the nearest counts
    found: Floats = weights @ values[present] / weights.sum(axis=1)
    return found


def by_class(study: Study, progress: Progress) -> Drawn | None:
    """Dots and curves; where stage one is there, on the right how far each curve is above its own."""
    found = study.of_shown(_of, progress)
    if not found:
        return None
    counts = np.maximum(found[0][1].counts, 1)
    at = np.geomspace(counts.min(), counts.max(), POINTS) if counts.min() < counts.max() else counts[:1].astype(float)
    curves = [smoothed(one.counts, one.values, at) for _, one in found]
    base = next((curve for (setting, _), curve in zip(found, curves, strict=True) if setting.is_stage_one), None)
    unit, measure = ("train images", "AP") if study.is_detection else ("train samples", "accuracy (%)")
    with style():
        figure = new_figure(3.2 * PANEL if base is not None else 2 * PANEL, PANEL + 0.9)
        panels: list[Axes] = list(figure.subplots(1, 1 if base is None else 2, squeeze=False)[0])
        rasterized = len(found) * len(counts) > MOST_DOTS
        for (setting, one), curve in zip(found, curves, strict=True):
            look = study.look(setting)
            colour = GREY if setting.is_stage_one else look.colour
            dots: Any = {"s": 5.0, "marker": look.marker, "linewidths": 0, "alpha": 0.25, "zorder": 1}
            panels[0].scatter(counts, one.values, color=colour, rasterized=rasterized, **dots)
            shown: Any = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "markersize": 3.5}
            shown |= {"markevery": (0.05, 0.1), "label": text(setting.name), "zorder": 2 + setting.is_stage_one}
            panels[0].plot(at, curve, **shown)
            if base is not None:
                panels[1].plot(at, curve - base, **shown)
        panels[0].set_ylabel(f"{measure} of a class")
        panels[0].set_ylim(bottom=0.0)
        if base is not None:
            panels[1].set_ylabel("change to stage one (points)")
        for axes in panels:
            axes.set_xlabel(f"{unit} of the class")
            logarithmic_x(axes)
        legend_below(figure, panels[0], columns=4)
        settled(figure)
    ends = [(setting.name, curve[0], curve[-1]) for (setting, _), curve in zip(found, curves, strict=True)]
    measured = "AP" if study.is_detection else "Accuracy"
    return Drawn(
        study.name("by_class"),
        study.title(f"{measured} by class against {unit}"),
        f"A dot is a class (mean over seeds), a line the mean of the classes around a number of {unit}, weighted by a "
        f"Gaussian of {BANDWIDTH:g} decades"
        + ("." if base is None else "; on the right, how far each line is above that of stage one.")
        + study.left_out,
        f"{measured} of classes against {unit}. Smoothed, at {at[0]:,.0f} and at {at[-1]:,.0f} {unit}: "
        + "; ".join(f"{name} {low:.1f} and {high:.1f}" for name, low, high in ends)
        + ".",
        figure,
        COLUMNS,
        [row for (setting, one), curve in zip(found, curves, strict=True) for row in _rows(setting, one, at, curve)],
    )


def _of(setting: Setting) -> PerClass | None:
    found = mean_per_class(setting.seeds)
    return None if found is None or np.isnan(found.values).all() else found


def _rows(setting: Setting, one: PerClass, at: Floats, curve: Floats) -> list[tuple[object, ...]]:
    classes = zip(range(len(one.names)), one.names, one.counts.tolist(), one.values.tolist(), strict=True)
    dots = [(setting.name, "class", *values) for values in classes]
    return [*dots, *((setting.name, "curve", "", "", *pair) for pair in zip(at.tolist(), curve.tolist(), strict=True))]
