"""The tables of a reproduction, of the rows and records of its columns: the papers' figures beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from gol_decouple import methods
from gol_decouple.bootstrap import Gain
from gol_decouple.class_stats import GROUPS
from gol_decouple.progress.lines import clock
from gol_decouple.report import noise
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.paper import SOURCE
from gol_decouple.report.points import bounds, signed
from gol_decouple.report.rows import STAGE_ONE, Row, method_of, settings_text
from gol_decouple.reproduction.plan import METHODS, Column
from gol_decouple.reproduction.records import UNTOLD, Made, Record, differing, gains_over, made_of
from gol_decouple.reproduction.results import Results

_BALANCED_ACTIVATION = "Balanced Activation, LVIS workshop 2020, Table 1"
_OF_TIMES = [
    "training time: on the wall, whatever ran beside, without features and evaluation; of classifiers, which train "
    "together, that of the longest since it was last taken up",
    "commands, configs and logs stand in the record beside the report's rows",
]
_COMPARED = ["top-1", "GOL", "ours - GOL", "gain", "GOL's gain"]
_SHOWN = {STAGE_ONE: "softmax (stage one)", "softmax": "softmax re-trained", "gumbel_paper": "gumbel, paper's setting"}


@dataclass(frozen=True)
class _Line:
    """One method of a column.

    Attributes:
        of_models: its rows on each model of stage one that it is finished on, those of the seeds of stage two together.
        models: how many there are in the column.
        seeds: how many of stage two it should have on each; 1 where nothing is trained.
    """

    method: str
    of_models: list[list[Row]]
    models: int
    seeds: int

    @property
    def name(self) -> str:
        """What it is called, and on how many models and seeds it is, where these are not all."""
        fewest = min(map(len, self.of_models))
        parts = [] if self.is_whole else [f"{len(self.of_models)} of {self.models} models"]
        parts += [f"{fewest} of {self.seeds} seeds"] if fewest < self.seeds else []
        return _SHOWN.get(self.method, self.method) + (f" ({', '.join(parts)})" if parts else "")

    @property
    def is_whole(self) -> bool:
        return len(self.of_models) == self.models

    @property
    def first(self) -> Row:
        return self.of_models[0][0]

    def means(self, name: str) -> list[float]:
        """Of each model the mean over seeds of stage two; of those that have the figure."""
        every = [[row[name] for row in rows if row[name] is not None] for rows in self.of_models]
        return [statistics.fmean(values) for values in every if values]


def tables(every: Sequence[Results]) -> list[TextTable]:
    """What several columns are beside the paper's at a glance, and the tables of each."""
    return [*(_at_a_glance(every) if len(every) > 1 else []), *chain.from_iterable(map(tables_of, every))]


def tables_of(results: Results) -> list[TextTable]:
    """Those of one column.

    Top-1 beside the papers', and of each model where there are several; where the gain comes from; what is left of it
    over retrained classifiers; and what was run.
    """
    column, record, lines = results.column, results.record, _lines(results.rows)
    return [
        _beside(column, lines, record),
        *([_each_model(column, lines)] if lines[0].models > 1 else []),
        _groups(column, lines),
        _over_retrained(column, lines, record),
        what_was_run(column.title, made_of(record), _OF_TIMES),
    ]


def _lines(rows: Sequence[Row]) -> list[_Line]:
    order = {name: place for place, name in enumerate((STAGE_ONE, *METHODS))}
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: order.get(method_of(row), len(order))):
        of_runs = found.setdefault((method_of(row), _settings(row)), {})
        of_runs.setdefault(row["run"], []).append(row)
    models = len({row["run"] for row in rows})
    seeds = max(len(members) for of_runs in found.values() for members in of_runs.values())
    return [
        _Line(method, list(of_runs.values()), models, seeds if _is_trained(method) else 1)
        for (method, _), of_runs in found.items()
    ]


