"""What a page compares: rows of the same data, network and test, their settings, and the best of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gol_decouple.bootstrap import Gain
from gol_decouple.class_stats import GROUPS
from gol_decouple.report import gains
from gol_decouple.report.names import setting_names
from gol_decouple.report.rows import Row, by_setting, is_unbalanced
from gol_decouple.reported_ap import FREQUENCIES

_GROUPING = (
    *("dataset", "imbalance_factor", "backbone", "split"),
    *(f"num_{group}" for group in (*GROUPS, *FREQUENCIES)),
)


@dataclass(frozen=True, eq=False)
class Study:
    """The S settings that can be compared.

    Attributes:
        title: dataset, backbone and split; no two are the same.
        rows: of all settings.
        settings: rows that differ in the seed alone, in the order of their seeds, [S].
        names: of each setting, no two the same, [S].
        baselines: of each setting, which one of its run it is compared with; None: it is that, or there is none, [S].
        metric, metric_name, unit: the field of rows that says which is best, what people call it, and what it counts.
        best: the best setting of stage two; None: there is none.
    """

    title: str
    rows: list[Row]
    settings: list[list[Row]]
    names: list[str]
    baselines: list[int | None]
    metric: str
    metric_name: str
    unit: str
    best: int | None

    @property
    def is_detection(self) -> bool:
        """Whether it is of objects in images."""
        return is_detection(self.rows[0])

    def value(self, setting: int, metric: str | None = None) -> float | None:
        """The mean over seeds."""
        values = [row[metric or self.metric] for row in self.settings[setting]]
        present = [value for value in values if value is not None]
        return statistics.fmean(present) if present else None

    def gain(self, setting: int, of: str | None = None) -> Gain | None:
        """What it gains over its baseline, of all classes or of those of a group; None: nothing says it."""
        rows = self.settings[setting]  # some may have no predictions; the others have the gain of the setting
        row = next((row for row in rows if row["baseline"] is not None), rows[0])
        mean, low, high = (row.get(f"gain_{of or self.metric}{part}") for part in ("", "_low", "_high"))
        return None if mean is None or low is None or high is None else Gain(mean, low, high)


def with_baselines(rows: Sequence[Row], of_runs: Sequence[Row]) -> list[Row]:
    """The rows and, of all that their runs have, what their gains are over: it may not have been asked for."""
    needed = {(row["run"], row["features"], row["baseline"]) for row in rows if row["baseline"] is not None}
    present = {row["path"] for row in rows}
    others = [row for row in of_runs if row["path"] not in present]
    return [*rows, *(row for row in others if (row["run"], row["features"], gains.told_name(row)) in needed)]


def studies(rows: Sequence[Row]) -> list[Study]:
    """Those of some rows, in the order of the report's tables: detections last."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        tested = json.dumps(row["test_settings"], sort_keys=True)
        groups.setdefault((*(row[name] for name in _GROUPING), tested), []).append(row)
    ordered = sorted(groups.values(), key=lambda members: is_detection(members[0]))
    titles = list(map(_title, ordered))
    return [
        _study(members, f"{title} ({titles[:place].count(title) + 1})" if titles.count(title) > 1 else title)
        for place, (members, title) in enumerate(zip(ordered, titles, strict=True))
    ]


def is_detection(row: Row) -> bool:
    """Whether a row is of objects in images."""
    return row["test_settings"] is not None


def _title(rows: Sequence[Row]) -> str:
    first = rows[0]
    factor = "" if is_detection(first) else f", imbalance factor {first['imbalance_factor']:g}"
    return f"{first['dataset']}{factor}, {first['backbone'] or 'unknown backbone'}, {first['split']}"


def _study(rows: list[Row], title: str) -> Study:
    settings = [sorted(seeds, key=_seed) for seeds in by_setting(rows)]
    metric, metric_name, unit = _metric(rows)
    baselines = [_baseline(setting, settings) for setting in settings]
    study = Study(title, rows, settings, setting_names(settings), baselines, metric, metric_name, unit, None)
    values = {place: study.value(place) for place, seeds in enumerate(settings) if seeds[0]["stage"] == 2}
    present = {place: value for place, value in values.items() if value is not None}
    best = max(present, key=lambda place: present[place]) if present else None
    return Study(title, rows, settings, study.names, baselines, metric, metric_name, unit, best)


def _seed(row: Row) -> int:
    return row["seed"] if row["seed"] is not None else -1


def _metric(rows: Sequence[Row]) -> tuple[str, str, str]:
    if is_detection(rows[0]):
        has_masks = any(row["ap"] is not None for row in rows)
        return ("ap", "AP of masks", "points") if has_masks else ("ap_box", "AP of boxes", "points")
    if any(is_unbalanced(row) for row in rows):
        return "top1_balanced", "mean accuracy over classes", "%"
    return "top1", "top-1 accuracy", "%"


def _baseline(setting: list[Row], settings: Sequence[list[Row]]) -> int | None:
    found = gains.baseline_of(settings, setting)
    return next((place for place, one in enumerate(settings) if one is found), None)
