"""What of a report can be compared in one figure, and which of it a figure shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import Progress
from gol_decouple.report.figures.style import COLOURS, INK, LINES, MARKERS
from gol_decouple.report.names import setting_names
from gol_decouple.report.rows import Row, by_setting, run_folder

# So many methods can be told apart in a figure, besides stage one.
SHOWN = 6
_LONGEST_NAME = 60  # characters of a run or a setting, as it is shown

T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """How a setting is drawn in every figure of its study."""

    colour: str
    marker: str
    line: Any


@dataclass(frozen=True, eq=False)
class Setting:
    """Rows that differ in the seed alone.

    Attributes:
        name: what it is called, without what is not seen; cut off where it is long.
    """

    name: str
    seeds: list[Row]

    @property
    def is_stage_one(self) -> bool:
        """Whether it is what the others are compared with."""
        return bool(self.seeds[0]["stage"] == 1)

    def mean(self, field_name: str) -> float | None:
        """Of a field over the seeds that have it."""
        values = [row[field_name] for row in self.seeds if row[field_name] is not None]
        return fmean(values) if values else None


@dataclass(frozen=True, eq=False)
class Study:
    """Settings of one run, its features and its split.

    Attributes:
        run: its name.
        suffix: of the names of its figures; empty where a report has one study alone.
        settings: stage one first, if it is there.
    """

    run: str
    suffix: str
    settings: list[Setting]
    _told: set[str] = field(default_factory=set)

    @property
    def again(self) -> str:
        """The command that makes what its classifiers of stage two lack."""
        return f"gol-decouple stage2 {shlex.quote(str(self.folder))} --method NAME --overwrite"

    @property
    def folder(self) -> Path:
        """That of the run."""
        return run_folder(Path(self.settings[0].seeds[0]["path"]))

    @property
    def is_detection(self) -> bool:
        """Whether it is measured in AP."""
        return self.settings[0].seeds[0]["test_settings"] is not None

    @property
    def measure(self) -> str:
        """The field that says how good a setting is over all classes."""
        if not self.is_detection:
            return "top1_balanced"
        return "ap" if any(setting.mean("ap") is not None for setting in self.settings) else "ap_box"

    @cached_property
    def shown(self) -> list[Setting]:
        """Stage one, and as many of the best others as can be told apart, in the order of the report."""
        others = [setting for setting in self.settings if not setting.is_stage_one]
        values = {id(setting): setting.mean(self.measure) for setting in others}
        best = sorted(others, key=lambda one: -(-1.0 if (value := values[id(one)]) is None else value))[:SHOWN]
        return [one for one in self.settings if one.is_stage_one or one in best]

    @property
    def left_out(self) -> str:
        """A sentence on what is not shown, with a space before it; empty where all is."""
        names = [setting.name for setting in self.settings if setting not in self.shown]
        if not names:
            return ""
        measure = "AP" if self.is_detection else "mean accuracy over classes"
        others = ", ".join(names) if len(names) <= SHOWN else f"{len(names)} others"
        first = "stage one and " if any(one.is_stage_one for one in self.shown) else ""
        return f" Shown are {first}the {SHOWN} methods of the best {measure}, not {others}."

    def look(self, setting: Setting) -> Look:
        """That of a setting that is shown: ink for stage one, for others colours, markers and lines of their own."""
        if setting.is_stage_one:
            return Look(INK, MARKERS[-1], LINES[0])
        place = [one for one in self.shown if not one.is_stage_one].index(setting)
        return Look(COLOURS[place], MARKERS[place], LINES[place])

    def of_shown(self, read: Callable[[Setting], T | None], progress: Progress) -> list[tuple[Setting, T]]:
        """What is read of each setting that is shown; damaged files are told, and left out."""
        found = []
        for setting in self.shown:
            try:
                one = read(setting)
            except InputError as error:
                if error.message not in self._told:
                    self._told.add(error.message)
                    progress.warn(f"left out of figures: {error.message}")
                continue
            if one is not None:
                found.append((setting, one))
        return found

    def name(self, figure: str) -> str:
        """Of a figure's files."""
        return f"{figure}_{self.suffix}" if self.suffix else figure

    def title(self, figure: str) -> str:
        """Of a figure, with the run where there are several."""
        return f"{self.run}: {figure}" if self.suffix else figure


def studies(found: Sequence[Row]) -> list[Study]:
    """Those of a report; rows of other runs, features or test samples are not compared."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        key = (row["run"], row["dataset"], row["features"], row["split"], row["test_settings"] is not None)
        groups.setdefault(key, []).append(row)
    taken: set[str] = set()
    told = []
    for rows in groups.values():
        settings = by_setting(rows)
        names = [plain_line(name, _LONGEST_NAME) for name in setting_names(settings)]
        named = [Setting(name, seeds) for name, seeds in zip(names, settings, strict=True)]
        named.sort(key=lambda setting: not setting.is_stage_one)
        run = str(rows[0]["run"])
        told.append(Study(plain_line(run, _LONGEST_NAME), _suffix(run, taken) if len(groups) > 1 else "", named))
    return told


def _suffix(run: str, taken: set[str]) -> str:
    """What of a run's name can be in the names of files and ids anywhere; no two the same."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", run)[:_LONGEST_NAME].strip("-") or "run"
    number, suffix = 1, plain
    while suffix.lower() in taken:
        number += 1
        suffix = f"{plain}-{number}"
    taken.add(suffix.lower())
    return suffix
