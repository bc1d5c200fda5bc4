"""Every class and what each setting got on it, small enough for a page: JSON for its script, and a table without it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import Progress
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.page.studies import Study
from gol_decouple.report.per_class import PerClass, mean_per_class

# Of the table for readers without scripts; more rows make a page slow that shows them all.
MOST_STATIC = 1500
EXTREMES = 8
_LONGEST_NAME = 300  # characters
_DECIMALS = 1
_DIGITS = 4  # of a change before it is rounded, which hides how floats are stored


@dataclass(frozen=True)
class ClassRow:
    """A class as it is printed: name, train count and group, the baseline's figure, the method's, and the change."""

    name: str
    count: str
    group: str
    before: str
    after: str
    change: str


@dataclass(frozen=True, eq=False)
class Classes:
    """What a page shows of a study's classes.

    Attributes:
        title: the study's.
        data: for the page's script, JSON that may stand in a script element.
        method, baseline: names of those that `rows` and `extremes` are of.
        counted, value_name: headings of the frequencies and of the figures.
        rows: the first MOST_STATIC of `total` classes.
        extremes: those most gained, most lost and lowest, under their headings.
        left_out: names of the settings that have no figures of these classes.
    """

    title: str
    data: Markup
    method: str
    baseline: str | None
    counted: str
    value_name: str
    rows: list[ClassRow]
    total: int
    extremes: dict[str, list[ClassRow]]
    left_out: list[str]


def classes(study: Study, progress: Progress) -> Classes | None:
    """Of the settings that have a figure for each class; None: none has."""
    found = {place: table for place in range(len(study.settings)) if (table := _read(study, place, progress))}
    if not found:
        return None
    first = found[study.best] if study.best in found else next(iter(found.values()))
    found = {place: table for place, table in found.items() if table.names == first.names}
    shown = study.best if study.best in found else next(iter(found))
    baseline = study.baselines[shown]
    before = _values(found, baseline)
    rows = _rows(first, before, found[shown].values)
    counted = "images in train" if study.is_detection else "train images"
    return Classes(
        study.title,
        embedded(_tree(study, found, first, shown)),
        study.names[shown],
        None if before is None or baseline is None else study.names[baseline],
        counted,
        "AP" if study.is_detection else "accuracy (%)",
        rows[:MOST_STATIC],
        len(rows),
        _extremes(rows, before, found[shown].values),
        [name for place, name in enumerate(study.names) if place not in found],
    )


def embedded(tree: Any) -> Markup:
    """JSON that ends no script element and begins no comment, whatever texts it holds; ASCII."""
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _read(study: Study, place: int, progress: Progress) -> PerClass | None:
    try:
        return mean_per_class(study.settings[place])
    except InputError as error:
        progress.warn(f"classes of {study.names[place]} are left out: {error.message}")
        return None


def _tree(study: Study, found: dict[int, PerClass], first: PerClass, shown: int) -> dict[str, Any]:
    places = list(found)
    groups = list(dict.fromkeys(first.groups))
    of_place = {place: index for index, place in enumerate(places)}
    methods = [
        {
            "name": _name(study.names[place]),
            "baseline": None if (baseline := study.baselines[place]) is None else of_place.get(baseline),
            "values": _rounded(found[place].values),
            "changes": _rounded(_changes(_values(found, study.baselines[place]), found[place].values)),
        }
        for place in places
    ]
    return {
        "names": list(map(_name, first.names)),
        "counts": first.counts.tolist(),
        "groups": groups,
        "group": [groups.index(group) for group in first.groups],
        "methods": methods,
        "shown": of_place[shown],
    }


def _values(found: dict[int, PerClass], place: int | None) -> NDArray[np.float64] | None:
    return None if place is None or place not in found else found[place].values


def _changes(before: NDArray[np.float64] | None, after: NDArray[np.float64]) -> NDArray[np.float64]:
    """In points and one decimal, rounded as the report on every class is: not the difference of rounded figures."""
    if before is None:
        return np.full(len(after), np.nan)
    return np.array([round(round(change, _DIGITS), _DECIMALS) + 0.0 for change in (after - before).tolist()])


def _rounded(values: NDArray[np.float64]) -> list[float | int | None]:
    """In one decimal, None for NaN; whole numbers without their ".0", for a page of many."""
    rounded = [None if np.isnan(value) else round(value, _DECIMALS) + 0.0 for value in values.tolist()]
    return [int(value) if value is not None and value == int(value) else value for value in rounded]


def _rows(table: PerClass, before: NDArray[np.float64] | None, after: NDArray[np.float64]) -> list[ClassRow]:
    old = np.full(len(after), np.nan) if before is None else before
    figures = zip(old.tolist(), after.tolist(), _changes(before, after).tolist(), strict=True)
    return [
        ClassRow(_name(name), f"{count:,}", group, _text(one), _text(two), _text(change, "+"))
        for name, count, group, (one, two, change) in zip(
            table.names, table.counts.tolist(), table.groups, figures, strict=True
        )
    ]


def _extremes(
    rows: Sequence[ClassRow], before: NDArray[np.float64] | None, after: NDArray[np.float64]
) -> dict[str, list[ClassRow]]:
    lowest = [rows[place] for place in np.argsort(after, kind="stable")[:EXTREMES] if not np.isnan(after[place])]
    if before is None:
        return {"Lowest": lowest}
    change = _changes(before, after)
    gained = [rows[place] for place in np.argsort(-change, kind="stable")[:EXTREMES] if change[place] > 0]
    lost = [rows[place] for place in np.argsort(change, kind="stable")[:EXTREMES] if change[place] < 0]
    return {"Most gained": gained, "Most lost": lost, "Lowest": lowest}


def _name(name: str) -> str:
    return plain_line(name, _LONGEST_NAME)


def _text(value: float, sign: str = "") -> str:
    return EMPTY if np.isnan(value) else f"{value:{sign}.{_DECIMALS}f}"
