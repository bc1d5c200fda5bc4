"""How long each class's weights are, against how frequent it is (GOL, ECCV 2022, Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gol_decouple.metrics import rank_correlation
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import GREY, PANEL, grid, logarithmic_x, text
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.per_class import read_per_class
from gol_decouple.report.rows import frequency_counts
from gol_decouple.runs import WEIGHT_NORM

COLUMNS = ("method", "class", "count", "weight_norm")
_MOST_DOTS = 1200  # beyond, those of an SVG are one picture in it


@dataclass(frozen=True, eq=False)
class Norms:
    """Of a setting.

    Attributes:
        counts: how frequent each class is, [C].
        norms: the mean over seeds of the norms of each class's weight, [C].
        correlation: the mean over seeds of Spearman's, of norms and counts; NaN where either is the same for all.
    """

    counts: NDArray[np.int64]
    norms: NDArray[np.float64]
    correlation: float


def weight_norms(study: Study, progress: Progress) -> Drawn | None:
    """A panel for each method, with the rank correlation."""
    found = study.of_shown(norms_of, progress)
    missing = [setting.name for setting in study.shown if setting not in [one for one, _ in found]]
    if not found:
        lacking = f"{study.run}: no table of classes has {WEIGHT_NORM}, so norms are not drawn"
        progress.say(f"{lacking}; {study.again} makes one")
        return None
    unit = "train images" if study.is_detection else "train samples"

    def draw(axes: Axes, of_setting: tuple[Setting, Norms]) -> None:
        setting, one = of_setting
        look = study.look(setting)
        shown: Any = {"color": GREY if setting.is_stage_one else look.colour, "marker": look.marker}
        shown["rasterized"] = len(found) * len(one.norms) > _MOST_DOTS
        axes.scatter(np.maximum(one.counts, 1), one.norms, s=8.0, linewidths=0, **shown)
        axes.set_title(f"{text(setting.name)}\nrank correlation {_signed(one.correlation)}")
        axes.set_ylim(0.0, 1.08 * float(one.norms.max()) or 1.0)
        logarithmic_x(axes)

    figure = grid(found, draw, (unit, "norm of the weight"), (PANEL - 0.35, PANEL - 0.3), same_axes=False)
    told = f" No norms are known of {', '.join(missing)}." if missing else ""
    return Drawn(
        study.name("weight_norms"),
        study.title(f"Norms of classes' weights against {unit}"),
        "A dot is a class: the Euclidean norm of its weight in the classifier as it is applied, without bias, mean "
        f"over seeds. Spearman's rank correlation of norms and {unit}: near 0, frequent classes have no longer weights "
        f"than rare ones.{told}{study.left_out}",
        f"Norms of classes' weights against {unit}, with rank correlations: "
        + "; ".join(f"{setting.name} {_signed(one.correlation)}" for setting, one in found)
        + ".",
        figure,
        COLUMNS,
        [row for setting, one in found for row in _rows(setting.name, one)],
    )


def _rows(name: str, one: Norms) -> list[tuple[object, ...]]:
    pairs = zip(one.counts.tolist(), one.norms.tolist(), strict=True)
    return [(name, label, *pair) for label, pair in enumerate(pairs)]


def norms_of(setting: Setting) -> Norms | None:
    """The norms that tables of classes tell of a setting, of the seeds that have them; None where none has.

    Raises:
        InputError: a table is damaged.
    """
    tables = [read_per_class(row) for row in setting.seeds]
    present = [one.norms for one in tables if one is not None and one.norms is not None]
    if not present:
        return None
    counts = np.array(frequency_counts(setting.seeds[0]), np.int64)
    correlations = [rank_correlation(one, counts) for one in present]
    return Norms(counts, np.mean(present, axis=0), float(np.mean(correlations)))


def _signed(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:+.2f}"
