"""What all figures share: sizes, colours that colour-blind people can tell apart, and how texts are set."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gol_decouple.plain_text import plain_line

# Texts, axes and what is neutral, and nothing else: a page can give it the colour of its own texts.
INK = "#000000"
GREY = "#808080"  # is seen on white and on black
# Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
PANEL = 2.2  # inches, the side of a panel
_IN_A_ROW = 4  # panels
_MOST_LINES = 3  # of a name
T = TypeVar("T")
_OWN: Any = {  # whose type is every setting of matplotlib
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",  # texts stay texts
    "pdf.fonttype": 42,  # fonts that can be embedded and edited
}


@contextmanager
def style() -> Iterator[None]:
    """Figures are made and written within; whatever the user's own matplotlibrc says, they look the same."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names can be of any script; the csv has them
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_OWN)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty one; in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def text(name: str, width: int = 24) -> str:
    """A name as it is, and never as a formula; in a few lines of a width, what is not seen of it written out."""
    lines = textwrap.wrap(plain_line(name, width * _MOST_LINES), width, break_on_hyphens=True) or [""]
    return "\n".join(lines[:_MOST_LINES]).replace("$", r"\$")


class _Plain(LogFormatter):
    """Numbers as 0.6 and 2000, where a label has room."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_Plain())
    axes.yaxis.set_minor_formatter(_Plain(minor_thresholds=(1.0, 0.4)))


def logarithmic_x(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_Plain())
    axes.xaxis.set_minor_formatter(_Plain(minor_thresholds=(1.0, 0.4)))


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, that of `axes`, below them."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def settled(figure: Figure) -> None:
    """Place all parts of a figure for good, so that every file of it is the same."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def grid(
    found: Sequence[T],
    draw: Callable[[Axes, T], None],
    labels: tuple[str, str],
    side: tuple[float, float] = (PANEL - 0.4, PANEL - 0.2),
    same_axes: bool = True,
) -> Figure:
    """A figure with a panel for each of some things, four in a row, settled.

    Args:
        draw: one of them into its panel.
        labels: below the last panel of each column, and beside the first of each row.
        side: width and height that a panel takes, in inches.
        same_axes: whether all panels have the limits of all.
    """
    columns = min(_IN_A_ROW, len(found))
    lines = math.ceil(len(found) / columns)
    with style():
        figure = new_figure(columns * side[0] + 0.4, lines * side[1] + 0.2)
        panels = figure.subplots(lines, columns, squeeze=False, sharex=same_axes, sharey=same_axes).ravel()
        for place, (axes, one) in enumerate(zip(panels, found, strict=False)):
            draw(axes, one)
            if place % columns == 0:
                axes.set_ylabel(labels[1])
            if place + columns >= len(found):
                axes.set_xlabel(labels[0])
                axes.tick_params(labelbottom=True)
        for axes in panels[len(found) :]:
            axes.remove()
        settled(figure)
    return figure
