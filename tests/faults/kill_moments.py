"""Counts what a process does to files, and sends itself a signal at the operations that it was told.

Between two such operations nothing on the disk changes, so these are the moments at which being killed matters most.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Functions of the standard library that change files, or make what they changed last.
CHANGING = ("replace", "rename", "unlink", "mkdir", "rmdir", "chmod", "fsync", "fdatasync", "posix_fallocate")
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Stroke:
    """A signal, and when it comes.

    Attributes:
        at: before which operation on files, from 1; or after how many seconds.
        number: of the signal.
        group: whether the whole process group gets it, as from a terminal or a cluster.
        midway: where the operation writes, it is half done.
    """

    at: float
    number: int
    group: bool = False
    midway: bool = False


class Moments:
    """Operations on files of this process, and not of those that it forks.

    Args:
        strokes: the signals it sends itself, in their order.
    """

    def __init__(self, strokes: Sequence[Stroke] = ()) -> None:
        self.seen: Counter[str] = Counter()
        self._strokes = list(strokes)
        self._process = os.getpid()

    def watch(self) -> None:
        """Count from now on, what libraries write beside Python included."""
        self.watch_system()
        self._watch_libraries()

    def watch_system(self) -> None:
        """Count what Python asks of the system from now on."""
        for name in CHANGING:
            setattr(os, name, self._before(name, getattr(os, name)))
        os.pwrite = self._halves(os.pwrite)
        os.open = self._opening("os.open", os.open)
        builtins.open = io.open = self._opening("open", io.open)
        fcntl.flock = self._before("flock", fcntl.flock)

    def end(self) -> dict[str, int]:
        """Send no more; how many operations of each kind there were."""
        self._strokes.clear()
        return dict(self.seen)

    def _watch_libraries(self) -> None:
        import h5py
        import safetensors.torch
        import torch

        torch.save = self._saving("torch.save", torch.save, where=1)
        h5py.h5f.create = self._before("h5f.create", h5py.h5f.create)
        h5py.h5d.create = self._before("h5d.create", h5py.h5d.create)
        save_file = safetensors.torch.save_file
        for module in list(sys.modules.values()):
            if getattr(module, "save_file", None) is save_file:
                module.save_file = self._saving("save_file", save_file, where=1)

    def _strike(self, name: str) -> Stroke | None:
        """Count one more operation; the stroke that falls into it, if it is to be half done, else it falls now."""
        if os.getpid() != self._process:
            return None
        self.seen[name] += 1
        if not self._strokes or self.seen.total() < self._strokes[0].at:
            return None
        stroke = self._strokes.pop(0)
        if stroke.midway:
            return stroke
        self._send(stroke)
        return None

    def _send(self, stroke: Stroke) -> None:
        (os.killpg if stroke.group else os.kill)(self._process, stroke.number)
        if stroke.number == signal.SIGKILL:
            signal.pause()  # it comes at once, but not always within the call

    def _before(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **named: Any) -> Any:
            if stroke := self._strike(name):
                self._send(stroke)
            return real(*given, **named)

        return watched

    def _opening(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Opened to be written: what is half done is the empty file."""

        def watched(file: Any, *given: Any, **named: Any) -> Any:
            how = given[0] if given else named.get("mode", named.get("flags", "r"))
            writes = how & WRITING_FLAGS if isinstance(how, int) else set(how) & set("wax+")
            stroke = self._strike(name) if writes else None
            opened = real(file, *given, **named)
            if stroke:
                self._send(stroke)
            return opened

        return watched

    def _halves(self, real: Callable[[int, Any, int], int]) -> Callable[[int, Any, int], int]:
        def watched(descriptor: int, data: Any, offset: int) -> int:
            if stroke := self._strike("pwrite"):
                real(descriptor, memoryview(data)[: len(data) // 2], offset)
                self._send(stroke)
            return real(descriptor, data, offset)

        return watched

    def _saving(self, name: str, real: Callable[..., Any], where: int) -> Callable[..., Any]:
        """A library that writes a whole file: half done, it has written half of it."""

        def watched(*given: Any, **named: Any) -> Any:
            stroke = self._strike(name)
            result = real(*given, **named)
            if stroke:
                path = Path(given[where])
                os.truncate(path, path.stat().st_size // 2)
                self._send(stroke)
            return result

        return watched
