"""Bars that move, with rate and time left, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from gol_decouple.plain_text import plain_line
from gol_decouple.progress.forms import Bar
from gol_decouple.progress.lines import Lines, rate


class Terminal(Lines):
    """Lines, and below them the bar of what is under way."""

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """One that moves."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        # Results printed meanwhile are for stdout, and would be taken to where the bar is.
        with RichProgress(*columns, console=self._console, redirect_stdout=False) as progress:
            yield _RichBar(progress, plain_line(description), total)


class _RichBar:
    def __init__(self, progress: RichProgress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=plain_line(note))


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{rate(speed) if speed else '-'} {self._unit}/s")
