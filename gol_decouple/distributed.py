"""Several processes that work on one run, as torchrun or srun starts them: who is who, and what they tell."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gol_decouple.errors import EnvironmentFailure, FailedElsewhere, GolDecoupleError, InputError, machine_failure
from gol_decouple.runtime import select_device

T = TypeVar("T")

# One process may evaluate, or look at many files, while the others wait for it.
TIMEOUT = timedelta(hours=2)
PATIENCE = 5.0  # seconds for which a failure waits to be told once
FIRST_PORT, PORTS = 20_000, 20_000
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
            raise told[0]
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


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """What torchrun's variables, or else those of srun's job steps, say; one process where there are neither.

    Raises:
        InputError: variables that are no numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    # Of srun's processes only: a batch script has SLURM_NTASKS too, and is one process.
    if "RANK" not in environment and "SLURM_STEP_NUM_TASKS" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    values = [environment.get(name, default) for name, default in zip(names, ("0", "1", "0"), strict=True)]
    if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
        told = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise InputError(f"the environment's {told} make no sense", "unset them, or start with torchrun or srun")
    return World(*map(int, values))


@contextmanager
def joined(device: str) -> Iterator[tuple[World, torch.device]]:
    """This process's place among those of its run, and its device; they are connected inside the `with` block.

    What fails in several processes is told by the first of them alone: in the others it becomes a `FailedElsewhere`.

    Args:
        device: "auto" and "cuda" stand for each process's own GPU.

    Raises:
        InputError: a device that cannot be used.
        EnvironmentFailure: another process has stopped.
    """
    world = find_world()
    if world.size == 1:
        yield world, select_device(device)
        return
    own = select_device(device, world.local_rank)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    store = _connect(world, own)
    try:
        yield world, own
    except Exception as error:
        failure = error if isinstance(error, GolDecoupleError) else _lost(error) or machine_failure(error)
        if failure is None:
            raise
        told = not _is_first(store, failure.message)
        if failure is error and world.is_main:
            _wait_for_the_others(store, world)
        raise FailedElsewhere(failure) if told else failure from None
    finally:
        dist.destroy_process_group()


def first_host(hosts: str) -> str:
    """The first of the hosts that SLURM lists as `node[003-005,12],other`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+))?", hosts)
    return "".join(part or "" for part in found.groups()) if found else hosts


def _connect(world: World, device: torch.device) -> Store:
    if "SLURM_STEP_NODELIST" in os.environ:
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ["SLURM_STEP_NODELIST"]))
        os.environ.setdefault("MASTER_PORT", str(FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % PORTS))
    told = {"RANK": world.rank, "WORLD_SIZE": world.size}
    os.environ.update({name: str(value) for name, value in told.items()})
    store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    inner = PrefixStore("gol-decouple", store)
    dist.init_process_group(backend, store=inner, rank=rank, world_size=size, timeout=TIMEOUT)
    return inner


def _lost(error: Exception) -> EnvironmentFailure | None:
    """The failure that an error of the connection between the processes stands for."""
    if not isinstance(error, dist.DistError) and not any(text in str(error) for text in _LEFT):
        return None
    hint = "its own message says why, if it had time for one; the same command continues where the run was"
    return EnvironmentFailure("another process of this run has stopped", hint)


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
    while store.add("failed", 0) < world.size and time.monotonic() < stop:
        time.sleep(0.05)
