"""A small disk of one's own: a tmpfs that only a forked child sees, which goes with it."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome

from gol_decouple.cli import main

# Of Linux's <sched.h> and <sys/mount.h>.
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_READ_ONLY, _REMOUNT, _PRIVATE = 1, 32, (1 << 18) | (1 << 14)


class CannotMount(Exception):
    """This machine does not let this user mount anything."""


class SmallDisk:
    """A disk at `path` of `megabytes`, of which most can be taken away."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        self._filler = path / "filler"
        self._options = f"size={megabytes}m"
        _call("mount", b"none", os.fsencode(path), b"tmpfs", 0, self._options.encode())

    def leave(self, num_bytes: int) -> None:
        """Make so many bytes free."""
        self._filler.unlink(missing_ok=True)
        found = os.statvfs(self.path)
        taken = found.f_bavail * found.f_bsize - num_bytes
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, taken))

    def make_room(self) -> None:
        """Make all of it free that is not taken by others' files."""
        self._filler.unlink(missing_ok=True)

    def read_only(self) -> None:
        """Nothing can be written from now on, not even by root."""
        _call("mount", b"none", os.fsencode(self.path), None, _REMOUNT | _READ_ONLY, None)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but locks and what fills the disk."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name not in ("filler", ".lock")}


def run(*arguments: object) -> Outcome:
    """The program in this process; pytest's own capture belongs to the parent."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["gol-decouple", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main()
    return Outcome(code, out.getvalue(), err.getvalue())


def on_small_disk(folder: Path, megabytes: int, work: Callable[[SmallDisk], Any]) -> Any:
    """What `work` returns, in a child whose small disk is mounted at `folder`; skips where nothing can be mounted."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            _own_mounts()
            answer = "done", work(SmallDisk(folder, megabytes))
        except CannotMount as error:
            answer = "skip", str(error)
        except BaseException:
            answer = "failed", traceback.format_exc()
        with os.fdopen(write, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        told = file.read()
    os.waitpid(pid, 0)
    kind, answer = pickle.loads(told)
    if kind == "skip":
        pytest.skip(answer)
    if kind == "failed":
        pytest.fail(answer)
    return answer


def _own_mounts() -> None:
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_MOUNTS if user == 0 else _NEW_MOUNTS | _NEW_USER)
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, _PRIVATE, None)


def _call(name: str, *arguments: Any) -> None:
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError:
        raise CannotMount(f"there is no {name} here") from None
    if function(*arguments):
        raise CannotMount(f"{name}: {os.strerror(ctypes.get_errno())}")
