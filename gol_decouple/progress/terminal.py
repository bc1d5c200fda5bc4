"""Bars that move, with rate and time left, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from gol_decouple.plain_text import plain_line
from gol_decouple.progress.forms import Bar
from gol_decouple.progress.lines import Lines, rate

_ROOM_FOR_BAR = 110  # columns, below which a share in percent has to do


class Terminal(Lines):
    """Lines, and below them the bar of what is under way."""

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """One that moves."""
        whole = Column(no_wrap=True)
        columns = (
            TextColumn("{task.description}", markup=False, table_column=whole),
            *([BarColumn()] if self._console.width >= _ROOM_FOR_BAR else []),
            _CountColumn(table_column=whole),
            _RateColumn(unit, table_column=whole),
            TimeRemainingColumn(table_column=whole),
            # Where there is no room, it is the note that is cut.
            TextColumn(
                "{task.fields[note]}",
                style="dim",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
        )
        # Results printed meanwhile are for stdout, and would be taken to where the bar is.
        with RichProgress(*columns, console=self._console, redirect_stdout=False, expand=True) as progress:
            yield _RichBar(progress, plain_line(description), total)


class _RichBar:
    def __init__(self, progress: RichProgress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=plain_line(note))


class _CountColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        return Text(f"{int(task.completed):,}/{total:,} ({100 * int(task.completed) // max(total, 1)}%)")


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str, table_column: Column) -> None:
        super().__init__(table_column)
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{rate(speed) if speed else '-'} {self._unit}/s")
