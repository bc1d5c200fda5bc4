"""What a form of talking has to do, the two that need no output, and how far a piece of work is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int, note: str = "") -> None:
        """`amount` more units are done; `note` (a loss, an epoch) stands beside the bar."""


class Form(Protocol):
    """How what is said looks; see `Progress` for what it is."""

    def say(self, message: str) -> None:
        """News."""

    def warn(self, message: str) -> None:
        """A warning."""

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """The error that ends the program."""

    def epoch(self, what: str, number: int, of: int, figures: Mapping[str, float | None], is_news: bool) -> None:
        """The figures of an epoch."""

    def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A bar."""


class Silent:
    """Says nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """Nothing."""

    def epoch(self, what: str, number: int, of: int, figures: Mapping[str, float | None], is_news: bool) -> None:
        """Nothing."""

    def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A bar that is not seen."""
        return nullcontext(_NoBar())


class _NoBar:
    def advance(self, amount: int, note: str = "") -> None:
        pass


class Quiet(Silent):
    """Warnings and errors of another form, and nothing else."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def warn(self, message: str) -> None:
        """As the form does."""
        self._form.warn(message)

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """As the form does."""
        self._form.fail(message, hint, exit_code)


class Meter:
    """How far a piece of work is, and how fast."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    @property
    def per_second(self) -> float:
        """Units a second, the mean since it began."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None before anything is done."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None
