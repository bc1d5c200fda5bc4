"""Several processes that work on one run, as torchrun or srun starts them: who is who, and what they tell."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gol_decouple.errors import EnvironmentFailure, FailedElsewhere, GolDecoupleError, InputError, machine_failure
from gol_decouple.launch import find_place
from gol_decouple.runtime import select_device

T = TypeVar("T")

# One process may evaluate, or look at many files, while the others wait for it.
TIMEOUT, TIMEOUT_TO_CONNECT = timedelta(hours=2), timedelta(minutes=10)
PATIENCE = 5.0  # seconds for which a failure waits to be told once
FIRST_PORT, PORTS = 20_000, 12_000  # below those that systems give to connections
# What gloo says when a process has left it; NCCL's and the store's errors have classes of their own.
_LEFT = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport")


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this one is.

    Attributes:
        rank: 0..size-1; process 0 is the main one, which makes the run's folder, writes its files and tells the user.
        size: how many there are on all machines.
        local_rank: which of those on this machine it is, and so which GPU it has.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def on_main(self, work: Callable[[], T]) -> T:
        """The result of `work`, which the main process does for all. If it fails there, it fails everywhere."""
        if self.size == 1:
            return work()
        told: list[T | GolDecoupleError | None] = [None]
        if self.is_main:
            try:
                told = [work()]
            except GolDecoupleError as error:
                told = [error]
        dist.broadcast_object_list(told)
        if isinstance(told[0], GolDecoupleError):
            raise told[0] if self.is_main else FailedElsewhere(told[0])
        return told[0]  # type: ignore[return-value]  # None only if T is

    def main_first(self, work: Callable[[], T]) -> T:
        """The result of `work`, done by the main process and then by the others, who find what it has downloaded."""
        done: list[T] = []
        self.on_main(lambda: done.append(work()))
        return done[0] if done else work()

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, by rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # all are filled

    def check_same(self, what: str, value: object) -> None:
        """Refuse processes that do not agree on `value`.

        Raises:
            InputError: they do not.
        """
        values = self.gather(value)
        if differing := [rank for rank, other in enumerate(values) if other != values[0]]:
            raise InputError(
                f"the processes of this run do not agree on {what}: process {differing[0]} has {values[differing[0]]}, "
                f"process 0 has {values[0]}",
                "start them all alike; for runs of their own, set RANK=0 and WORLD_SIZE=1 for each",
            )

    def total(self, number: torch.Tensor) -> torch.Tensor:
        """The sum of every process's `number`."""
        if self.size > 1:
            number = number.clone()
            dist.all_reduce(number)
        return number

    def share_model(self, model: nn.Module) -> None:
        """Give every process the main one's weights and statistics."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[tuple[World, torch.device]]:
    """This process's place among those of its run, and its device; they are connected inside the `with` block.

    What fails in several processes is told by the first of them alone: in the others it becomes a `FailedElsewhere`.

    Args:
        device: "auto" and "cuda" stand for each process's own GPU.

    Raises:
        InputError: a device that cannot be used, or that the processes would all use.
        EnvironmentFailure: the processes cannot be connected, or another one has stopped.
    """
    world = World(*find_place())
    if world.size == 1:
        yield world, select_device(device)
        return
    if ":" in device:
        raise InputError(
            f"device {device!r} is one for all of {world.size} processes", "--device cuda: each has its own"
        )
    own = select_device(device, world.local_rank)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    store = _connect(world, own)
    try:
        world.check_same("the kind of device", own.type)
        yield world, own
    except Exception as error:
        failure = error if isinstance(error, GolDecoupleError) else _lost(error) or machine_failure(error, "stage1")
        if failure is None:
            raise
        told = isinstance(error, FailedElsewhere) or not _is_first(store, failure.message)
        if failure is error and world.is_main:
            _wait_for_the_others(store, world)
        raise FailedElsewhere(failure) if told else failure from None
    # Only where all went well: with others missing, it could wait for them. A process that ends is disconnected.
    dist.destroy_process_group()


def first_host(hosts: str) -> str:
    """The first of the hosts that SLURM lists as `node[003-005,12],other`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+))?", hosts)
    return "".join(part or "" for part in found.groups()) if found else hosts


def _connect(world: World, device: torch.device) -> Store:
    job, step = (os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID"))
    if "SLURM_STEP_NODELIST" in os.environ:
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ["SLURM_STEP_NODELIST"]))
        os.environ.setdefault("MASTER_PORT", str(FIRST_PORT + (int(job) + int(step)) % PORTS))
    os.environ.update({"RANK": str(world.rank), "WORLD_SIZE": str(world.size)})
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with _stopped_by_signals():
            store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT_TO_CONNECT)))
            inner = PrefixStore(f"gol-decouple {job}.{step}", store)
            dist.init_process_group(backend, store=inner, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        where = ", ".join(f"{name}={os.environ.get(name, '')}" for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise EnvironmentFailure(
            f"process {world.rank} of {world.size} is not connected with the others ({where}): {_first_line(error)}",
            "start all of them with torchrun or srun; MASTER_ADDR and MASTER_PORT name another host and port",
        ) from None
    return inner


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Signals end the process at once: there is nothing to lose yet, and Python sees none while a library waits."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lost(error: Exception) -> EnvironmentFailure | None:
    """The failure that an error of the connection between the processes stands for."""
    if not isinstance(error, RuntimeError):
        return None
    if not isinstance(error, dist.DistError) and not any(text in str(error) for text in _LEFT):
        return None
    hint = f"its own message says why, if it had time for one; the same command continues. Told: {_first_line(error)}"
    return EnvironmentFailure("another process of this run has stopped, or cannot be reached any more", hint)


def _first_line(error: Exception) -> str:
    """What an error says first; gloo goes on with advice for programmers."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0][:300]


def _is_first(store: Store, message: str) -> bool:
    """Whether no other process has told `message`; where the store is gone with the process that kept it, yes."""
    try:
        first = store.add(f"told {hashlib.sha256(message.encode()).hexdigest()}", 1) == 1
        store.add("failed", 1)
    except RuntimeError:
        return True
    return bool(first)


def _wait_for_the_others(store: Store, world: World) -> None:
    """Stay a little, since the main process keeps the store in which the others see that it has told."""
    stop = time.monotonic() + PATIENCE
    with suppress(RuntimeError):  # torchrun keeps the store itself, and may have gone
        while store.add("failed", 0) < world.size and time.monotonic() < stop:
            time.sleep(0.05)
