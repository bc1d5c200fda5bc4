"""Ratios on machines that other work shares: all is measured in turns, so that a slow minute falls on all alike."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

_SPREAD: dict[str, Callable[[list[float]], float]] = {"median": statistics.median, "least": min, "most": max}


def rates(
    work: Mapping[str, Callable[[], int]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Units per second of each piece of work, once a round; the first round warms up and is not counted.

    Args:
        work: functions that do some work and return how many units it was.
        clock: time.process_time counts what all threads take of the processor, whatever else it is busy with.
    """
    measured: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, function in work.items():
            started = clock()
            units = function()
            if turn:
                measured[name].append(units / (clock() - started))
    return measured


def spread(of: list[float], to: list[float] | None = None) -> dict[str, float]:
    """Median and range of some values, or of their ratio to others within each round."""
    found = of if to is None else [a / b for a, b in zip(of, to, strict=True)]
    return {name: round(value(found), 3) for name, value in _SPREAD.items()}


def times(rates: list[float]) -> dict[str, float]:
    """Median and range of the seconds that one unit took."""
    return spread([1 / rate for rate in rates])


class Interleaved:
    """Times pieces of work slice by slice in turns: each is an iterator that does one slice a step.

    The first piece is the one that calls `turn` between its own slices.

    Args:
        processor: count processor time; of the others that of the calling thread alone, since threads of the first
            piece may go on meanwhile. All of these are its own.
    """

    def __init__(self, others: Mapping[str, Iterator[None]], processor: bool = False) -> None:
        self._others = dict(others)
        self.seconds = dict.fromkeys(others, 0.0)
        self._of_all = time.process_time if processor else time.perf_counter
        self._of_others = time.thread_time if processor else time.perf_counter
        self._started = self._of_all()

    def turn(self) -> None:
        """One slice of every other piece."""
        for name, slices in self._others.items():
            started = self._of_others()
            next(slices, None)
            self.seconds[name] += self._of_others() - started

    def finish(self) -> float:
        """Do what is left of the others; returns the seconds of the calling piece."""
        own = self._of_all() - self._started - sum(self.seconds.values())
        for name, slices in self._others.items():
            started = self._of_others()
            for _ in slices:
                pass
            self.seconds[name] += self._of_others() - started
        return own


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    cpu = next((line.split(":")[1].strip() for line in told.splitlines() if line.startswith("model name")), "unknown")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "bfloat16": "avx512_bf16" in told or "amx_bf16" in told,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def report(name: str, figures: Mapping[str, Any], out: Path | None) -> None:
    """Print figures, and write them with the machine's description as `out`/`name`.json."""
    for figure, value in figures.items():
        print(f"{figure}: {value}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        tree = {"benchmark": name, "machine": machine(), "figures": dict(figures)}
        (out / f"{name}.json").write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
