"""Stage two of a cascade: classifiers retrained on the RoIs of each of its stages, whose scores are averaged.

As Cascade R-CNN and Hybrid Task Cascade test: a proposal's scores are the mean over the stages, each of which sees it
as the stages before have refined it; its box is that of the last stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple import belonging, methods, runs
from gol_decouple.classifiers import Classifier
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, is_detection, verify
from gol_decouple.files import make_folder
from gol_decouple.losses import Loss
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.belonging import note_features
from gol_decouple.stages.classifier import (
    EVALUATED_TOGETHER,
    candidates_of,
    final_samples,
    one_by_one,
    open_work,
    points_of,
    raise_all,
    retrain_all,
)
from gol_decouple.stages.finding import find_retrained
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.loaded import stage_one
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.restored import retrained
from gol_decouple.stages.results_folder import means_of, results_of
from gol_decouple.stages.saved import Work
from gol_decouple.targets import Target

# What a manifest of the mean says as those of its members do.
_OF_MEMBERS = (
    *("method", "activation", "loss", "sampler", "classifier", "seed", "settings", "changed_settings"),
    *("started_from", "trained_on", "class_counts", "views"),
)
# What features files of one detector's stages tell alike, as far as they tell it.
_OF_ALL_STAGES = ("backbone", "dataset", "transform", "classes", "frequency")


def run_cascade(
    stages: Sequence[Target],
    folder: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[Stage2Config],
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
    keep_grid: bool = False,
    annotations: Path | None = None,
) -> list[Path]:
    """Retrain classifiers on the RoIs of every stage, as `run_stage2` does, then evaluate the mean of their scores.

    That is done for each method and seed trained on all of them, and for the classifiers of stage one, if every file
    has one. Means that are finished are kept. Returns the folders of the means.

    Args:
        stages: features files of detection, in the order of the stages.
        folder: for the means; classifiers are in the folder of their stage's features file.

    Raises:
        InputError: files that are not the stages of one cascade, and what `run_stage2` raises.
        EnvironmentFailure: the disk is full, or another process works on one of the folders.
    """
    _check_targets(stages)
    sets = points_of(stages[0], names, grid, progress)
    works = [open_work(stage, sets, grid, device, progress, annotations) for stage in stages]
    for one, other in combinations([work.features for work in works], 2):
        _check_pair(one, other)
        _check_origins(one, other)
    for work in works:
        verify(work.features, progress)
    made: list[list[tuple[Job, Path]]] = []
    errors: list[InputError] = []
    sets = one_by_one(sets) if keep_grid else sets
    candidates = [candidates_of(work, sets) for work in works]
    with ExitStack() as stack:
        for held in (means_of(folder), *(results_of(work) for work in works)):
            stack.enter_context(held)
        for work, own in zip(works, candidates, strict=True):
            progress.say(f"stage {len(made) + 1} of {len(works)}: {work.features.path}")
            of_stage, failed = retrain_all(work, sets, seeds, own, overwrite)
            made.append(of_stage)
            errors += failed
        files = {work.features.path.name: work.features.fingerprint for work in works}
        facts = {"fingerprint": _fingerprint([work.features for work in works]), "files": files}
        note_features(folder, facts, progress)
        found = _evaluate([*_of_stage_one(works, folder), *_retrained(works, made, folder)], works, overwrite)
    raise_all(errors, (path for of_stage in made for _, path in of_stage))
    return found


@dataclass(frozen=True)
class _Mean:
    """A classifier of each stage, and the folder of what their mean is.

    Attributes:
        members: the classifiers' own folders; None for those of stage one, which are in the features files.
        jobs: what was trained; None for stage one.
    """

    folder: Path
    members: Sequence[Path | None]
    job: Job | None = None

    def parts(self, works: Sequence[Work]) -> tuple[list[Any], list[Loss]]:
        """The classifiers and their losses."""
        if self.job is None:
            found = [stage_one(work.target.folder, work.target.config, work.features) for work in works]
        else:
            pairs = zip(works, self.members, strict=True)
            found = [_of_member(work, member) for work, member in pairs if member is not None]
        there = [one for one in found if one is not None]
        return [classifier for classifier, _ in there], [loss for _, loss in there]

    def facts(self, works: Sequence[Work]) -> dict[str, Any]:
        """What its manifest says, but for figures."""
        told = [{} if member is None else runs.read_manifest(member) for member in self.members]
        features = [work.features for work in works]
        of_stage_one: dict[str, Any] = {"method": "softmax", "activation": "softmax", "loss": "cross_entropy"}
        of_stage_one |= {"sampler": None, "classifier": "linear", "seed": 0, "settings": {}}
        of_stage_one["started_from"] = "checkpoint"
        return {
            "stage": 1 if self.job is None else 2,
            "run": self.folder.parent.parent.name,
            **(of_stage_one if self.job is None else {name: told[-1][name] for name in _OF_MEMBERS}),
            "seconds": sum(one.get("seconds", 0.0) for one in told),
            "cascade": [
                {"features": of.path.name, "fingerprint": of.fingerprint, "classifier": member and member.name}
                for of, member in zip(features, self.members, strict=True)
            ],
            "features": {
                "fingerprint": _fingerprint(features),
                "size": features[-1].feature_size,
                "checked": all(of.checked for of in features),
            },
        }


def _of_member(work: Work, member: Path) -> tuple[Classifier, Loss]:
    shape = len(work.features.classes), work.features.feature_size
    return retrained(find_retrained(work.target.folder, member), shape)


def _of_stage_one(works: Sequence[Work], folder: Path) -> Iterator[_Mean]:
    features = [work.features for work in works]
    if all(of.classifier is not None for of in features):
        key = f"stage_one-{_fingerprint(features)[:8]}"
        yield _Mean(folder / runs.STAGE2 / key, [None] * len(works))


def _retrained(works: Sequence[Work], made: Sequence[Sequence[tuple[Job, Path]]], folder: Path) -> Iterator[_Mean]:
    """Those that all stages have."""
    fingerprint = _fingerprint([work.features for work in works])
    for job, _ in made[0]:
        alike = [
            [path for other, path in of_stage if (other.method, other.seed) == (job.method, job.seed)]
            for of_stage in made
        ]
        members = [paths[0] for paths in alike if paths and runs.is_finished(paths[0])]
        if len(members) == len(works):
            changed = methods.changed_settings(job.method, background=True)
            trained_on = final_samples(works[0]).key
            key = runs.classifier_key(job.method, changed, job.seed, fingerprint, trained_on)
            yield _Mean(folder / runs.STAGE2 / key, members, job)


def _evaluate(means: Sequence[_Mean], works: Sequence[Work], overwrite: bool) -> list[Path]:
    """Evaluate those that are not finished, several at a time in one pass over the images, and write their folders."""
    last = works[-1]
    assert last.detections is not None
    detections = last.detections.of_cascade([work.features for work in works[:-1]])
    left = []
    for mean in means:
        if overwrite or not runs.is_finished(mean.folder):
            left.append(mean)
            continue
        last.progress.say(f"{mean.folder} is finished and kept as it is (--overwrite evaluates it again)")
        detections.tell_other(mean.folder)
    for start in range(0, len(left), EVALUATED_TOGETHER):
        some = left[start : start + EVALUATED_TOGETHER]
        pairs = [mean.parts(works) for mean in some]
        detections.evaluate_together(pairs)
        for mean, (classifiers, of_stages) in zip(some, pairs, strict=True):
            facts = mean.facts(works)
            # So that it never tells of other figures than those beside it.
            (make_folder(mean.folder) / runs.MANIFEST).unlink(missing_ok=True)
            finish(mean.folder, classifiers, last.features, of_stages, last.device, facts, detections=detections)
    return [mean.folder for mean in means]


def _fingerprint(stages: Sequence[FeaturesFile]) -> str:
    """Of all the files, in their order."""
    return hashlib.sha256(" ".join(features.fingerprint for features in stages).encode()).hexdigest()


def _check_targets(stages: Sequence[Target]) -> None:
    if len(stages) < 2:
        raise InputError("a cascade has several stages", "name the features file of each, in their order")
    for stage in stages:
        if stage.config is not None:
            told = f"{stage.folder} is a run: the stages of a cascade are features files, each of its own RoIs"
            raise InputError(told, "docs/exported-rois.md says how they are made")
        if not is_detection(stage.features):
            raise InputError(f"{stage.features} holds samples, not RoIs: it is no stage of a cascade")
    for one, other in combinations([stage.features for stage in stages], 2):
        if other.samefile(one):
            raise InputError(f"{other} is there twice", "name the features file of each stage once, in their order")
    for earlier, later in combinations(stages, 2):
        if earlier.folder == later.folder:
            told = f"results of {earlier.features} and {later.features} would go to one folder, {earlier.folder}"
            raise InputError(told, "give each file a name of its own")


def _check_origins(earlier: FeaturesFile, later: FeaturesFile) -> None:
    """Raise an InputError for files that say of themselves that they are in another order."""
    places = [of.origin.get("rois", {}).get("stage") for of in (earlier, later)]
    if None not in places and places[0] >= places[1]:
        told = f"{earlier.path} is of stage {places[0]} and {later.path} of stage {places[1]}"
        raise InputError(told, "name the files in the order of their stages: boxes are those of the last")


def _common(facts: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Of some facts those that others tell too."""
    nested = {name: _common(value, other[name]) for name, value in facts.items() if _are_dicts(value, other.get(name))}
    return {name: nested.get(name, value) for name, value in facts.items() if name in other}


