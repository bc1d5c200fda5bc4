"""Files that are never half-written: everything is published by rename, after its bytes are on the disk."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from gol_decouple.errors import EnvironmentFailure, InputError

_PROBE_BYTES = 2**20
_LEFTOVER = re.compile(r".+\.tmp\.([1-9]\d{0,9})")
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on leaving without an error its file replaces `path`, durably.

    Raises:
        EnvironmentFailure: the disk is full or the folder cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    with disk_errors(path):
        try:
            for left in _left_in(path.parent).get(path.name, ()):
                left.unlink(missing_ok=True)
            yield temporary
            os.chmod(temporary, 0o666 & ~_UMASK)  # some libraries make files that only their owner can read
            publish(temporary, path)
        except Exception:
            _meet_the_cause(temporary)
            raise
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left of files that they were writing anywhere below `folder`.

    What is found is taken for ours by its name, so the folder must be one that nothing else writes to.
    """
    with suppress(OSError):  # they are in nobody's way
        for path in filter(_is_leftover, folder.rglob("*.tmp.*")):
            path.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync `temporary`, rename it to `path`, and sync the folder, so that a crash leaves the old file or the new."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` into an EnvironmentFailure that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, or write to another disk (--runs-dir for runs), then run the same command again"
            raise EnvironmentFailure(f"the disk is full: {path} could not be written", hint) from None
        reason = error.strerror or str(error)
        raise EnvironmentFailure(
            f"{path} cannot be written: {reason}", "choose another place (--runs-dir for runs)"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write `tree` to `path` as JSON, atomically."""
    write_text(path, json.dumps(tree, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, hint: str | None = None) -> dict[str, Any]:
    """The JSON object in `path`.

    Args:
        hint: what the user can do where there is none.

    Raises:
        InputError: the file is not one.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON: {error}", hint) from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} does not hold a JSON object", hint)
    return tree


@cache  # a command may write thousands of files into one folder
def _left_in(folder: Path) -> dict[str, list[Path]]:
    """What killed processes have left in a folder, by the name of the file that they were writing."""
    found: dict[str, list[Path]] = {}
    for path in filter(_is_leftover, folder.glob("*.tmp.*")):
        found.setdefault(path.name.rpartition(".tmp.")[0], []).append(path)
    return found


def _is_leftover(path: Path) -> bool:
    """Whether a path is a temporary one of `atomic_path`, of a process that is no more."""
    match = _LEFTOVER.fullmatch(path.name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _meet_the_cause(temporary: Path) -> None:
    """Write once more to a file that a library could not write: torch and safetensors hide the system's reason."""
    with temporary.open("ab") as file:
        file.write(bytes(_PROBE_BYTES))
