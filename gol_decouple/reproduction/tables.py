"""The tables of a reproduction, of the rows and records of its columns: the papers' figures beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gol_decouple.bootstrap import Gain
from gol_decouple.class_stats import GROUPS
from gol_decouple.report import noise
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.paper import SOURCE
from gol_decouple.report.points import bounds, signed
from gol_decouple.report.rows import STAGE_ONE, Row, method_of, settings_text
from gol_decouple.reproduction.plan import METHODS, Column
from gol_decouple.reproduction.records import Record, gains_over, made_of
from gol_decouple.reproduction.results import Results

_BALANCED_ACTIVATION = "Balanced Activation, LVIS workshop 2020, Table 1"
_SHOWN = {STAGE_ONE: "softmax (stage one)", "softmax": "softmax re-trained", "gumbel_paper": "gumbel, paper's setting"}


@dataclass(frozen=True)
class _Line:
    """One method of a column.

    Attributes:
        of_models: its rows on each model of stage one, those of the seeds of stage two together.
    """

    method: str
    of_models: list[list[Row]]

    @property
    def first(self) -> Row:
        return self.of_models[0][0]

    def means(self, name: str) -> list[float]:
        """Of each model the mean over seeds of stage two; of those that have the figure."""
        every = [[row[name] for row in rows if row[name] is not None] for rows in self.of_models]
        return [statistics.fmean(values) for values in every if values]


def tables(results: Results) -> list[TextTable]:
    """Top-1 beside the papers', where the gain comes from, what is left of it over retrained ones, and what was run."""
    column, record, lines = results.column, results.record, _lines(results.rows)
    return [
        _beside(column, lines),
        _groups(column, lines),
        _over_retrained(column, lines, record),
        _what_was_run(column, record),
    ]


def _lines(rows: Sequence[Row]) -> list[_Line]:
    order = {name: place for place, name in enumerate((STAGE_ONE, *METHODS))}
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: order.get(method_of(row), len(order))):
        of_runs = found.setdefault((method_of(row), _settings(row)), {})
        of_runs.setdefault(row["run"], []).append(row)
    return [_Line(method, list(of_runs.values())) for (method, _), of_runs in found.items()]


def _settings(row: Row) -> str:
    return "" if row["stage"] == 1 else settings_text(row)


def _beside(column: Column, lines: list[_Line]) -> TextTable:
    stage_one = next((line for line in lines if line.method == STAGE_ONE), None)
    base = None if stage_one is None else stage_one.first["paper_top1"]
    # Theirs are of the same class sizes: the row is checked against them where it is told the paper's figure.
    theirs = column.balanced_activation if base is not None else {}
    columns = ["method", "top-1", "GOL", "ours - GOL", "gain", "GOL's gain"]
    cells = []
    for line in lines:
        paper = line.first["paper_top1"]
        top1 = line.means("top1")
        cells.append(
            [
                _SHOWN.get(line.method, line.method),
                _mean(line, "top1"),
                EMPTY if paper is None else f"{paper:.1f}",
                EMPTY if paper is None else _with_interval([value - paper for value in top1]),
                _gain(line, "top1"),
                EMPTY if paper is None or base is None or line is stage_one else signed(paper - base),
                *([_figure(theirs.get(line.method))] if theirs else []),
            ]
        )
    notes = [*_notes(column, lines), f"GOL: {SOURCE}; quoted, not measured here"]
    if base is None:
        notes[-1] = "the train images are not as many as the paper's in each class: its figures say nothing of these"
    if theirs:
        columns.append("Bal. Act.")
        notes.append(f"Bal. Act.: {_BALANCED_ACTIVATION}; quoted; trained end to end, from another Softmax model")
    return TextTable(f"{column.title}: top-1 (%)", columns, cells, notes, has_intervals=True)


