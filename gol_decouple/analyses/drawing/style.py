"""What all figures share: sizes, colours that colour-blind people can tell apart, and how they are written."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gol_decouple.analyses.sources import OfSetting, by_setting
from gol_decouple.files import atomic_path

# Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
PANEL = 2.2  # inches, the side of a panel
# So many classifiers can be told apart in a figure.
DRAWN = 6
_DOTS_PER_INCH = 200
_OWN: Any = {  # whose type is every setting of matplotlib
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}


T = TypeVar("T", bound=OfSetting)


def drawn(found: Sequence[T]) -> list[T]:
    """Those that a figure shows: all if there is room, else the first of each setting, as far as there is."""
    if len(found) > DRAWN:
        found = [members[0] for members in by_setting(found).values()]
    return list(found[:DRAWN])


@contextmanager
def style() -> Iterator[None]:
    """Figures are made and written within; whatever the user's own matplotlibrc says, they look the same."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_OWN)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty one; in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def text(name: str, width: int = 24) -> str:
    """A name as it is, and never as a formula; in lines of a width."""
    lines = textwrap.wrap(name, width, break_on_hyphens=True) or [name]
    return "\n".join(lines).replace("$", r"\$")


class _Plain(LogFormatter):
    """Numbers as 0.6 and 2000, where a label has room."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_Plain())
    axes.yaxis.set_minor_formatter(_Plain(minor_thresholds=(1.0, 0.4)))


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, that of `axes`, below them."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    with style(), atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names can be of any script; the csv has them
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
