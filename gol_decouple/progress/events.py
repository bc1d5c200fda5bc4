"""One JSON object a line, for a program that follows; docs/watching.md has every key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from gol_decouple.progress.forms import Bar, Meter

SECONDS_BETWEEN_EVENTS = 1.0


class JsonLines:
    """Everything that is said as an event: what it is, when, and its parts."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, event: str, **parts: Any) -> None:
        """Write one event; all but ASCII is escaped, so nothing in a name ends the line or moves a cursor."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"event": event, "time": now, **parts}, allow_nan=False)
        self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """News."""
        self.tell("say", message=message)

    def warn(self, message: str) -> None:
        """A warning."""
        self.tell("warning", message=message)

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """The error that ends the program."""
        self.tell("error", message=message, hint=hint, exit_code=exit_code)

    def epoch(self, what: str, number: int, of: int, figures: Mapping[str, float | None], is_news: bool) -> None:
        """Every epoch."""
        defined = {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}
        self.tell("epoch", what=what, epoch=number, epochs=of, **defined)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        """An event at the beginning, one a second at most, and one at the end."""
        bar = _EventBar(self, description, total, unit)
        bar.tell(is_done=False)
        yield bar
        bar.tell(is_done=True)


class _EventBar:
    def __init__(self, events: JsonLines, what: str, total: int, unit: str) -> None:
        self._events = events
        self._what = what
        self._unit = unit
        self._meter = Meter(total)
        self._note = ""
        self._last_event = 0.0  # seconds after the beginning

    def advance(self, amount: int, note: str = "") -> None:
        self._meter.done += amount
        self._note = note
        if self._meter.seconds - self._last_event >= SECONDS_BETWEEN_EVENTS:
            self._last_event = self._meter.seconds
            self.tell(is_done=False)

    def tell(self, is_done: bool) -> None:
        meter = self._meter
        left = 0.0 if is_done else meter.seconds_left
        self._events.tell(
            "progress",
            what=self._what,
            done=meter.done,
            total=meter.total,
            unit=self._unit,
            per_second=round(meter.per_second, 3) if meter.done else None,
            seconds=round(meter.seconds, 3),
            seconds_left=None if left is None else round(left, 3),
            note=self._note,
            finished=is_done,
        )