def _groups(column: Column, lines: list[_Line]) -> TextTable:
    first = lines[0].first
    groups = {f"{group} ({first[f'num_{group}']})": f"top1_{group}" for group in GROUPS}
    columns = ["method", *groups, *(f"gain, {group}" for group in GROUPS), "ECE"]
    cells = [
        [
            _SHOWN.get(line.method, line.method),
            *(_mean(line, name) for name in groups.values()),
            *(_gain(line, name) for name in groups.values()),
            _mean(line, "ece"),
        ]
        for line in lines
    ]
    notes = [
        "many: > 100 train images, medium: 20 to 100, few: < 20 (number of classes); gains in points over stage one"
    ]
    notes.append("ECE: expected calibration error (%) of the scores as they are")
    return TextTable(f"{column.title}: where the gain comes from (%)", columns, cells, notes, has_intervals=True)


def _over_retrained(column: Column, lines: list[_Line], record: Record) -> TextTable:
    """What is left of a gain where the classifier that it is over was retrained too."""
    over = gains_over(record)
    cells = []
    for line in lines:
        if line.method != STAGE_ONE:
            gains = [
                [of_run[line.method] for of_run in runs.values() if line.method in of_run] for runs in over.values()
            ]
            cells.append([_SHOWN.get(line.method, line.method), *map(_with_bounds, gains)])
    columns = ["method", *(f"over {_SHOWN.get(name, name)}" for name in over)]
    return TextTable(f"{column.title}: gain over retrained classifiers, top-1", columns, cells, [], has_intervals=True)


def _what_was_run(column: Column, record: Record) -> TextTable:
    columns = ["run", "stage", "what", "wall time", "machine", "torch", "commit"]
    cells = [
        [one.run, one.stage, one.what, _clock(one.seconds), one.machine, one.torch, one.commit or EMPTY]
        for one in made_of(record)
    ]
    notes = ["commands, configs and logs stand in the record beside the report's rows"]
    return TextTable(f"{column.title}: what was run", columns, cells, notes)


def _notes(column: Column, lines: list[_Line]) -> list[str]:
    models = max(len(line.of_models) for line in lines)
    epochs = sorted({row["epochs"] for line in lines if line.method == STAGE_ONE for (row,) in line.of_models})
    told = " and ".join(str(number) for number in epochs)
    other = "" if epochs == [column.epochs] else f", where the paper's has {column.epochs}"
    seeds = max(len(rows) for line in lines for rows in line.of_models)
    counted = "1 model" if models == 1 else f"{models} models"
    notes = [f"stage one: {counted}, {told} epochs{other}; stage two: {seeds} seed{'s' * (seeds > 1)} on each"]
    if models > 1:
        return [*notes, "±: deviation over models of stage one; intervals: 95 %, Student's t over them"]
    return [
        *notes,
        "one model of stage one: ± is the deviation over seeds of stage two, and intervals of gains (95 %) are of a "
        "paired bootstrap over test images and these seeds; another model would move all of it",
    ]


def _mean(line: _Line, name: str) -> str:
    """Over models, with the deviation over them, or of one model over its seeds of stage two."""
    means = line.means(name)
    if not means:
        return EMPTY
    spread = means if len(line.of_models) > 1 else [row[name] for row in line.of_models[0] if row[name] is not None]
    deviation = f"±{statistics.stdev(spread):.1f}" if len(spread) > 1 else ""
    return f"{statistics.fmean(means):.1f}{deviation}"


def _gain(line: _Line, name: str) -> str:
    """In points over stage one."""
    rows = [rows[0] for rows in line.of_models]  # those of a setting have the gain of the setting
    told = [row for row in rows if row[f"gain_{name}"] is not None]
    return _with_bounds([Gain(*(row[f"gain_{name}{part}"] for part in ("", "_low", "_high"))) for row in told])


def _with_bounds(gains: Sequence[Gain]) -> str:
    """Gains of models: of one with the bounds of its own interval, of several with those over models."""
    if len(gains) != 1:
        return _with_interval([gain.mean for gain in gains]) if gains else EMPTY
    (gain,) = gains
    return f"{signed(gain.mean)} {bounds(gain.low, gain.high)}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _with_interval(values: Sequence[float]) -> str:
    mean = signed(statistics.fmean(values))
    if len(values) == 1:
        return mean
    interval = noise.of_mean(values)
    return f"{mean} {bounds(interval.low, interval.high)}"


def _figure(percent: float | None) -> str:
    return EMPTY if percent is None else f"{percent:.1f}"
