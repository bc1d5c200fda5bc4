"""How a process that loads images for another begins: with one thread, and tied to the life of the other."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

import torch

_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def worker_start() -> Callable[[int], None]:
    """What the workers of a DataLoader that this process makes begin with (`worker_init_fn`)."""
    return partial(_begin, os.getpid())


def _begin(parent: int, _: int) -> None:
    """Set up the worker process that this is.

    It works on one image at a time: more threads would only take the training's cores. The signals that stop a run
    (Ctrl-C reaches every process, and so does a cluster's SIGTERM) are for the process that trains, which may still
    need batches to come to a stop. Where that one ends, however it does, the system ends this one.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the system knew; of a forkserver, this one's parent is another process.
    if multiprocessing.get_start_method() == "fork" and os.getppid() != parent:
        os._exit(1)
