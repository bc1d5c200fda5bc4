"""Which rows a report is of, and in which order: paths and patterns, datasets, methods, and a key to sort by."""

from __future__ import annotations

import glob
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gol_decouple.class_stats import GROUPS
from gol_decouple.errors import InputError, unknown
from gol_decouple.metrics import ACCURACIES, CALIBRATION
from gol_decouple.report.rows import BOX_AP, MASK_AP, Row, by_setting, method_of
from gol_decouple.runs import is_hdf5

_TEXTS = ("run", "dataset", "method")
_BEST_IS_HIGH = (*ACCURACIES, *(f"gain_{name}" for name in ACCURACIES), *MASK_AP, *BOX_AP)
_BEST_IS_LOW = (*CALIBRATION, "lr", "epochs", "seconds")
# `few` is short for `top1_few`, and `gain_few` for its gain.
_SHORT = {name: f"top1_{name}" for name in (*GROUPS, "balanced")}
_SHORT |= {"gain": "gain_top1", **{f"gain_{short}": f"gain_{name}" for short, name in _SHORT.items()}}
SORT_KEYS = (*_TEXTS, *_BEST_IS_HIGH, *_BEST_IS_LOW)


@dataclass(frozen=True)
class Selection:
    """What is asked for of all that was found; nothing leaves everything as it is.

    Attributes:
        datasets: patterns of names.
        methods: patterns of names; "stage_one" is that of stage one's rows.
        sort: one of SORT_KEYS, or the short name of one.
    """

    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    sort: str | None = None


def expanded(paths: Sequence[Path]) -> list[Path]:
    """The paths, and in the place of each pattern that the shell has left what it matches: folders and features files.

    Raises:
        InputError: a pattern that matches nothing of these.
    """
    found: list[Path] = []
    for path in paths:
        if os.path.lexists(path) or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matched = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        kept = [one for one in matched if one.is_dir() or (one.is_file() and is_hdf5(one))]
        if not kept:
            what = "nothing" if not matched else "no folder and no features file"
            raise InputError(f"{path} matches {what}", "gol-decouple report FOLDER reports every finished run below it")
        found += kept
    return found


def check_sort(key: str | None) -> None:
    """Raise an InputError for what rows cannot be sorted by."""
    if key is not None and _SHORT.get(key, key) not in SORT_KEYS:
        raise unknown("sort key", key, (*SORT_KEYS, *_SHORT))


def of_datasets(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows of datasets by some names, all if there are none.

    Raises:
        InputError: a pattern that no row matches.
    """
    return _matching("dataset", rows, patterns, lambda row: str(row["dataset"]))


def of_methods(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows of methods by some names, all if there are none; those of stage one are called "stage_one".

    Raises:
        InputError: a pattern that no row matches.
    """
    return _matching("method", rows, patterns, method_of)


def in_order(rows: Sequence[Row], key: str | None) -> list[Row]:
    """The rows, those of a setting together and the settings by the mean over their seeds, the best first.

    What has no value comes last, and what is equal stays in its order. A text counts from a to z, a loss, a calibration
    error, a time or a length from the lowest; AP is of masks, and of boxes where only these were evaluated.
    """
    if key is None:
        return list(rows)
    name = _SHORT.get(key, key)
    settings = by_setting(rows)
    if name in _TEXTS:
        ordered = sorted(settings, key=lambda setting: str(setting[0][name]))
    else:
        sign = -1.0 if name in _BEST_IS_HIGH else 1.0
        means = {id(setting): _mean(setting, name) for setting in settings}
        present = [setting for setting in settings if means[id(setting)] is not None]
        missing = [setting for setting in settings if means[id(setting)] is None]
        ordered = [*sorted(present, key=lambda setting: sign * (means[id(setting)] or 0.0)), *missing]
    return [row for setting in ordered for row in setting]


def _mean(setting: Iterable[Row], name: str) -> float | None:
    values = [row[name] if row[name] is not None else row.get(f"{name}_box") for row in setting]
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _matching(what: str, rows: Sequence[Row], patterns: Sequence[str], name_of: Callable[[Row], str]) -> list[Row]:
    names = {name_of(row) for row in rows}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise unknown(what, pattern, names)
    if not patterns:
        return list(rows)
    return [row for row in rows if any(fnmatchcase(name_of(row), pattern) for pattern in patterns)]