def _is_trained(method: str) -> bool:
    return method != STAGE_ONE and methods.get(method).is_trained


def _settings(row: Row) -> str:
    # With rate and epochs, since models can be of versions that have other defaults.
    return "" if row["stage"] == 1 else f"{settings_text(row)} {row['lr']} {row['epochs']}"


def _at_a_glance(every: Sequence[Results]) -> list[TextTable]:
    """The lines of which the paper has a figure, of all columns; no table if there are none."""
    cells = []
    for results in every:
        lines = _lines(results.rows)
        of_paper = [line for line in lines if line.first["paper_top1"] is not None]
        cells += [[results.column.name, line.name, *_compared(line, _paper_base(lines))] for line in of_paper]
    notes = [f"{SOURCE}: quoted, not measured here", "± and intervals as in the tables of each column"]
    columns = ["column", "method", *_COMPARED]
    return [TextTable("Beside the paper: top-1 (%)", columns, cells, notes, has_intervals=True)] if cells else []


def _paper_base(lines: list[_Line]) -> float | None:
    """What the paper has of stage one, if it has these data."""
    base: float | None = next((line.first["paper_top1"] for line in lines if line.method == STAGE_ONE), None)
    return base


def _compared(line: _Line, base: float | None) -> list[str]:
    """The cells of _COMPARED."""
    paper = line.first["paper_top1"]
    return [
        _mean(line, "top1"),
        EMPTY if paper is None else f"{paper:.1f}",
        EMPTY if paper is None else _over_models(line, [value - paper for value in line.means("top1")]),
        _gain(line, "top1"),
        EMPTY if paper is None or base is None or line.method == STAGE_ONE else signed(paper - base),
    ]


def _beside(column: Column, lines: list[_Line], record: Record) -> TextTable:
    base = _paper_base(lines)
    # Theirs are of the same class sizes: the row is checked against them where it is told the paper's figure.
    theirs = column.balanced_activation if base is not None else {}
    columns = ["method", *_COMPARED]
    cells = [
        [line.name, *_compared(line, base), *([_figure(theirs.get(line.method))] if theirs else [])] for line in lines
    ]
    notes = [*_notes(column, lines, record), f"{SOURCE}: quoted, not measured here"]
    if base is None:
        notes[-1] = "the train images are not as many as the paper's in each class: its figures say nothing of these"
    if theirs:
        columns.append("Bal. Act.")
        notes.append(
            f"Bal. Act.: {_BALANCED_ACTIVATION}; quoted; of another recipe, not of classifiers on "
            "this backbone: to be compared within its column"
        )
    return TextTable(f"{column.title}: top-1 (%)", columns, cells, notes, has_intervals=True)


def _each_model(column: Column, lines: list[_Line]) -> TextTable:
    """What the models have by themselves."""
    seeds = {rows[0]["run"]: rows[0]["seed"] for rows in lines[0].of_models}
    columns = ["method", *chain.from_iterable((f"seed {seed}", f"gain, seed {seed}") for seed in seeds.values())]
    cells = []
    for line in lines:
        alone = {rows[0]["run"]: replace(line, of_models=[rows], models=1) for rows in line.of_models}
        pairs = {run: (_mean(one, "top1"), _gain(one, "top1")) for run, one in alone.items()}
        cells.append([line.name, *chain.from_iterable(pairs.get(run, (EMPTY, EMPTY)) for run in seeds)])
    notes = [
        "seed: of stage one; ±: deviation over seeds of stage two; intervals of gains (95 %): a paired bootstrap over "
        "test images and these seeds, of this model alone"
    ]
    return TextTable(f"{column.title}: each model, top-1 (%)", columns, cells, notes, has_intervals=True)


