"""What the program says while it works, on stderr: to a person at a terminal, in a log, or to a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rich.console import Console

from gol_decouple.progress.events import JsonLines
from gol_decouple.progress.forms import Bar, Form, Quiet, Silent
from gol_decouple.progress.lines import Lines
from gol_decouple.progress.terminal import Terminal

__all__ = ["SILENT", "Bar", "Progress", "speak", "to_stderr"]


class Progress:
    """Where messages and bars go. The library is silent unless it is given one that is not.

    Args:
        console: what it is written to; bars that move only on a terminal.
        quiet: warnings and errors alone.
        as_json: an object a line, for programs (docs/watching.md).
    """

    def __init__(self, console: Console | None = None, quiet: bool = False, as_json: bool = False) -> None:
        self._form = _form(console, quiet, as_json)

    def say(self, message: str) -> None:
        """One line of news, or several; what is not seen of names in it is written out."""
        self._form.say(message)

    def warn(self, message: str) -> None:
        """Something the user should know but need not mend."""
        self._form.warn(message)

    def fail(self, message: str, hint: str | None, exit_code: int) -> None:
        """What ends the program, and what helps."""
        self._form.fail(message, hint, exit_code)

    def epoch(self, what: str, number: int, of: int, figures: Mapping[str, float | None], is_news: bool) -> None:
        """What an epoch (counted from 1) came to: for programs each, for people where `is_news`."""
        self._form.epoch(what, number, of, figures, is_news)

    def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A bar of `total` units (images, steps) for the work inside the `with` block."""
        return self._form.bar(description, total, unit)


def _form(console: Console | None, quiet: bool, as_json: bool) -> Form:
    if console is None:
        return Silent()
    if as_json:
        form: Form = JsonLines(console)
    elif console.is_terminal and not console.is_dumb_terminal:
        form = Terminal(console)
    else:
        form = Lines(console)
    return Quiet(form) if quiet else form


SILENT = Progress()


@dataclass
class _Voice:
    """How this process talks."""

    quiet: bool = False
    as_json: bool = False


_VOICE = _Voice()


def speak(quiet: bool = False, as_json: bool = False) -> None:
    """From now on `to_stderr` talks in this form."""
    _VOICE.quiet, _VOICE.as_json = quiet, as_json


def to_stderr() -> Progress:
    """Progress for a program, in the form that `speak` set."""
    # Rich takes FORCE_COLOR for a terminal, which CI sets where stderr is a file: bars would fill it.
    is_terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TTY_INTERACTIVE") != "0"
    return Progress(_Stderr(stderr=True, force_terminal=is_terminal), _VOICE.quiet, _VOICE.as_json)


class _Stderr(Console):
    """Falls silent when its reader has gone (`2>&1 | head`): hours of training must not end because nobody watches."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
