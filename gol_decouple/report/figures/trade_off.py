"""What methods have for frequent classes against what they have for rare ones, and which no other one betters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import GROUPS
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.labels import place_labels
from gol_decouple.report.figures.studies import Look, Setting, Study
from gol_decouple.report.figures.style import GREY, MARKERS, PANEL, new_figure, settled, style, text

_MOST_LABELS = 40
# Groups, most frequent first, with the field of each.
_ACCURACIES = {name: f"top1_{name}" for name in GROUPS}
_AP = {"frequent": "ap_f", "common": "ap_c", "rare": "ap_r"}


def on_front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of points [N, 2], those that no other one is as good as in both and better than in one, [N]."""
    at_least = np.all(values[None] >= values[:, None], axis=2)
    better = np.any(values[None] > values[:, None], axis=2)
    bettered = np.any(np.logical_and(at_least, better), axis=1)
    front: NDArray[np.bool_] = np.logical_not(bettered)
    return front


def trade_off(study: Study, progress: Progress) -> Drawn | None:
    """A point for each method, the front, and names beside points."""
    del progress  # nothing is read that could be missing
    fields = _AP if study.is_detection else _ACCURACIES
    if study.measure == "ap_box":
        fields = {name: f"{of}_box" for name, of in _AP.items()}
    there = [name for name, of in fields.items() if all(one.mean(of) is not None for one in _measured(study))]
    settings = _measured(study)
    if len(there) < 2 or len(settings) < 2:
        return None
    frequent, rare = there[0], there[-1]
    values = np.array([[one.mean(fields[frequent]), one.mean(fields[rare])] for one in settings], np.float64)
    front = on_front(values)
    measure = "AP" if study.is_detection else "accuracy (%)"
    with style():
        figure = new_figure(2.6 * PANEL, 2.0 * PANEL)
        axes = figure.subplots()
        line = values[front][np.argsort(values[front, 0])]
        axes.plot(line[:, 0], line[:, 1], drawstyle="steps-pre", color=GREY, linestyle="--", zorder=1)
        for setting, point in zip(settings, values, strict=True):
            look = study.look(setting) if setting in study.shown else Look(GREY, MARKERS[0], "-")
            axes.scatter(point[0], point[1], s=26, color=look.colour, marker=look.marker, linewidths=0, zorder=2)
        axes.set_xlabel(f"{measure} of {frequent} classes")
        axes.set_ylabel(f"{measure} of {rare} classes")
        axes.margins(0.12)
        settled(figure)
        named = [
            place
            for place, setting in enumerate(settings)
            if len(settings) <= _MOST_LABELS or front[place] or setting in study.shown
        ]
        named.sort(key=lambda place: not front[place])
        points = [(float(values[place, 0]), float(values[place, 1])) for place in named]
        place_labels(figure, axes, points, [text(settings[place].name) for place in named])
    best = [
        f"{settings[place].name} {values[place, 0]:.1f} and {values[place, 1]:.1f}" for place in np.flatnonzero(front)
    ]
    return Drawn(
        study.name("trade_off"),
        study.title(f"Trade-off between {frequent} and {rare}"),
        f"Each point is a method (mean over seeds). The dashed line is the front: for a method on it no other one is "
        f"better in both, for {frequent} and for {rare} classes; up and to the right is better. "
        "Methods in grey are not in the other figures.",
        f"{'AP' if study.is_detection else 'Accuracy'} of {frequent} against {rare} classes. On the front: "
        + "; ".join(best)
        + ".",
        figure,
        ("method", frequent, rare, "on_front"),
        [
            (setting.name, *pair, int(is_on))
            for setting, pair, is_on in zip(settings, values.tolist(), front.tolist(), strict=True)
        ],
    )


def _measured(study: Study) -> list[Setting]:
    return [setting for setting in study.settings if setting.mean(study.measure) is not None]
