"""What every class got, by method: the mean over seeds, and the change to the baseline that gains are over."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.report import gains
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.names import setting_names, shown_baseline
from gol_decouple.report.per_class import PerClass, mean_per_class
from gol_decouple.report.points import signed
from gol_decouple.report.rows import Row, by_setting, method_of, settings_text

COLUMNS = (
    *("run", "method", "settings", "seeds", "class", "name", "train_count", "group"),
    *("accuracy", "ap", "baseline", "change"),
)
# Of each method a table shows so many classes that gained most, and as many that lost most.
_SHOWN = 5
_DIGITS = 4


@dataclass(frozen=True, eq=False)
class ClassesOf:
    """The classes of a setting, the mean over its seeds, and what they are compared with.

    Attributes:
        seeds: the rows of the setting.
        name: what tells the setting from others of the report.
        baseline: what it is called, and the same classes; None where there is none, or it is the setting itself.
    """

    seeds: list[Row]
    name: str
    classes: PerClass
    baseline: tuple[str, PerClass] | None

    @property
    def has_ap(self) -> bool:
        """Whether the values are AP, of detections."""
        return self.seeds[0]["test_settings"] is not None

    @property
    def changes(self) -> list[float | None]:
        """In points, [C]; None where there is nothing to compare."""
        if self.baseline is None:
            return [None] * len(self.classes.names)
        return [_number(change) for change in self.classes.values - self.baseline[1].values]


def classes_of(
    rows: Sequence[Row],
    of_runs: Sequence[Row],
    baseline: str | None,
    progress: Progress,
    left_out: Callable[[InputError], object],
) -> list[ClassesOf]:
    """The classes of every setting of some rows.

    Args:
        rows: with their gains.
        of_runs: these and others of their runs, among which the baselines are.
        baseline: see `gains.add_gains`; where a row has a gain, it is what that is over.
        progress: is told which settings have no table of their classes.
        left_out: is told which such tables are damaged, of settings that are left out.
    """
    tables_of = _Tables(left_out)
    baselines = _Baselines(of_runs, baseline, tables_of)
    settings = by_setting(rows)
    found = []
    for seeds, name in zip(settings, setting_names(settings), strict=True):
        classes = tables_of.mean(seeds)
        if classes is None and tables_of.are_damaged(seeds):
            continue
        if classes is None:
            progress.warn(f"left out, since {seeds[0]['path']} has no table of its classes: {name}")
            continue
        found.append(ClassesOf(seeds, name, classes, baselines.of(seeds, classes)))
    return found


class _Tables:
    """The classes of settings, each read once."""

    def __init__(self, left_out: Callable[[InputError], object]) -> None:
        self._left_out = left_out
        self._read: dict[str, PerClass | None] = {}
        self._damaged: set[str] = set()

    def mean(self, seeds: Sequence[Row]) -> PerClass | None:
        """None where a seed has no table, or a damaged one."""
        path = seeds[0]["path"]
        if path not in self._read:
            try:
                self._read[path] = mean_per_class(seeds)
            except InputError as error:
                self._left_out(error)
                self._damaged.add(path)
                self._read[path] = None
        return self._read[path]

    def are_damaged(self, seeds: Sequence[Row]) -> bool:
        return seeds[0]["path"] in self._damaged


class _Baselines:
    """What settings are compared with, by run."""

    def __init__(self, of_runs: Sequence[Row], baseline: str | None, tables_of: _Tables) -> None:
        self._asked = baseline
        self._tables = tables_of
        self._settings = by_setting(of_runs)

    def of(self, seeds: Sequence[Row], classes: PerClass) -> tuple[str, PerClass] | None:
        """That of a setting: the one that its gain is over, else the first of those that gains would be over."""
        chosen = gains.baseline_of(self._settings, seeds, self._asked)
        if chosen is None or seeds[0]["stage"] == 1:
            return None
        found = self._tables.mean(chosen)
        return (gains.told_name(chosen[0]), found) if found and len(found.names) == len(classes.names) else None


def to_csv(every: Sequence[ClassesOf]) -> str:
    """A line a class of each setting; empty where there is no value."""
    text = io.StringIO()
    table = csv.DictWriter(text, _columns(every), lineterminator="\n")
    table.writeheader()
    table.writerows(_records(every))
    return text.getvalue().rstrip("\n")


def to_json(every: Sequence[ClassesOf]) -> str:
    """A list of objects, one a class of each setting."""
    return json.dumps(list(_records(every)), indent=2, allow_nan=False)


def tables(every: Sequence[ClassesOf], in_full: bool) -> Iterator[tuple[int, TextTable]]:
    """A table for each setting, with the level of its heading.

    Args:
        in_full: all classes; else the five that gained most and the five that lost most, or are best and worst.
    """
    for one in every:
        yield 3, _table(one, in_full)


def _records(every: Sequence[ClassesOf]) -> Iterator[Row]:
    columns = _columns(every)
    for one in every:
        first, value = one.seeds[0], "ap" if one.has_ap else "accuracy"
        named = {"run": first["run"], "method": method_of(first)}
        named |= {"settings": settings_text(first), "seeds": len(one.seeds)}
        over = None if one.baseline is None else one.baseline[0]
        for label, change in enumerate(one.changes):
            record = named | {
                "class": label,
                "name": one.classes.names[label],
                "train_count": int(one.classes.counts[label]),
                "group": one.classes.groups[label],
                value: _number(one.classes.values[label]),
                "baseline": over,
                "change": change,
            }
            yield {column: record.get(column) for column in columns}


def _columns(every: Sequence[ClassesOf]) -> list[str]:
    kinds = {"ap" if one.has_ap else "accuracy" for one in every}
    return [name for name in COLUMNS if name not in {"ap", "accuracy"} - kinds]


def _number(value: np.floating | float) -> float | None:
    return None if np.isnan(value) else round(float(value), _DIGITS) + 0.0


def _table(one: ClassesOf, in_full: bool) -> TextTable:
    values = [_number(value) for value in one.classes.values]
    ranked = values if one.baseline is None else one.changes
    places = list(range(len(values)))
    cut = not in_full and len(places) > 2 * _SHOWN
    if cut:
        known = sorted(
            (place for place in places if ranked[place] is not None), key=lambda place: -(ranked[place] or 0)
        )
        places = known if len(known) <= 2 * _SHOWN else [*known[:_SHOWN], *known[-_SHOWN:]]
    columns = ["class", "group", "images", "AP" if one.has_ap else "accuracy", *(["change"] if one.baseline else [])]
    cells = [
        [one.classes.names[place], one.classes.groups[place], str(one.classes.counts[place]), _points(values[place])]
        + ([_change(one.changes[place])] if one.baseline else [])
        for place in places
    ]
    return TextTable(_title(one), columns, cells, _notes(one, cut))


def _title(one: ClassesOf) -> str:
    first = one.seeds[0]
    run = "" if one.name.startswith(f"{first['run']}: ") else f"{first['run']}: "
    return f"{run}{one.name}, {'AP' if one.has_ap else 'accuracy (%)'} by class"


def _notes(one: ClassesOf, cut: bool) -> list[str]:
    counted = "train images that hold the class" if one.has_ap else "train samples of the class"
    seeds = "one seed" if len(one.seeds) == 1 else f"mean over {len(one.seeds)} seeds"
    notes = [f"images: {counted}; {seeds}"]
    if one.baseline is not None:
        notes.append(f"change: in points, to {shown_baseline(one.baseline[0])}")
    if cut:
        what = "best and the worst" if one.baseline is None else "greatest gains and losses"
        notes.append(f"the {what} of {len(one.classes.names):,} classes; --format csv has all of them")
    return notes


def _points(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.1f}"


def _change(value: float | None) -> str:
    return EMPTY if value is None else signed(value)
