"""Locks on files: they end with the process that has them, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_held: set[TextIO] = set()


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Makes the file and locks it; gives whether that went, and not whether another process has it.

    File systems without locks let it go: one process at a time is then the user's care.
    """
    with path.open("a") as lock:  # so that the file's time stays, and nothing looks as if it had changed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the process that had it may have removed the very file.
            is_ours = path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except BlockingIOError:
            is_ours = False
        except OSError:
            is_ours = True
        if not is_ours:
            yield False
            return
        _held.add(lock)
        try:
            yield True
        finally:
            _held.discard(lock)


def _leave_to_parent() -> None:
    """A worker process would keep the lock of a main process that was killed, for as long as it outlives that."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_leave_to_parent)
