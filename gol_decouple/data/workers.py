"""How a process that loads images for another begins: with one thread, and tied to the life of the other."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType

import torch

from gol_decouple.stopping import outlive_signals

_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def worker_start() -> Callable[[int], None]:
    """What the workers of a DataLoader that this process makes begin with (`worker_init_fn`)."""
    return partial(_begin, os.getpid())


def _begin(parent: int, _: int) -> None:
    """Set up the worker process that this is.

    It works on one image at a time: more threads would only take the training's cores. Where the process that it works
    for ends, however that does, the system ends this one.
    """
    torch.set_num_threads(1)
    outlive_signals()
    sys.excepthook = _tell
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the system knew; of a forkserver, this one's parent is another process.
    if multiprocessing.get_start_method() == "fork" and os.getppid() != parent:
        os._exit(1)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nothing caught, unless it is that the other end of a connection has gone.

    The thread that hands images over meets that where the process that takes them is stopped, which is no news.
    """
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)
