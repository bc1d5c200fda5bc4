"""What the program says while it works, on stderr: bars with rate and time left, or plain lines off a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
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

from gol_decouple.plain_text import plain, plain_line

SECONDS_BETWEEN_LINES = 10.0


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int, note: str = "") -> None:
        """`amount` more units are done; `note` (a loss, an epoch) stands beside the bar."""


class Progress:
    """Where messages and bars go. The library is silent unless it is given one that is not."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    def say(self, message: str) -> None:
        """One line of news, or several; what is not seen of names in it is written out."""
        if self._console is not None:
            self._console.print(plain(message), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Something the user should know but need not mend."""
        self.say(f"warning: {plain_line(message)}")

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar of `total` units (images, steps) for the work inside the `with` block."""
        if self._console is None:
            yield _NoBar()
        elif self._console.is_terminal:
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
            description = plain_line(description)
            with RichProgress(*columns, console=self._console, redirect_stdout=False) as progress:
                yield _RichBar(progress, description, total)
        else:
            bar = _LineBar(self, description, total, unit)
            yield bar
            bar.finish()


SILENT = Progress()


def to_stderr() -> Progress:
    """Progress for a program run by a person."""
    return Progress(_Stderr(stderr=True))


class _Stderr(Console):
    """Falls silent when its reader has gone (`2>&1 | head`): hours of training must not end because nobody watches."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _NoBar:
    def advance(self, amount: int, note: str = "") -> None:
        pass


class _RichBar:
    def __init__(self, progress: RichProgress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=plain_line(note))


class _LineBar:
    """A line every ten seconds and one at the end, for logs."""

    def __init__(self, progress: Progress, description: str, total: int, unit: str) -> None:
        self._progress = progress
        self._description = description
        self._total = total
        self._unit = unit
        self._done = 0
        self._note = ""
        self._started = self._last_line = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self._done += amount
        self._note = note
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = (self._total - self._done) * (self._last_line - self._started) / max(self._done, 1)
            self._line(f"{_clock(left)} left")

    def finish(self) -> None:
        self._line(f"took {_clock(time.monotonic() - self._started)}")

    def _line(self, when: str) -> None:
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        share = 100 * self._done // max(self._total, 1)
        counts = f"{self._done:,}/{self._total:,} {self._unit} ({share}%)"
        note = f", {self._note}" if self._note else ""
        self._progress.say(f"{self._description}: {counts}, {_rate(rate)} {self._unit}/s, {when}{note}")


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_rate(speed) if speed else '-'} {self._unit}/s")


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
