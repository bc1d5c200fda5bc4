"""How long each class's weights are, against how frequent it is (GOL, ECCV 2022, Figure 1)."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.figures import CLASS_AP
from gol_decouple.errors import InputError
from gol_decouple.metrics import rank_correlation
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import GREY, PANEL, logarithmic_x, new_figure, settled, style, text
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.rows import Row, frequency_counts
from gol_decouple.runs import PER_CLASS, WEIGHT_NORM

COLUMNS = ("method", "class", "count", "weight_norm")
_PANELS = 4  # in a row
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
        again = f"gol-decouple stage2 {study.run} --method NAME --overwrite"
        progress.say(f"{study.run}: no table of classes has {WEIGHT_NORM}, so norms are not drawn; {again} makes one")
        return None
    unit = "train images" if study.is_detection else "train samples"
    columns = min(_PANELS, len(found))
    lines = math.ceil(len(found) / columns)
    with style():
        figure = new_figure(columns * (PANEL - 0.35) + 0.3, lines * (PANEL - 0.3) + 0.2)
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for place, (axes, (setting, one)) in enumerate(zip(panels, found, strict=False)):
            look = study.look(setting)
            colour = GREY if setting.is_stage_one else look.colour
            rasterized = len(found) * len(one.norms) > _MOST_DOTS
            shown: Any = {"s": 8.0, "color": colour, "marker": look.marker, "linewidths": 0}
            axes.scatter(np.maximum(one.counts, 1), one.norms, **shown, rasterized=rasterized)
            axes.set_title(f"{text(setting.name)}\nrank correlation {_signed(one.correlation)}")
            axes.set_ylim(0.0, 1.08 * float(one.norms.max()) or 1.0)
            logarithmic_x(axes)
            if place % columns == 0:
                axes.set_ylabel("norm of the weight")
            if place + columns >= len(found):
                axes.set_xlabel(unit)
        for axes in panels[len(found) :]:
            axes.remove()
        settled(figure)
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
        [
            (setting.name, label, *pair)
            for setting, one in found
            for label, pair in enumerate(zip(one.counts.tolist(), one.norms.tolist(), strict=True))
        ],
    )


def norms_of(setting: Setting) -> Norms | None:
    """The norms that tables of classes tell of a setting, of the seeds that have them; None where none has.

    Raises:
        InputError: a table is damaged.
    """
    norms = [_read(row) for row in setting.seeds]
    present = [one for one in norms if one is not None]
    if not present:
        return None
    counts = np.array(frequency_counts(setting.seeds[0]), np.int64)
    correlations = [rank_correlation(one, counts) for one in present]
    return Norms(counts, np.mean(present, axis=0), float(np.mean(correlations)))


def _read(row: Row) -> NDArray[np.float64] | None:
    path = Path(row["path"]) / (PER_CLASS if row["test_settings"] is None else CLASS_AP)
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, strict=True))
        if not table or not all(each.get(WEIGHT_NORM) for each in table):
            return None
        norms = np.array([float(each[WEIGHT_NORM]) for each in table])
        if len(norms) != len(frequency_counts(row)):
            raise ValueError(f"it has {len(norms)} classes, and its run {len(frequency_counts(row))}")
        if not (np.isfinite(norms).all() and (norms >= 0).all()):
            raise ValueError(f"a {WEIGHT_NORM} is none")
        return norms
    except (OSError, ValueError, TypeError, csv.Error) as error:
        hint = f"repeat the command that made it with --overwrite, or remove {path} to go without"
        raise InputError(f"{path} is not a readable table of classes: {error}", hint) from None


def _signed(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:+.2f}"
