"""The errors a user can meet, and the exit code each one ends the program with.

Every message names what is wrong, where and with which value; `hint` names the setting or command that helps.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class GolDecoupleError(Exception):
    """A failure with a known cause; the command line prints it without a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(GolDecoupleError, ValueError):
    """The user can mend it: an argument, a config, the data, a checkpoint, a damaged or foreign file."""

    exit_code = 2


class EnvironmentFailure(GolDecoupleError):
    """The machine failed: disk full, out of memory, a killed worker, a lock held by another process."""

    exit_code = 3


class SomeFailed(InputError):
    """Some of what a command was asked for could not be made; the rest is finished, and has its place in the report."""


class FailedElsewhere(GolDecoupleError):
    """What another process of the run has told the user already; this one only ends, with the same exit code."""

    def __init__(self, error: GolDecoupleError) -> None:
        super().__init__(error.message, error.hint)
        self.exit_code = error.exit_code


# What libraries say when the machine fails them, in a RuntimeError like any other; and what helps.
_MACHINE_FAILURES = (
    (("out of memory", "allocate memory"), "lower the batch size, or use a machine with more memory"),
    (("DataLoader worker (pid",), "run the same command again, with a smaller stage1.num_workers if it happens again"),
)


def machine_failure(error: BaseException) -> EnvironmentFailure | None:
    """`error` as the EnvironmentFailure it stands for, or None if it is no failure of the machine."""
    if isinstance(error, MemoryError):
        return EnvironmentFailure("out of memory", _MACHINE_FAILURES[0][1])
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return EnvironmentFailure(f"{error.filename}: {reason}" if error.filename else reason)
    for texts, hint in _MACHINE_FAILURES:
        if isinstance(error, RuntimeError) and any(text in str(error) for text in texts):
            return EnvironmentFailure(str(error).splitlines()[0], hint)
    return None


def unknown(what: str, name: str, choices: Iterable[str], hint: str | None = None) -> InputError:
    """The error for a name that is not in a table: lists the choices and, where one is near, suggests it."""
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {what} {name!r}", hint or f"{suggestion}choose from: {', '.join(known)}")


def check_parameters(what: str, given: Iterable[str], takes: Sequence[str]) -> None:
    """Raise an InputError for a parameter that `what` does not take."""
    for parameter in given:
        if parameter not in takes:
            raise InputError(f"{what} has no parameter {parameter!r}", f"it takes: {', '.join(takes) or 'none'}")


def few(names: Sequence[str], limit: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit:,} more" if len(names) > limit else "")
