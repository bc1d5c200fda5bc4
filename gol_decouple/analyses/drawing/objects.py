"""Object distributions as maps, and their divergences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from gol_decouple.analyses.objects import ALL, TRUTH, Divergence, Objects
from gol_decouple.report.figures.style import COLOURS, MARKERS, new_figure, style, text

_MAP = 1.45  # inches, the side of a map
_TITLES = ("P(obj, u)", "P(y | obj, u)", "P(y, u)")
_NO_OBJECT = "0.85"  # the grey of cells where nothing is defined


def draw_category(found: Objects, names: Sequence[str], label: int, category: str) -> Figure:
    """The three distributions of one category: a row of maps for what is annotated and for each classifier.

    Args:
        names: of the classifiers that are shown.
    """
    rows = [TRUTH, *names]
    with style():
        figure = new_figure(3 * _MAP + 0.5, len(rows) * (_MAP + 0.2) + 0.9)
        panels = figure.subplots(len(rows), 3, squeeze=False)
        for place, (name, own) in enumerate(zip(rows, panels, strict=True)):
            told = found.of(name)
            values = (told.objects, told.classes[label], told.joint[label])
            for axes, title, cells in zip(own, _TITLES, values, strict=True):
                most = float(np.nanmax(cells)) if (cells > 0).any() else 0.0
                axes.set_facecolor(_NO_OBJECT)
                image = axes.imshow(
                    cells.reshape(found.grid, found.grid),
                    cmap="cividis",
                    vmin=0.0,
                    vmax=most or 1.0,
                    extent=(0, 1, 1, 0),
                )
                axes.set_title(f"{title}\n" * (place == 0) + f"max {most:.2g}")
                axes.set_xticks([0, 1] if place == len(rows) - 1 else [])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            own[0].set_ylabel(text(name.replace("_", " "), 18))
        panels[-1, 1].set_xlabel("centre of the box, in shares of the image")
        bar = figure.colorbar(
            image, ax=panels, location="bottom", shrink=0.6, aspect=40, pad=0.01, ticks=[0, image.norm.vmax]
        )
        bar.ax.set_xticklabels(["0", "maximum of the map"])
        figure.suptitle(f"y = {text(category, 60)}; grey: no objects", fontsize="medium")
        return figure


def draw_divergences(told: Sequence[Divergence], groups: Sequence[str]) -> Figure:
    """A row for every classifier, a marker for every group: of P(y, u) on the left, of P(u | y) on the right."""
    with style():
        figure = new_figure(5.6, 0.28 * len(told) + 1.5)
        panels = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(told))
        for group, colour, marker in zip((ALL, *groups), COLOURS, MARKERS, strict=False):
            joint = np.array([one.joint[group] for one in told])
            mean = np.array([one.mean[group] for one in told])
            if np.isnan(joint).all():
                continue
            for axes, values in zip(panels, (joint, mean), strict=True):
                axes.scatter(values, places, s=22, color=colour, marker=marker, label=group, linewidths=0)
        panels[0].set_yticks(places, [text(one.source.name, 40) for one in told])
        panels[0].set_ylim(len(told) - 0.5, -0.5)
        for axes, title in zip(panels, ("of P(y, u)", "of P(u | y), mean of categories"), strict=True):
            axes.set_title(title)
            axes.set_xlabel("KL divergence (nats)")
            axes.set_xlim(left=0.0)
            axes.grid(axis="y", linewidth=0.4, color="0.85")
            axes.set_axisbelow(True)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        return figure
