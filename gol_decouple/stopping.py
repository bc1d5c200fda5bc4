"""Signals that wait until what is done can be kept: SIGTERM and SIGINT, for as long as a block of work goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Clusters and torchrun send a signal to all processes and again through their launcher: within this time it is one.
SAME_SIGNAL = 3.0  # seconds
# How long a worker process outlives a SIGTERM of its own, for the main one to finish its step; torchrun gives 30.
WORKERS_GRACE = 30  # seconds


class Stop:
    """Whether a signal has come that asks this process to end, and is held back."""

    def __init__(self) -> None:
        self._came: dict[int, float] = {}  # when, by the signal's number
        self._before: dict[int, Any] = {}  # the handlers that a signal is held back from

    @property
    def requested(self) -> bool:
        """Whether a signal waits to be delivered."""
        return bool(self._came)

    def deliver(self) -> None:
        """Hand what was held back to the handlers it was for; if these return, signals are held back from now on.

        Without any, another process of the run has been asked to end: this one ends likewise, as by SIGTERM.
        """
        for number in self.release() or [signal.SIGTERM]:
            signal.raise_signal(number)
        self.hold()

    def hold(self) -> None:
        """Begin to hold signals back; those that are ignored, or not Python's to handle, stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._keep)

    def release(self) -> list[int]:
        """Put the handlers back; returns the signals that were held back from them."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
        came, self._came = list(self._came), {}
        return came

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._came.setdefault(number, now) < SAME_SIGNAL:
            return
        # Whoever asks again does not want to wait.
        self._came.pop(number)
        signal.signal(number, self._before.pop(number))
        signal.raise_signal(number)


@contextmanager
def deferred() -> Iterator[Stop]:
    """Holds SIGTERM and SIGINT back inside the `with` block, which looks at `requested` and calls `deliver`.

    What is still held back when the block ends goes to the handlers it was for. An error that ends the block takes its
    place: it says why nothing could be kept. A signal that is repeated after SAME_SIGNAL goes through at once. Outside
    the main thread, which is the one that gets signals, nothing is held back.
    """
    stop = Stop()
    try:
        stop.hold()
        yield stop
    finally:
        came = stop.release()
    for number in came:
        signal.raise_signal(number)


def outlive_signals() -> None:
    """Let a worker process go on with its work for a while after signals that all processes of a command get.

    The main one may need a batch that is under way to finish its step, and ends its workers itself: a worker ignores
    SIGINT, and ends WORKERS_GRACE after its first SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # the launcher's, of the same stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WORKERS_GRACE)