def _groups(column: Column, lines: list[_Line]) -> TextTable:
    first = lines[0].first
    groups = {f"{group} ({first[f'num_{group}']})": f"top1_{group}" for group in GROUPS}
    columns = ["method", *groups, *(f"gain, {group}" for group in GROUPS), "ECE"]
    cells = [
        [
            line.name,
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
            names = [rows[0]["run"] for rows in line.of_models]
            gains = [
                [runs[name][line.method] for name in names if line.method in runs.get(name, {})]
                for runs in over.values()
            ]
            cells.append([line.name, *(_with_bounds(line, found) for found in gains)])
    columns = ["method", *(f"over {_SHOWN.get(name, name)}" for name in over)]
    notes = ["in points; softmax re-trained: under random sampling, crt: under class-balanced; intervals as above"]
    return TextTable(
        f"{column.title}: gain over retrained classifiers, top-1", columns, cells, notes, has_intervals=True
    )


def what_was_run(title: str, commands: Sequence[Made], notes: list[str]) -> TextTable:
    """One line a command: what it trained, for how long, on what, with which versions."""
    columns = ["run", "stage", "what", "training time", "machine", "torch", "commit"]
    cells = [[one.run, one.stage, one.what, clock(one.seconds), one.machine, one.torch, one.commit] for one in commands]
    if any(one.commit.startswith(UNTOLD) for one in commands):
        notes = [*notes, f"{UNTOLD}: on what earlier sessions of the training ran was not recorded"]
    return TextTable(f"{title}: what was run", columns, cells, notes)


def _notes(column: Column, lines: list[_Line], record: Record) -> list[str]:
    models = lines[0].models
    epochs = sorted({row["epochs"] for line in lines if line.method == STAGE_ONE for (row,) in line.of_models})
    told = " and ".join(str(number) for number in epochs)
    other = "" if epochs == [column.epochs] else f", where the paper's has {column.epochs}"
    seeds = max(line.seeds for line in lines)
    counted = "1 model" if models == 1 else f"{models} models"
    plural = "epoch" if told == "1" else "epochs"
    notes = [f"stage one: {counted}, {told} {plural}{other}; stage two: {seeds} seed{'s' * (seeds > 1)} on each"]
    if differs := differing(record):
        notes.append(f"other than in the config of {column.config}: {', '.join(differs)}")
    if models > 1:
        return [
            *notes,
            "±: deviation over models of stage one; intervals: 95 %, Student's t over them, on these test images",
        ]
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
    spread = means if line.models > 1 else [row[name] for row in line.of_models[0] if row[name] is not None]
    deviation = f"±{statistics.stdev(spread):.1f}" if len(spread) > 1 and line.is_whole else ""
    return f"{statistics.fmean(means):.1f}{deviation}"


def _gain(line: _Line, name: str) -> str:
    """In points over stage one."""
    rows = [rows[0] for rows in line.of_models]  # those of a setting have the gain of the setting
    told = [row for row in rows if row[f"gain_{name}"] is not None]
    return _with_bounds(line, [Gain(*(row[f"gain_{name}{part}"] for part in ("", "_low", "_high"))) for row in told])


def _with_bounds(line: _Line, gains: Sequence[Gain]) -> str:
    """Gains on models: with its own interval where there is one model, else with that over models."""
    if line.models > 1 or not gains:
        return _over_models(line, [gain.mean for gain in gains])
    (gain,) = gains
    return f"{signed(gain.mean)} {bounds(gain.low, gain.high)}"


def _over_models(line: _Line, values: Sequence[float]) -> str:
    """The mean of what models have, with its interval if all of them have it."""
    if not values:
        return EMPTY
    mean = signed(statistics.fmean(values))
    if len(values) < len(line.of_models):
        return f"{mean} ({len(values)} of {line.models} models)"
    if len(values) < 2 or not line.is_whole:
        return mean
    interval = noise.of_mean(values)
    return f"{mean} {bounds(interval.low, interval.high)}"


def _figure(percent: float | None) -> str:
    return EMPTY if percent is None else f"{percent:.1f}"
