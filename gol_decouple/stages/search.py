"""The search that tuning makes: settings of many methods, round after round, as long as there is time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from gol_decouple.methods import Method
from gol_decouple.progress import Progress
from gol_decouple.stages.choosing import Candidates, Choice

# Of the time that is left, what one round of candidates may take; then they are ranked anew.
_SHARE_A_ROUND = 0.5


class Search:
    """Candidates of every method, round after round.

    Args:
        sets: of each method the settings to try, in that order.

    Attributes:
        left: of each method the settings that are to be tried.
        choices: for each method that was tried, its best setting so far.
    """

    def __init__(
        self, candidates: Candidates, sets: Sequence[Sequence[Method]], seeds: Sequence[int], progress: Progress
    ) -> None:
        self._candidates = candidates
        self._seeds = seeds
        self._progress = progress
        self._rows_a_second = 0.0
        self._points = {points[0].name: list(points) for points in sets}
        self.left = {name: list(points) for name, points in self._points.items()}
        self.choices: dict[str, Choice] = {}

    @property
    def tried(self) -> dict[str, list[Method]]:
        """Of each method the settings that were tried, in the order of `sets`, whatever was there before."""
        return {
            name: [point for point in points if point not in self.left[name]] for name, points in self._points.items()
        }

    @property
    def untried(self) -> list[str]:
        """Names of methods that there was no time for, or that failed."""
        return [name for name in self.left if name not in self.choices]

    def run(self, deadline: float) -> None:
        """Try until everything was tried or the time is over; what is there already takes none."""
        self.left = {name: [each for each in some if not self._is_there(each)] for name, some in self.left.items()}
        jobs = [job for some in self.left.values() for each in some for job in self._candidates.jobs(each, self._seeds)]
        for error in self._candidates.saved.train_first(jobs) if deadline > time.monotonic() else ():
            self._progress.warn(error.message)
        self._rank()
        cost_done, seconds_done = 0.0, 0.0
        while batch := self._next_round(deadline - time.monotonic()):
            started = time.monotonic()
            cost_done += sum(self._cost(point) for _, point in batch)
            for error in self._candidates.run([point for _, point in batch], self._seeds):
                self._progress.warn(f"left out: {error.message}")
            seconds_done += time.monotonic() - started
            self._rows_a_second = cost_done / max(seconds_done, 1e-9)
            for name, point in batch:
                self.left[name].remove(point)
            self._rank()

    def _next_round(self, seconds: float) -> list[tuple[str, Method]]:
        """The next setting of each method, of the best methods first, as far as they fit; the first is a trial.

        No method has its second setting before all have had their first, unless that takes too long.
        """
        ranking = sorted(self.left, key=lambda name: -self._value(name))
        waiting = [(name, self.left[name][0]) for name in ranking if self.left[name]]
        if not waiting or seconds <= 0:
            return []
        if not self._rows_a_second:
            return [min(waiting, key=lambda pair: self._cost(pair[1]))]
        new = [(name, point) for name, point in waiting if len(self.left[name]) == len(self._points[name])]
        batch = self._fitting(waiting, seconds)
        return batch if all(pair in batch for pair in new) else self._fitting(new, seconds) or batch

    def _fitting(self, waiting: Sequence[tuple[str, Method]], seconds: float) -> list[tuple[str, Method]]:
        batch: list[tuple[str, Method]] = []
        rows = 0.0
        for name, point in waiting:
            cost = self._cost(point)
            # One that is too long for the round's share still is a round of its own.
            if cost <= self._rows_a_second * seconds and (
                not batch or rows + cost <= self._rows_a_second * seconds * _SHARE_A_ROUND
            ):
                batch.append((name, point))
                rows += cost
        return batch

    def _value(self, name: str) -> float:
        """For the order: methods that were not tried come first."""
        choice = self.choices.get(name)
        return math.inf if choice is None else choice.value

    def _cost(self, point: Method) -> float:
        """Rows that pass through a classifier, in training and evaluation."""
        rows = self._candidates.num_samples
        jobs = [job for job in self._candidates.jobs(point, self._seeds) if self._candidates.saved.is_left(job)]
        return len(jobs) * (point.epochs * rows + rows / 4)

    def _is_there(self, point: Method) -> bool:
        return not any(map(self._candidates.saved.is_left, self._candidates.jobs(point, self._seeds)))

    def _rank(self) -> None:
        for name, points in self.tried.items():
            if any(self._candidates.value(point, self._seeds) is not None for point in points):
                self.choices[name] = self._candidates.choose(points, self._seeds)
        # Where two are equal, the one that was named first comes first.
        self.choices = {name: self.choices[name] for name in self._points if name in self.choices}
