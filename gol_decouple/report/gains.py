"""What each stage-two method gains over a baseline of its run, with intervals, from the predictions of both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import bootstrap, predictions
from gol_decouple.bootstrap import Gains
from gol_decouple.errors import InputError, unknown
from gol_decouple.predictions import Predictions
from gol_decouple.report.rows import STAGE_ONE, Row, by_setting, method_of, settings_text, train_counts
from gol_decouple.runs import PREDICTIONS

# What gains are over where nothing is asked for: the first of these that a run has predictions of.
DEFAULT_BASELINES = (STAGE_ONE, "softmax")


def add_gains(
    rows: Sequence[Row],
    baseline: str | None = None,
    needed: bool = True,
    left_out: Callable[[InputError], object] | None = None,
) -> list[Row]:
    """The rows with `baseline` and the fields of `kinds.GAINS` filled in where there is something to compare.

    Rows of one setting have the gain of the setting. The baseline is one of the same run, features and test samples;
    rows without predictions, or of other samples, are left as they are.

    Args:
        baseline: "stage_one", or a stage-two method; of its settings the one without changes. DEFAULT_BASELINES unless
            given.
        needed: whether there has to be a gain over the baseline that was asked for; else it only has to be a row.
        left_out: is told which predictions are damaged, whose rows are as if there were none; None: the first of them
            is raised.

    Raises:
        InputError: no run has predictions of the baseline that was asked for.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if os.path.lexists(_predictions_of(row)):
            groups.setdefault(_run(row), []).append(row)
    known = {method_of(row) for members in ([*groups.values()] if needed else [rows]) for row in members}
    if baseline is not None and baseline not in known:
        if needed and _are_detections(rows, baseline):
            hint = f"--per-class --baseline {baseline} compares the AP of classes"
            raise InputError(f"no gain over {baseline}: gains need a {PREDICTIONS}, which detections do not have", hint)
        raise unknown("baseline", baseline, known, None if known else f"no result here has a {PREDICTIONS}")
    alike: dict[tuple[bytes, ...], list[_Compared]] = {}
    for members in groups.values():
        compared = _of_run(members, baseline, left_out)
        if compared is not None:
            alike.setdefault((compared.labels.tobytes(), compared.counts.tobytes()), []).append(compared)
    filled: dict[str, Row] = {}
    for some in alike.values():
        filled |= _compare(some)
    return [row | filled.get(row["path"], {}) for row in rows]


def choose(settings: Sequence[list[Row]], baseline: str | None = None) -> list[Row] | None:
    """The baseline among the settings of a run: the first of DEFAULT_BASELINES unless one is named; None without one.

    Of its settings it is the one without changes.
    """
    for name in DEFAULT_BASELINES if baseline is None else (baseline,):
        called_so = [setting for setting in settings if method_of(setting[0]) == name]
        if called_so:
            return min(called_so, key=lambda setting: bool(setting[0]["changed_settings"]))
    return None


def baseline_of(settings: Sequence[list[Row]], setting: Sequence[Row], baseline: str | None = None) -> list[Row] | None:
    """What the gain of a setting is over, or would be; None: there is nothing, or it is what others are compared with.

    Args:
        settings: of any runs, with their gains.
        baseline: what was asked for (see `choose`), where no row of the run has a gain.
    """
    own = [one for one in settings if _run(one[0]) == _run(setting[0])]
    told = {row["baseline"] for one in own for row in one} - {None}
    named = [one for one in own if told_name(one[0]) in told]
    chosen = (named[0] if named else None) if told else choose(own, baseline)
    return None if chosen is None or chosen[0]["path"] in {row["path"] for row in setting} else chosen


def told_name(row: Row) -> str:
    """What a baseline is called in the rows that are compared with it."""
    return f"{method_of(row)} {settings_text(row)}".rstrip()


def _run(row: Row) -> tuple[Any, ...]:
    """Rows of the same can be compared: of AP also those that were tested alike."""
    return row["run"], row["features"], row["split"], json.dumps(row["test_settings"], sort_keys=True)


