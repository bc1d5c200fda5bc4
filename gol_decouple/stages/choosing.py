"""Choosing between settings of a method by samples that are held out; the test split is not touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from gol_decouple import methods, runs
from gol_decouple.class_stats import class_counts
from gol_decouple.errors import InputError, few
from gol_decouple.features import is_detection
from gol_decouple.files import write_json
from gol_decouple.methods import Method
from gol_decouple.stages.evaluation import fitted_temperature, of_trained_classes
from gol_decouple.stages.jobs import Job, Retrained
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.samples import Holdout
from gol_decouple.stages.saved import Saved, Work

# The mean over classes: what is held out is often as long-tailed as train.
CRITERION = "top1_balanced"


@dataclass(frozen=True)
class Choice:
    """What was chosen among settings of one method, and by what.

    Attributes:
        method: as it was chosen.
        held_out: what the choice was made by, in words.
        tried: every setting with its value of `CRITERION`, the mean over seeds; None where one diverged.
        temperatures: of each seed's scores, where the method has one fitted.
    """

    method: Method
    held_out: str
    tried: Sequence[tuple[Method, float | None]]
    temperatures: Mapping[int, float]

    @property
    def value(self) -> float:
        """The value of what was chosen."""
        return next(value for method, value in self.tried if method == self.method and value is not None)

    def told(self) -> dict[str, Any]:
        """The choice as plain values."""
        tried = [{"settings": methods.changed_settings(method), "value": value} for method, value in self.tried]
        return {"held_out": self.held_out, "criterion": CRITERION, "value": self.value, "tried": tried}

    def write(self, folder: Path) -> None:
        """Tell it beside the classifier in `folder`."""
        write_json(folder / runs.CHOICE, self.told())


def refuse_rois(features: Path) -> None:
    """Raise an InputError for RoIs: average precision on val would be what to choose by, and is not yet."""
    if is_detection(features):
        raise InputError(
            f"{features} holds RoIs, whose accuracy is nothing to choose settings or methods by",
            "gol-decouple stage2 with one value of each setting, or --keep-grid",
        )


class Candidates:
    """Classifiers that are trained without what is held out, and evaluated on it."""

    def __init__(self, work: Work) -> None:
        refuse_rois(work.features.path)
        self.holdout = Holdout.of(work.features)
        self._work = work
        self.saved = Saved(work, runs.CANDIDATES, self.holdout.rest, self._finish)
        if self.holdout.split == "train":
            work.progress.warn(
                f"{work.features.path} has no val split: choosing by {self.holdout}. If the backbone was trained on "
                "them, accuracies on them are too high, and those of what fits train closely most; data.val_fraction "
                "in stage one holds them out in time"
            )
        if unseen := self._unseen():
            work.progress.warn(f"{self.holdout} has no sample of {unseen}: choices take no account of them")

    def run(self, points: Sequence[Method], seeds: Sequence[int], overwrite: bool = False) -> list[InputError]:
        """Train every point with every seed, unless it is there; returns the errors of what failed."""
        if any(point.temperature == "val" for point in points):
            of_trained_classes(self._work.features, self.holdout.split, self.holdout.positions)
        jobs = [job for point in points for job in self.jobs(point, seeds)]
        left = [job for job in jobs if overwrite or self.saved.is_left(job)]
        if len(left) < len(jobs):
            self._work.progress.say(f"{len(jobs) - len(left)} of {len(jobs)} candidates were trained before")
        return self.saved.run(left, overwrite)

    def _unseen(self) -> str:
        """The classes that train has samples of and what is held out has not, in words; "" if there is none."""
        classes, labels = self._work.features.classes, self._work.features[self.holdout.split].labels
        held_out = labels if self.holdout.positions is None else labels[self.holdout.positions]
        unseen = (classes.train_counts > 0) & (class_counts(held_out, len(classes)) == 0)
        names = [classes.names[label] for label in np.flatnonzero(unseen)]
        return f"{len(names):,} of {len(classes):,} classes ({few(names)})" if names else ""

    @property
    def num_samples(self) -> int:
        """How many are trained on."""
        return len(self.saved.samples.kept(self._work.features))

    def jobs(self, point: Method, seeds: Sequence[int]) -> list[Job]:
        """A point's classifiers: one a seed, but where seeds change nothing."""
        return [Job(point, seed) for seed in seeds_of(point, seeds, self._work.features.classifier is not None)]

    def value(self, point: Method, seeds: Sequence[int]) -> float | None:
        """The mean over seeds of `CRITERION` on what is held out, in percent; None if a seed failed."""
        folders = [self.saved.folder(job) for job in self.jobs(point, seeds)]
        if not all(map(runs.is_finished, folders)):
            return None
        return fmean(map(_value_in, folders))

    def choose(self, points: Sequence[Method], seeds: Sequence[int]) -> Choice:
        """The best of some settings of one method, of equals the first.

        Raises:
            InputError: none could be trained.
        """
        tried = [(point, self.value(point, seeds)) for point in points]
        values = [(value, -place) for place, (_, value) in enumerate(tried) if value is not None]
        if not values:
            told = few([", ".join(map(str, self.jobs(point, seeds[:1]))) for point in points])
            raise InputError(f"nothing to choose from: all of these failed: {told}", "try a lower stage2.lr")
        chosen = points[-max(values)[1]]
        temperatures = {}
        if chosen.temperature == "val":
            manifests = {job.seed: runs.read_manifest(self.saved.folder(job)) for job in self.jobs(chosen, seeds)}
            temperatures = {seed: float(manifest["temperature"]) for seed, manifest in manifests.items()}
        return Choice(chosen, str(self.holdout), tried, temperatures)

    def _finish(self, folder: Path, job: Job, result: Retrained, facts: dict[str, Any]) -> None:
        work, held_out = self._work, (self.holdout.split, self.holdout.positions)
        temperature = None
        if job.method.temperature == "val":
            temperature = fitted_temperature(result, work.features, held_out[0], result.loss, held_out[1])
        finish(folder, result, work.features, result.loss, work.device, facts, temperature, *held_out)


def _value_in(folder: Path) -> float:
    try:
        return float(runs.read_manifest(folder)["metrics"][CRITERION])
    except (KeyError, TypeError, ValueError):
        path = folder / runs.MANIFEST
        raise InputError(f"{path} is not a candidate's: it has no {CRITERION}", f"remove {folder}") from None


def seeds_of(method: Method, seeds: Sequence[int], has_classifier: bool) -> Sequence[int]:
    """The first seed alone for what is not trained, unless what it starts from depends on the seed."""
    alike = not method.is_trained and (has_classifier or method.start == "fresh")
    return seeds[:1] if alike else seeds
