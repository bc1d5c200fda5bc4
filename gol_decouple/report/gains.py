"""What each stage-two method gains over a baseline of its run, with intervals, from the predictions of both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import bootstrap, predictions
from gol_decouple.bootstrap import Gains
from gol_decouple.errors import unknown
from gol_decouple.predictions import Predictions
from gol_decouple.report.rows import Row, by_setting, settings_text, train_counts
from gol_decouple.runs import PREDICTIONS

STAGE_ONE = "stage_one"
# What gains are over where nothing is asked for: the first of these that a run has predictions of.
DEFAULT_BASELINES = (STAGE_ONE, "softmax")


def add_gains(rows: Sequence[Row], baseline: str | None = None) -> list[Row]:
    """The rows with `baseline` and the fields of `rows.GAINS` filled in where there is something to compare.

    Rows of one setting have the gain of the setting. The baseline is one of the same run, features and test samples;
    rows without predictions, or of other samples, are left as they are.

    Args:
        baseline: "stage_one", or a stage-two method; of its settings the one without changes. DEFAULT_BASELINES unless
            given.

    Raises:
        InputError: no run has predictions of the baseline that was asked for, or predictions are damaged.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if os.path.lexists(_predictions_of(row)):
            groups.setdefault((row["run"], row["features"], row["split"]), []).append(row)
    settings_of_runs = [by_setting(members) for members in groups.values()]
    known = {_name(setting[0]) for settings in settings_of_runs for setting in settings}
    if baseline is not None and baseline not in known:
        raise unknown("baseline", baseline, known, None if known else f"no result here has a {PREDICTIONS}")
    filled: dict[str, Row] = {}
    for settings in settings_of_runs:
        chosen = _choose(settings, DEFAULT_BASELINES if baseline is None else (baseline,))
        others = [setting for setting in settings if setting is not chosen and setting[0]["stage"] == 2]
        if chosen and others:
            filled |= _compare(chosen, others)
    return [row | filled.get(row["path"], {}) for row in rows]


def _name(row: Row) -> str:
    return STAGE_ONE if row["stage"] == 1 else str(row["method"])


def _choose(settings: list[list[Row]], names: Sequence[str]) -> list[Row] | None:
    for name in names:
        called_so = [setting for setting in settings if _name(setting[0]) == name]
        if called_so:
            return min(called_so, key=lambda setting: bool(setting[0]["changed_settings"]))
    return None


@dataclass(frozen=True)
class _Setting:
    """Rows that differ in the seed alone, in the order of their seeds, and whether each is right, bool [S, N]."""

    rows: list[Row]
    hits: NDArray[np.bool_]

    @property
    def seeds(self) -> list[int]:
        return [row["seed"] for row in self.rows]


def _compare(chosen: list[Row], others: list[list[Row]]) -> dict[str, Row]:
    """The fields of each row of the other settings, by its path."""
    samples = predictions.read(_predictions_of(chosen[0]))
    counts = np.array(train_counts(chosen[0]), dtype=np.int64)
    if samples.labels.min() < 0 or samples.labels.max() >= len(counts):
        raise predictions.damaged(_predictions_of(chosen[0]), f"its labels are not of {len(counts)} classes")
    baseline = next(_same_samples([chosen], samples))
    compared = list(_same_samples(others, samples))
    found = bootstrap.gains(
        [setting.hits for setting in compared],
        baseline.hits,
        samples.labels,
        counts,
        [setting.seeds == baseline.seeds for setting in compared],
    )
    name = f"{_name(chosen[0])} {settings_text(chosen[0])}".rstrip()
    return {
        row["path"]: {"baseline": name} | _fields(gains)
        for setting, gains in zip(compared, found, strict=True)
        for row in setting.rows
    }


def _fields(gains: Gains) -> Row:
    values: Row = {}
    for name, gain in gains.items():
        if gain is not None:
            values |= {f"gain_{name}": gain.mean, f"gain_{name}_low": gain.low, f"gain_{name}_high": gain.high}
    return values


def _same_samples(settings: list[list[Row]], samples: Predictions) -> Iterator[_Setting]:
    """The settings, each with those of its rows that are predictions of these samples, if there are any."""
    for setting in settings:
        read = [(row, predictions.read(_predictions_of(row))) for row in sorted(setting, key=lambda row: row["seed"])]
        same = [(row, found.hits) for row, found in read if _are_same(found, samples)]
        if same:
            yield _Setting([row for row, _ in same], np.stack([hits for _, hits in same]))


def _are_same(one: Predictions, other: Predictions) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels)


def _predictions_of(row: Row) -> Path:
    return Path(row["path"]) / PREDICTIONS
