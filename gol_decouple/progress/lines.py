"""Lines of text, for logs: no control codes, and the longer a piece of work takes, the further apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from gol_decouple.plain_text import plain, plain_line
from gol_decouple.progress.forms import Bar, Meter

# Seconds between two lines of a bar, by how long it has been there: a night's log stays short enough to read, and no
# CI takes the program for dead.
SPACING = ((60.0, 10.0), (600.0, 60.0))
WIDEST = 300.0


class Lines:
    """What is said, a line each; bars are a line now and then, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, message: str) -> None:
        """The message as it is."""
        self._console.print(plain(message), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line, marked."""
        self.say(f"warning: {plain_line(message)}")

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """One line, and one for the hint."""
        self.say(f"error: {plain_line(message)}")
        if hint:
            self.say(f"hint: {plain_line(hint)}")

    def epoch(self, what: str, number: int, of: int, figures: Mapping[str, float | None], is_news: bool) -> None:
        """One line, with what was measured."""
        if is_news:
            told = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if value is not None]
            self.say(f"{what}: {', '.join([f'epoch {number}/{of}', *told])}")

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """Lines of how far it is."""
        bar = _LineBar(self, description, total, unit)
        yield bar
        bar.finish()


class _LineBar:
    def __init__(self, lines: Lines, description: str, total: int, unit: str) -> None:
        self._lines = lines
        self._description = description
        self._unit = unit
        self._meter = Meter(total)
        self._note = ""
        self._last_line = 0.0  # seconds after the beginning

    def advance(self, amount: int, note: str = "") -> None:
        self._meter.done += amount
        self._note = note
        seconds = self._meter.seconds
        if seconds - self._last_line >= spacing(self._last_line):
            self._last_line = seconds
            left = self._meter.seconds_left
            self._line("-" if left is None else f"{clock(left)} left")

    def finish(self) -> None:
        self._line(f"took {clock(self._meter.seconds)}")

    def _line(self, when: str) -> None:
        meter, unit = self._meter, self._unit
        share = 100 * meter.done // max(meter.total, 1)
        counts = f"{meter.done:,}/{meter.total:,} {unit} ({share}%)"
        note = f", {self._note}" if self._note else ""
        self._lines.say(f"{self._description}: {counts}, {rate(meter.per_second)} {unit}/s, {when}{note}")


def spacing(seconds: float) -> float:
    """Seconds until the next line of a bar that has been there for `seconds`."""
    return next((apart for until, apart in SPACING if seconds < until), WIDEST)


def rate(per_second: float) -> str:
    """A rate with the digits that matter."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
