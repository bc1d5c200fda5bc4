"""How the trainings of both stages went, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import PANEL, logarithmic, new_figure, settled, style, text
from gol_decouple.runs import LOG
from gol_decouple.stages.training_log import read_log

Curves = Mapping[str, NDArray[np.float64]]

COLUMNS = ("method", "epoch", "lr", "train_loss", "accuracy")
_NAMES = {"train_loss": "train loss", "accuracy": "test accuracy (%)", "lr": "learning rate"}


def mean_log(logs: Sequence[Mapping[str, Sequence[float]]]) -> Curves:
    """The columns of several logs, their means over seeds; of trainings of other lengths, the first one's."""
    first = logs[0]
    same = [one for one in logs if len(one["epoch"]) == len(first["epoch"]) and one.keys() == first.keys()]
    return {name: np.mean([one[name] for one in same], axis=0) for name in first}


def training(study: Study, progress: Progress) -> Drawn | None:
    """Loss, accuracy and learning rate: a row of panels for each stage."""
    found = study.of_shown(_of, progress)
    _tell_missing(study, progress)
    stages = [
        part for part in ([one for one in found if one[0].is_stage_one is first] for first in (True, False)) if part
    ]
    if not stages:
        return None
    columns = max(len(_columns(part)) for part in stages)
    with style():
        figure = new_figure(columns * PANEL + 0.4, len(stages) * (PANEL - 0.2) + 0.6)
        panels = figure.subplots(len(stages), columns, squeeze=False)
        for line, part in zip(panels, stages, strict=True):
            _draw(study, line, part)
        for axes in panels[-1]:
            axes.set_xlabel("epoch")
        handles = [one for axes in panels[:, 0] for one in axes.get_legend_handles_labels()[0]]
        figure.legend(handles, [one.get_label() for one in handles], loc="outside lower center", ncols=4)
        settled(figure)
    told = [
        f"{setting.name} from {log['train_loss'][0]:.3g} to {log['train_loss'][-1]:.3g} in {len(log['epoch'])} epochs"
        for setting, log in found
    ]
    return Drawn(
        study.name("training"),
        study.title("Training"),
        "Of every epoch the mean train loss, the learning rate at its start and, of stage one where it was measured, "
        "accuracy. Means over seeds; the losses of different methods cannot be compared, how they fall can."
        + study.left_out,
        "Train loss: " + "; ".join(told) + ".",
        figure,
        COLUMNS,
        [row for setting, log in found for row in _rows(setting.name, log)],
    )


def _tell_missing(study: Study, progress: Progress) -> None:
    """That trainings have no log; of damaged ones is told what is wrong, and stage one is trained for its log alone."""
    missing = [one for one in study.shown if one.seeds[0]["epochs"] and not _logs(one)]
    if missing:
        again = "" if all(one.is_stage_one for one in missing) else f"; {study.again}"
        names = ", ".join(one.name for one in missing)
        progress.say(f"{study.run}: no {LOG} of {names}, so how they were trained is not drawn{again}")


def _logs(setting: Setting) -> list[Path]:
    paths = [Path(row["path"]) / LOG for row in setting.seeds]
    return [path for path in paths if path.is_file()]


def _of(setting: Setting) -> Curves | None:
    logs = [read_log(path) for path in _logs(setting)]
    logs = [log for log in logs if log["epoch"]]
    return mean_log(logs) if logs else None


def _columns(part: Sequence[tuple[Setting, Curves]]) -> list[str]:
    """What there is to draw of a stage."""
    return [name for name in _NAMES if any(np.isfinite(log.get(name, math.nan)).any() for _, log in part)]


def _draw(study: Study, panels: Sequence[Axes], part: Sequence[tuple[Setting, Curves]]) -> None:
    is_first = part[0][0].is_stage_one
    names = _columns(part)
    for axes, name in zip(panels, names, strict=False):
        for setting, log in part:
            values = log.get(name)
            if values is None:
                continue
            look, there = study.look(setting), np.isfinite(values)
            few = int(there.sum()) <= 1  # of one epoch there is no line
            axes.plot(
                log["epoch"][there],
                values[there],
                color=look.colour,
                linestyle=look.line,
                marker=look.marker if few or name == "accuracy" else None,
                markersize=3.0,
                label=text(setting.name),
            )
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        shown = np.concatenate([log[name] for _, log in part if name in log])
        if not is_first and (shown > 0).all():
            logarithmic(axes)
        axes.set_ylabel(
            f"{'stage one' if is_first else 'stage two'}: {_NAMES[name]}" if name == names[0] else _NAMES[name]
        )
    for axes in panels[len(names) :]:
        axes.set_axis_off()


def _rows(name: str, log: Curves) -> list[tuple[object, ...]]:
    empty = np.full(len(log["epoch"]), np.nan)
    values = [log[column].tolist() for column in COLUMNS[2:4]] + [log.get("accuracy", empty).tolist()]
    return [(name, int(epoch), *each) for epoch, *each in zip(log["epoch"], *values, strict=True)]
