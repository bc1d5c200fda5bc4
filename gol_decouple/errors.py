"""The errors a user can meet, and the exit code each one ends the program with.

Every message names what is wrong, where and with which value; `hint` names the setting or command that helps.
"""

from __future__ import annotations

import difflib
import errno
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


# What takes less memory, by command; of others nothing does.
_LESS_MEMORY = {
    "stage1": "lower stage1.batch_size or raise stage1.passes, lower features.batch_size, or lower stage1.num_workers",
    "stage2": "lower stage2.memory_gb or stage2.batch_size, or ask for fewer methods, seeds or values at once",
    "predict": "lower features.batch_size in the run's config.toml",
}
_LESS_MEMORY |= {"demo": _LESS_MEMORY["stage1"], **dict.fromkeys(("merge", "tune", "rerun"), _LESS_MEMORY["stage2"])}
_LESS_MEMORY["reproduce"] = _LESS_MEMORY["stage1"]
_MORE_MEMORY = "use a machine with more memory, or end what else runs on it"
_SHARED_MEMORY = "lower stage1.num_workers (0 needs none), or give /dev/shm more room (docker run --shm-size=8g)"
_OPEN_FILES = "raise the limit on open files (ulimit -n 65536), or lower stage1.num_workers"
_KILLED = (
    "most often for want of memory: lower stage1.num_workers or stage1.batch_size, then run the same command again"
)

# What libraries say when the machine fails them, in a RuntimeError like any other, and what helps; None: less memory.
_MACHINE_FAILURES: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("shared memory", "unable to write to file </torch_", "Bus error"), _SHARED_MEMORY),
    (("Too many open files", "received 0 items of ancdata"), _OPEN_FILES),
    (("out of memory", "allocate memory", "alloc failed"), None),
    (("is killed by signal: Killed",), _KILLED),
    (("DataLoader worker (pid",), "run the same command again, with a smaller stage1.num_workers if it happens again"),
)
_ERRNO_HINTS = {errno.EMFILE: _OPEN_FILES, errno.ENFILE: _OPEN_FILES, errno.ENOMEM: None}


def machine_failure(error: BaseException, command: str = "") -> EnvironmentFailure | None:
    """`error` as the EnvironmentFailure it stands for, or None if it is no failure of the machine.

    Args:
        command: that met it, whose settings the hint names.
    """
    less = f"{_LESS_MEMORY[command]}; or {_MORE_MEMORY}" if command in _LESS_MEMORY else _MORE_MEMORY
    if isinstance(error, MemoryError):
        return EnvironmentFailure("out of memory", less)
    if isinstance(error, OSError) and error.strerror:
        hint = _ERRNO_HINTS.get(error.errno or 0, "")
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return EnvironmentFailure(message, (less if hint is None else hint) or None)
    if not isinstance(error, RuntimeError | OSError):
        return None
    for texts, hint in _MACHINE_FAILURES:
        if line := _line_with(texts, str(error)):
            return EnvironmentFailure(line, less if hint is None else hint)
    return EnvironmentFailure(_last_line(error)) if isinstance(error, OSError) else None


def _line_with(texts: Sequence[str], told: str) -> str | None:
    """The first line that holds one of `texts`; a worker's error is one of many, of which the first says nothing."""
    return next((line.strip() for line in told.splitlines() if any(text in line for text in texts)), None)


def _last_line(error: BaseException) -> str:
    """What an error says; of a worker's, which ends a traceback, that alone."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


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
