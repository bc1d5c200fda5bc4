"""What is one result in two studies: rows to settings, and settings to pairs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gol_decouple.class_stats import GROUPS
from gol_decouple.report.names import shown_method
from gol_decouple.report.rows import Row, settings_text

SIZES = tuple(f"num_{group}" for group in GROUPS)
# What two rows of one result can differ in.
RECIPE = ("start", "lr", "epochs", "views", "trained_on")


@dataclass(frozen=True, eq=False)
class Setting:
    """Rows of one study that differ in the seed alone: of stage two, or of stage one and of all that follows it.

    Attributes:
        rows: one for each seed.
        family: runs of stage one that differ in its seed alone; most often one.
        origin: what stage one of these runs was; empty where the study does not say.
    """

    rows: list[Row]
    family: tuple[str, ...]
    origin: str

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def method(self) -> str:
        """As people are shown it."""
        return shown_method(self.first)

    @property
    def name(self) -> str:
        """The method and the settings that it changes."""
        return f"{self.method} {settings_text(self.first)}".rstrip()

    def trainings(self, name: str, of_stage_two: bool) -> list[float]:
        """A metric of each training that chance had a part in: of each seed, or the mean over those of one stage one.

        Args:
            of_stage_two: seeds of stage two are independent; of stage one's chance they say nothing.
        """
        found: dict[Any, list[float]] = {}
        for place, row in enumerate(self.rows):
            if row[name] is not None:
                found.setdefault(place if of_stage_two else row["features"], []).append(row[name])
        return [statistics.fmean(values) for values in found.values()]

    @property
    def features(self) -> set[str]:
        """Fingerprints of what its classifiers were trained on; empty where an older report does not tell."""
        return {row["features"] for row in self.rows} - {""}


def _result(row: Row) -> str:
    """What a row is, whoever made it."""
    names = ("dataset", "imbalance_factor", "backbone", "stage", "method", "changed_settings", "split", "test_settings")
    return json.dumps([*(row[name] for name in names), bool(row["cascade"])], sort_keys=True)


def _recipe(row: Row) -> str:
    return json.dumps([row[name] for name in (*RECIPE, *SIZES)])


def settings(rows: Sequence[Row]) -> list[Setting]:
    """Runs whose stage-one rows differ in the seed alone are seeds of one result, and so is what follows them."""
    beginnings: dict[str, list[Row]] = {}
    for row in rows:
        if row["stage"] == 1:
            beginnings.setdefault(_result(row) + _recipe(row), []).append(row)
    families: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {}
    for origin, members in beginnings.items():
        seeds = [row["seed"] for row in members]
        are_seeds = None not in seeds and len(set(seeds)) == len(seeds)
        together = tuple(sorted(row["run"] for row in members))
        for row in members:
            families[row["run"], row["features"]] = (together if are_seeds else (row["run"],), origin)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        family, origin = families.get((row["run"], row["features"]), ((row["run"],), ""))
        features = None if len(family) > 1 else row["features"]
        groups.setdefault((family, origin, features, _result(row), _recipe(row)), []).append(row)
    return [Setting(members, family, origin) for (family, origin, *_), members in groups.items()]


def match(a: list[Setting], b: list[Setting]) -> tuple[list[tuple[Setting, Setting]], list[Setting], list[Setting]]:
    """Pairs in the order of A, and what is left of each."""
    partners: dict[Setting, Setting] = {}
    left_b = list(b)
    for key in _KEYS:
        left_a = [one for one in a if one not in partners]
        counted_a, counted_b = _by(key, left_a), _by(key, left_b)
        for told, (one, *more) in counted_a.items():
            if not more and len(counted_b.get(told, [])) == 1:
                partners[one] = counted_b[told][0]
                left_b.remove(partners[one])
    return [(one, partners[one]) for one in a if one in partners], [one for one in a if one not in partners], left_b


# What tells settings apart, tried one after the other: a pair has it in common with nothing else in either study.
_KEYS: tuple[Callable[[Setting], Any], ...] = (
    lambda one: _result(one.first),
    lambda one: (_result(one.first), _recipe(one.first), frozenset(one.features)),
    lambda one: (_result(one.first), _recipe(one.first), one.family),
    lambda one: (_result(one.first), _recipe(one.first), one.origin or id(one)),
    lambda one: (_result(one.first), one.family),
)


def _by(key: Callable[[Setting], Any], settings: list[Setting]) -> dict[Any, list[Setting]]:
    found: dict[Any, list[Setting]] = {}
    for one in settings:
        found.setdefault(key(one), []).append(one)
    return found