@dataclass(frozen=True)
class _Setting:
    """Rows that differ in the seed alone, in the order of their seeds, and whether each is right, bool [S, N]."""

    rows: list[Row]
    hits: NDArray[np.bool_]

    @property
    def seeds(self) -> list[int | None]:
        return [row["seed"] for row in self.rows]


@dataclass(frozen=True, eq=False)
class _Compared:
    """The baseline of a run, what is compared with it, and the samples that all of them were tested on.

    Attributes:
        labels: of the samples, [N].
        counts: train samples of each class, [C].
    """

    baseline: _Setting
    others: list[_Setting]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]


def _of_run(rows: list[Row], baseline: str | None, left_out: Callable[[InputError], object] | None) -> _Compared | None:
    """What is compared of a run; None: nothing. Only what is compared is read."""
    settings = by_setting(rows)
    chosen = choose(settings, baseline)
    others = [setting for setting in settings if setting is not chosen and setting[0]["stage"] == 2]
    if chosen is None or not others:
        return None
    found, damaged = {}, set()
    for row in (row for setting in (chosen, *others) for row in setting):
        try:
            found[row["path"]] = _read(row)
        except InputError as error:
            if left_out is None:
                raise
            left_out(error)
            damaged.add(row["path"])
    if damaged:  # without which another setting may be the baseline
        return _of_run([row for row in rows if row["path"] not in damaged], baseline, left_out)
    samples = found[chosen[0]["path"]]
    counts = np.array(train_counts(chosen[0]), dtype=np.int64)
    first, *compared = _same_samples([chosen, *others], found, samples)
    return _Compared(first, compared, samples.labels, counts)


def _read(row: Row) -> Predictions:
    path, classes = _predictions_of(row), len(train_counts(row))
    found = predictions.read(path)
    if found.labels.min() < 0 or found.labels.max() >= classes:
        raise predictions.damaged(path, f"its labels are not of {classes} classes")
    return found


def _compare(runs: Sequence[_Compared]) -> dict[str, Row]:
    """The fields of each row of the settings that were compared in some runs of the same samples, by its path."""
    comparisons = [
        bootstrap.Comparison(
            one.baseline.hits,
            [setting.hits for setting in one.others],
            [setting.seeds == one.baseline.seeds for setting in one.others],
        )
        for one in runs
    ]
    found = bootstrap.gains_of_all(comparisons, runs[0].labels, runs[0].counts)
    return {
        row["path"]: {"baseline": told_name(one.baseline.rows[0])} | _fields(gains)
        for one, of_run in zip(runs, found, strict=True)
        for setting, gains in zip(one.others, of_run, strict=True)
        for row in setting.rows
    }


def _fields(gains: Gains) -> Row:
    values: Row = {}
    for name, gain in gains.items():
        if gain is not None:
            values |= {f"gain_{name}": gain.mean, f"gain_{name}_low": gain.low, f"gain_{name}_high": gain.high}
    return values


def _same_samples(
    settings: list[list[Row]], found: Mapping[str, Predictions], samples: Predictions
) -> Iterator[_Setting]:
    """The settings, each with those of its rows that are predictions of these samples, if there are any."""
    for setting in settings:
        read = [(row, found[row["path"]]) for row in sorted(setting, key=_seed)]
        same = [(row, own.hits) for row, own in read if _are_same(own, samples)]
        if same:
            yield _Setting([row for row, _ in same], np.stack([hits for _, hits in same]))


def _are_same(one: Predictions, other: Predictions) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels)


def _are_detections(rows: Sequence[Row], baseline: str) -> bool:
    """Whether there is nothing but detections, and a baseline among them."""
    return all(row["test_settings"] is not None for row in rows) and baseline in map(method_of, rows)


def _seed(row: Row) -> int:
    return -1 if row["seed"] is None else int(row["seed"])


def _predictions_of(row: Row) -> Path:
    return Path(row["path"]) / PREDICTIONS
