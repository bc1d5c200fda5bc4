"""Which of the processes that torchrun or srun started this one is, as their variables tell. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from gol_decouple.errors import InputError


class Place(NamedTuple):
    """A process among those of its run: its rank, 0..size-1, how many there are, and its rank on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def find_place(environment: Mapping[str, str] = os.environ) -> Place:
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
    return Place(*map(int, values))
