"""Files that are never half-written: everything is published by rename, after its bytes are on the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.limits import DEPTH, SETTINGS_BYTES, Limit

_PROBE_BYTES = 2**20
_SECONDS_LEFT_BEHIND = 600.0
_TEMPORARY = re.compile(r".+\.tmp\.([1-9]\d{0,9})")
_LARGE = 2**64
_PIPE_BYTES = 2**20
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; on leaving without an error its file replaces `path`, durably.

    Temporary files of `path` that processes left which were killed are removed.

    Raises:
        EnvironmentFailure: the disk is full or the folder cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    _remove_left_behind(path)
    with disk_errors(path):
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_UMASK)  # some libraries make files that only their owner can read
            publish(temporary, path)
        except Exception:
            _meet_the_cause(temporary)
            raise
        finally:
            temporary.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """The temporary files of `atomic_path` that are in a folder, whoever writes them or was stopped doing it."""
    return sorted(path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name))


def writer_of(temporary: Path) -> int | None:
    """The process of this machine that may be writing a temporary file, or None if there is none."""
    match = _TEMPORARY.fullmatch(temporary.name)
    if match is None:
        return None
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # of somebody else
    return int(match[1])


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left of files that they were writing anywhere below `folder`.

    What is found is taken for ours by its name, so the folder must be one that nothing else writes to.
    """
    with suppress(OSError):  # they are in nobody's way
        for path in folder.rglob("*.tmp.*"):
            if _TEMPORARY.fullmatch(path.name) and writer_of(path) is None:
                path.unlink(missing_ok=True)


def _remove_left_behind(path: Path) -> None:
    """Remove what processes that were killed left of `path`, wherever it is.

    One on another machine is told by its age: what is being written has just changed.
    """
    with suppress(OSError):
        for temporary in temporaries(path.parent):
            if temporary.name.rpartition(".tmp.")[0] != path.name or writer_of(temporary) is not None:
                continue
            if time.time() - temporary.stat().st_mtime > _SECONDS_LEFT_BEHIND:
                temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync `temporary`, rename it to `path`, and sync the folder, so that a crash leaves the old file or the new."""
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> Path:
    """Make it, if it is not there.

    Raises:
        EnvironmentFailure: it cannot be made.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def no_file(path: Path) -> str | None:
    """What stands in the place of a file and is none, to be said after its path; None: a file is there."""
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "is a folder, where a file is expected"
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)}, where there is no file"
    return "is no regular file" if os.path.lexists(path) else "does not exist"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write `tree` to `path` as JSON, atomically; a list or an object that nests no other is one line."""
    write_text(path, _json(tree, "\n") + "\n")


def _json(tree: Any, newline: str) -> str:
    entries = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    if not any(isinstance(entry, (dict, list, tuple)) for entry in entries):
        return json.dumps(tree, allow_nan=False)
    inner = newline + "  "
    texts = [_json(entry, inner) for entry in entries]
    if isinstance(tree, dict):
        named = (f"{json.dumps(str(name))}: {text}" for name, text in zip(tree, texts, strict=True))
        return "{" + inner + f",{inner}".join(named) + newline + "}"
    return "[" + inner + f",{inner}".join(texts) + newline + "]"


def read_json(path: Path, hint: str | None = None) -> dict[str, Any]:
    """The JSON object in `path`.

    Args:
        hint: what the user can do where there is none.

    Raises:
        InputError: the file is not one.
    """
    tree = read_json_tree(path, hint)
    if not isinstance(tree, dict):
        raise InputError(f"{path} does not hold a JSON object", hint)
    return tree


def read_json_tree(path: Path, hint: str | None = None) -> Any:
    """What the JSON in `path` holds, an object or anything else; the same otherwise as `read_json`."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file", hint)
    try:
        tree = json.loads(read_bytes(path, SETTINGS_BYTES).decode())
        refuse_odd(tree)
    except InputError as error:
        raise InputError(f"{path} is not readable JSON: {error.message}", error.hint or hint) from None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}", hint) from None
    return tree


def read_bytes(path: Path, most: Limit) -> bytes:
    """What is in a file, which can be a pipe.

    Raises:
        InputError: it is longer than the limit.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        most.check(length, f"{path} has {length:,} bytes")
        if path.is_file():
            return file.read()
        data = bytearray()  # of a pipe, or of a device without an end
        while part := file.read(_PIPE_BYTES):
            data += part
            most.check(len(data), f"{path} has {len(data):,} bytes or more")
        return bytes(data)


def refuse_odd(tree: Any) -> None:
    """Refuse what this program never writes as JSON, and what not every reader of a tree is made for.

    Raises:
        InputError: objects in objects without an end, numbers that are not finite or not of 64 bits.
    """
    level, depth = [tree], 0
    while level:
        depth += 1
        DEPTH.check(depth, f"it has objects in objects, {depth} levels")
        below: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                below += part.values()
            elif isinstance(part, list):
                below += part
            elif isinstance(part, float) and not math.isfinite(part):
                raise InputError(f"it holds {part}, which is no number of JSON")
            elif isinstance(part, int) and abs(part) >= _LARGE:
                raise InputError(f"it holds {part!s:.20}..., which is no number of 64 bits")
        level = below


def _meet_the_cause(temporary: Path) -> None:
    """Write once more to a file that a library could not write: torch and safetensors hide the system's reason."""
    with temporary.open("ab") as file:
        file.write(bytes(_PROBE_BYTES))
