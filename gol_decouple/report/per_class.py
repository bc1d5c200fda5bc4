"""What each class of a finished run got: the accuracy or the AP of its classes, beside their names and frequencies."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.report.rows import Row, frequency_counts
from gol_decouple.reported_ap import CLASS_AP

_GROUPS = {"f": "frequent", "c": "common", "r": "rare"}


@dataclass(frozen=True, eq=False)
class PerClass:
    """The C classes of a run, and how one of its classifiers does on them.

    Attributes:
        names: [C].
        counts: train samples of each, of detection train images that hold it, [C].
        groups: [C], many, medium or few; of detection frequent, common or rare.
        values: accuracy in percent, of detection AP in points, [C]; NaN where nothing defines it.
        norms: of each class's weight, [C]; None: the table has none, or it is a mean over several.
    """

    names: list[str]
    counts: NDArray[np.int64]
    groups: list[str]
    values: NDArray[np.float64]
    norms: NDArray[np.float64] | None = None


def read_per_class(row: Row) -> PerClass | None:
    """That of a row; None where it has none, as of a mean over runs whose files are gone.

    Raises:
        InputError: the file is not as this program writes it.
    """
    is_detection = row["test_settings"] is not None
    path = Path(row["path"]) / (CLASS_AP if is_detection else runs.PER_CLASS)
    if not path.is_file():
        return None
    value = ("ap" if row["ap"] is not None else "ap_box") if is_detection else "accuracy"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, strict=True))
        counts = np.array(frequency_counts(row), dtype=np.int64)
        if len(table) != len(counts):
            raise ValueError(f"it has {len(table)} classes, and its run {len(counts)}")
        groups = [_GROUPS[each["frequency"]] if is_detection else each["group"] for each in table]
        values = np.array([float(each[value]) if each[value] else np.nan for each in table])
        return PerClass([each["name"] for each in table], counts, groups, values, _norms(table))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        hint = f"repeat the command that made it with --overwrite, or remove {path} to go without"
        raise InputError(f"{path} is not a readable table of classes: {error}", hint) from None


def _norms(table: Sequence[dict[str, str]]) -> NDArray[np.float64] | None:
    """Of older versions' tables, and of classifiers without weights, there are none."""
    if not all(each.get(runs.WEIGHT_NORM) for each in table):
        return None
    norms = np.array([float(each[runs.WEIGHT_NORM]) for each in table])
    if not (np.isfinite(norms).all() and (norms >= 0).all()):
        raise ValueError(f"a {runs.WEIGHT_NORM} is none")
    return norms


def mean_per_class(seeds: Sequence[Row]) -> PerClass | None:
    """The mean over rows that differ in the seed alone; None where one of them has none."""
    found = [read_per_class(row) for row in seeds]
    present = [one for one in found if one is not None]
    if not present or len(present) < len(found):
        return None
    first = present[0]
    return PerClass(first.names, first.counts, first.groups, np.mean([one.values for one in present], axis=0))
