"""Rates on machines that other work shares: measured in turns, so that a slow minute falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def rates(work: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Units per second of each piece of work, once a round; the first round warms up and is not counted.

    Args:
        work: functions that do some work and return how many units it was.
    """
    measured: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, function in work.items():
            started = time.perf_counter()
            units = function()
            if turn:
                measured[name].append(units / (time.perf_counter() - started))
    return measured


def ratio(of: list[float], to: list[float]) -> str:
    """Median and range of the ratio within each round."""
    ratios = [a / b for a, b in zip(of, to, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
