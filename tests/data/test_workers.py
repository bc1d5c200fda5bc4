"""Processes that load images: they end with the one that they load for, and not by a signal that is for all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import resource_sharer
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset as TorchDataset

from gol_decouple.data import pictures
from gol_decouple.data.loading import Key, Loaded
from gol_decouple.data.workers import worker_start
from gol_decouple.settings import TransformConfig

HOURS = 3600.0


class Items(TorchDataset[int]):
    """The item of a key is its image; that of `blocked` takes hours."""

    def __init__(self, blocked: int = -1) -> None:
        self._blocked = blocked

    def __getitem__(self, key: Key) -> int:
        if key.image >= self._blocked > 0:
            time.sleep(HOURS)
        return key.image


def first(items: list[int]) -> int:
    return items[0]


def loaded() -> Iterator[int]:
    """What loads the batches of training, of extraction, and of annotated images."""
    return iter(Loaded(Items(blocked=2), [[Key(image)] for image in range(9)], first, workers=2))


def of_pictures() -> Iterator[pictures.PictureBatch]:
    """What loads the images of `predict`."""

    def decode(path: Path) -> torch.Tensor:
        if int(path.name) >= 2:
            time.sleep(HOURS)
        return torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()

    pictures.decode = decode  # in a process of its own
    return pictures.picture_batches([Path(str(at)) for at in range(9)], TransformConfig(), None, 1, workers=2)


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended stays listed until its parent asks."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def trainer_of(batches: Callable[[], Iterator[object]]) -> tuple[int, list[int]]:
    """A process that has had a batch and waits for others, and its workers, which are at work for hours."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            others = multiprocessing.active_children()  # which tests before this one have left
            own = batches()
            next(own)
            started = [child for child in multiprocessing.active_children() if child not in others]
            os.write(write, " ".join(str(child.pid) for child in started).encode() + b"\n")
            next(own)
            next(own)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        return pid, [int(worker) for worker in told.readline().split()]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not on Linux")
@pytest.mark.parametrize("batches", [loaded, of_pictures])
def test_workers_do_not_outlive_a_process_that_is_killed(batches: Callable[[], Iterator[object]]) -> None:
    """They are at work on an image: torch's own watchdog looks only between two batches."""
    pid, workers = trainer_of(batches)
    assert len(workers) == 2
    try:
        assert all(is_there(worker) for worker in workers)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        deadline = time.monotonic() + 20
        while any(is_there(worker) for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(is_there(worker) for worker in workers)
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def test_signals_that_stop_a_run_leave_its_workers_until_it_ends() -> None:
    """A cluster sends them to all processes: the one that trains has to come to a stop by itself."""
    own = iter(Loaded(Items(), [[Key(image)] for image in range(9)], first, workers=1))
    assert next(own) == 0
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid or 0, number)
    assert list(own) == list(range(1, 9))
    del own
    worker.join(20)
    assert not multiprocessing.active_children()


def meet_who_leaves(start: Callable[[int], None]) -> None:
    """Be a worker that hands a file over to a process that connects and is gone, and then one with a mistake."""
    start(0)
    address = resource_sharer.DupFd(0)._id[0]
    with socket.socket(socket.AF_UNIX) as leaving:
        leaving.connect(address)
    with socket.socket(socket.AF_UNIX) as waiting:  # served after the other, so that has been met
        waiting.connect(address)
        waiting.recv(1)
    sys.excepthook(ValueError, ValueError("a mistake"), None)


def test_who_leaves_while_images_are_handed_over_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    worker = multiprocessing.get_context("fork").Process(target=meet_who_leaves, args=(worker_start(),))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert capfd.readouterr().err == "ValueError: a mistake\n"
