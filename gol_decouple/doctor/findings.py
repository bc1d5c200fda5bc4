"""What was found of a file or folder: data, and how a reader's errors become it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gol_decouple import runs
from gol_decouple.errors import GolDecoupleError, InputError, machine_failure
from gol_decouple.files import no_file


class State(StrEnum):
    """How something is. Being interrupted is no damage: what is not finished continues."""

    in_order = "in order"
    unfinished = "not finished"
    left_over = "left over"
    not_examined = "not examined"
    damaged = "damaged"


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Attributes:
        kind: what it is: "features file".
        told: of what is in order what it holds; else what is wrong.
        hint: what helps.
    """

    path: Path
    kind: str
    state: State
    told: str
    hint: str | None = None


def examined(path: Path, kind: str, read: Callable[[], str]) -> Finding:
    """What a reader makes of a file.

    Args:
        read: tells what the file holds, or raises what the stages would end with.
    """
    if (wrong := no_file(path)) is not None:
        hint = f"remove it: rm -r {shlex.quote(str(path))}"
        if path.name == runs.CONFIG:
            hint = "put a copy of it back: it has the settings of the run"
        return Finding(path, kind, State.damaged, f"{path} {wrong}", hint)
    try:
        return Finding(path, kind, State.in_order, read())
    except InputError as error:
        return Finding(path, kind, State.damaged, error.message, error.hint)
    except Exception as error:
        failure = error if isinstance(error, GolDecoupleError) else machine_failure(error)
        if failure is None:
            raise
        hint = failure.hint or "this may be the disk or the memory, and not the file: try again, or elsewhere"
        return Finding(path, kind, State.not_examined, f"{path} could not be examined: {failure.message}", hint)
