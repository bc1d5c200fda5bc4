"""Signals that are held back: when, for how long, and that every handler is as before afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from gol_decouple import stopping
from gol_decouple.stopping import deferred

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Delivered(BaseException):
    pass


@pytest.fixture
def came() -> Iterator[list[int]]:
    """The signals that reached the handlers, which return."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in stopping.SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(number: int, _frame: object) -> None:
    raise Delivered(number)


@BOTH
def test_a_signal_waits_for_the_end_of_the_block(came: list[int], number: signal.Signals) -> None:
    handler = signal.getsignal(number)
    with deferred() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert came == []
    assert came == [number]
    assert signal.getsignal(number) is handler


def test_without_a_signal_nothing_is_delivered(came: list[int]) -> None:
    with deferred():
        pass
    assert came == []


def test_both_are_delivered(came: list[int]) -> None:
    with deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert sorted(came) == sorted(stopping.SIGNALS)


@BOTH
def test_a_signal_that_is_repeated_at_once_is_one(came: list[int], number: signal.Signals) -> None:
    with deferred():
        for _ in range(3):
            signal.raise_signal(number)
    assert came == [number]


@BOTH
def test_who_asks_again_does_not_wait(came: list[int], number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.0 + stopping.SAME_SIGNAL - 0.1, 100.0 + stopping.SAME_SIGNAL])
    monkeypatch.setattr(stopping.time, "monotonic", lambda: next(times))
    signal.signal(number, raising)
    sent: list[int] = []

    def send() -> None:
        with deferred():
            for _ in range(4):
                sent.append(number)
                signal.raise_signal(number)

    with pytest.raises(Delivered):
        send()
    assert len(sent) == 3
    assert signal.getsignal(number) is raising


def test_it_is_delivered_where_the_block_asks_for_it_and_only_once(came: list[int]) -> None:
    with deferred() as stop:
        signal.raise_signal(signal.SIGTERM)
        stop.deliver()
        assert came == [signal.SIGTERM]
        assert not stop.requested
        # The handler returned: the work goes on, and signals are held back as before.
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert len(came) == 1
    assert len(came) == 2


def test_a_handler_that_raises_ends_the_block(came: list[int]) -> None:
    signal.signal(signal.SIGTERM, raising)

    def deliver() -> None:
        with deferred() as stop:
            signal.raise_signal(signal.SIGTERM)
            stop.deliver()

    with pytest.raises(Delivered):
        deliver()
    assert signal.getsignal(signal.SIGTERM) is raising


def test_another_processes_signal_is_this_ones_too(came: list[int]) -> None:
    with deferred() as stop:
        stop.deliver()
    assert came == [signal.SIGTERM]


def test_an_error_takes_the_signals_place_and_leaves_the_handlers(came: list[int]) -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]

    def fail() -> None:
        with deferred():
            signal.raise_signal(signal.SIGTERM)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert came == []
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_what_is_ignored_stays_ignored(came: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.requested
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_blocks_in_blocks(came: list[int]) -> None:
    with deferred() as outer:
        with deferred():
            signal.raise_signal(signal.SIGTERM)
        assert outer.requested
        assert came == []
    assert came == [signal.SIGTERM]


def test_other_threads_hold_nothing_back(came: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with deferred() as stop:
            assert signal.getsignal(signal.SIGTERM) is before
            assert not stop.requested

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


WORKER = """
import os, signal
from gol_decouple import stopping
stopping.WORKERS_GRACE = 1
stopping.outlive_signals()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
    os.kill(os.getpid(), number)
print("went on", flush=True)
while True:
    signal.pause()
"""


def test_a_worker_outlives_a_signal_for_a_while() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=50)
    assert (done.stdout, done.returncode) == ("went on\n", -signal.SIGALRM), done.stderr