def _are_dicts(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _check_pair(first: FeaturesFile, other: FeaturesFile) -> None:
    """Raise an InputError for files that cannot be of one cascade, by what they hold and what they say of themselves:
    they need not say where they are from.
    """
    both = f"{first.path} and {other.path}"
    parts = [{name: of.facts[name] for name in _OF_ALL_STAGES if name in of.facts} for of in (first, other)]
    if fields := belonging.differences(_common(*parts), _common(*parts[::-1])):
        hint = "export the stages of one detector together"
        raise InputError(f"{both} are not of one cascade: {'; '.join(fields)}", hint)
    split = "test" if "test" in first else "val"
    if split not in other or ("test" in other) != ("test" in first):
        raise InputError(f"{both} are not of one cascade: they have {first.splits} and {other.splits}")
    mine, theirs = first[split].images, other[split].images
    hint = "row r of an image is one proposal in the files of all stages: export them together"
    if not np.array_equal(mine.ids, theirs.ids):
        told = f"their {split} images differ, or the images' order"
        raise InputError(f"{both} are not of one cascade: {told}", hint)
    if len(differ := np.flatnonzero(mine.num_rois != theirs.num_rois)):
        at = int(differ[0])
        told = f"{split} image {mine.ids[at]} has {mine.num_rois[at]} RoIs and {theirs.num_rois[at]}"
        raise InputError(f"{both} are not of one cascade: {told}", hint)
