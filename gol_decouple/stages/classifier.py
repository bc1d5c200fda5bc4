"""Stage two: retrain classifiers on a run's features, one folder for each method, setting and seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gol_decouple import methods, provenance, runs, runtime
from gol_decouple.class_stats import empty_classes_warning
from gol_decouple.errors import InputError, SomeFailed, few
from gol_decouple.features import FeaturesFile, is_detection, verify
from gol_decouple.methods import Method
from gol_decouple.progress import SILENT, Progress
from gol_decouple.report.rows import read_row
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.belonging import facts_of, note_features, open_own
from gol_decouple.stages.choosing import Candidates, Choice, seeds_of
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.jobs import Job, Retrained, check
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.results_folder import results_of
from gol_decouple.stages.samples import Samples
from gol_decouple.stages.saved import Saved, Work
from gol_decouple.stages.tensorboard import Boards
from gol_decouple.targets import Target

# Of RoIs: each has all its detections in memory, 0.2 GB on LVIS, more with masks.
EVALUATED_TOGETHER = 8


def run_stage2(
    target: Target,
    names: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[Stage2Config],
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
    keep_grid: bool = False,
    annotations: Path | None = None,
) -> list[Path]:
    """Retrain a classifier for every method and seed, all in the same passes over the features.

    Of several points of the grid the best on val is chosen for each method, before test is read. Finished ones are
    kept, interrupted ones continued; one that diverges does not stop the others. Returns the folders.

    Args:
        names: methods (an activation's name is the method of that activation).
        grid: what replaces the methods' own settings; unset fields leave it.
        keep_grid: nothing is chosen, and every point reported.
        annotations: of RoIs, the file in LVIS's format to evaluate with, instead of that in the run's config.

    Raises:
        InputError: an unknown method or setting, a features file that cannot be used, or training that diverges.
        SomeFailed: training that diverges, where others are finished.
        EnvironmentFailure: the disk is full, or another process works on the same folder.
    """
    sets = points_of(target, names, grid, progress)
    work = open_work(target, sets, grid, device, progress, annotations)
    verify(work.features, progress)
    sets = one_by_one(sets) if keep_grid else sets
    candidates = candidates_of(work, sets)
    with results_of(work):
        made, errors = retrain_all(work, sets, seeds, candidates, overwrite)
    raise_all(errors, [folder for _, folder in made])
    return [folder for _, folder in made]


def one_by_one(sets: Sequence[Sequence[Method]]) -> list[list[Method]]:
    """Every point of every method on its own, so that nothing is chosen."""
    return [[point] for points in sets for point in points]


def _is_open(points: Sequence[Method]) -> bool:
    return len(points) > 1 or points[0].temperature == "val"


def candidates_of(work: Work, sets: Sequence[Sequence[Method]]) -> Candidates | None:
    """What the choice is made among, if there is one to make.

    Raises:
        InputError: there is, and these features have nothing to choose by.
    """
    return Candidates(work) if any(map(_is_open, sets)) else None


def retrain_all(
    work: Work,
    sets: Sequence[Sequence[Method]],
    seeds: Sequence[int],
    candidates: Candidates | None = None,
    overwrite: bool = False,
) -> tuple[list[tuple[Job, Path]], list[InputError]]:
    """What `run_stage2` does, once all is open: what was to be made, with its folder, and the errors of what failed.

    Args:
        candidates: of `candidates_of` these points.
    """
    open_sets = [points for points in sets if _is_open(points)]
    chosen: list[Method | Choice] = [points[0] for points in sets if points not in open_sets]
    errors = []
    if candidates is not None:
        for failed in candidates.run([point for points in open_sets for point in points], seeds, overwrite):
            work.progress.warn(f"left out of the choice: {failed.message}")
        for points in open_sets:
            try:
                chosen.append(candidates.choose(points, seeds))
            except InputError as error:
                errors.append(error)
    made, failed_finals = make_final(work, chosen, seeds, candidates, overwrite)
    return made, errors + failed_finals


def raise_all(errors: Sequence[InputError], folders: Iterable[Path]) -> None:
    """Raise one error that tells of all, if there are any: SomeFailed, if one of `folders` is finished."""
    if errors:
        told = few([error.message for error in errors])
        kind = SomeFailed if any(map(runs.is_finished, folders)) else InputError
        raise kind(told if len(errors) == 1 else f"{len(errors)} classifiers failed: {told}", errors[0].hint)


def points_of(
    target: Target, names: Sequence[str], grid: Sequence[Stage2Config], progress: Progress
) -> list[list[Method]]:
    """Every method's points of the grid; points that differ in what a method does not have are one."""
    settings, background = runs.method_settings(target.config), is_detection(target.features)
    plain = [methods.configured(name, settings, background) for name in dict.fromkeys(names)]
    for name in dict.fromkeys(name for point in grid for name in point.changes):
        if not any(name in method.settings for method in plain):
            progress.warn(f"stage2.{name} has no effect on {', '.join(method.name for method in plain)}")
    sets = [[methods.apply_settings([base], point.changes)[0] for point in grid] for base in plain]
    return [[point for place, point in enumerate(points) if point not in points[:place]] for points in sets]


def open_work(
    target: Target,
    sets: Sequence[Sequence[Method]],
    grid: Sequence[Stage2Config],
    device: str,
    progress: Progress,
    annotations: Path | None = None,
) -> Work:
    """What stage two works on, once all that can be wrong with it and the methods has been found.

    Raises:
        InputError: a features file or a setting that cannot be used.
    """
    provenance.remember()  # now, as the files may be edited while this trains
    features = open_own(target)
    if target.config is not None:
        read_row(target.folder)  # what the report cannot read must not be found after the training
    if "test" not in features and not features.is_detection:
        raise InputError(f"{target.features} has no test split to report on", "write it with train and test")
    for points in sets:
        for point in points:
            check(point, features.classes)
    if warning := empty_classes_warning(features.classes.names, features.classes.train_counts):
        progress.warn(warning)
    if len(features["train"].features) == 1 and any(point.views == "random" for point in grid):
        progress.warn(f"{target.features} has the clean view only: stage2.views = 'random' changes nothing")
    if not features.checked:
        progress.warn(f"{target.features} was written elsewhere: it has no checksums, so damage cannot be noticed")
    memory_gb, refit, gradients = (_one_value(grid, name) for name in ("memory_gb", "refit", "gradients"))
    boards = Boards() if _one_value(grid, "tensorboard") else None
    used_device = runtime.select_device(device)
    detections = None
    if features.is_detection:
        detections = DetectionEvaluation(features, target.config, target.folder, annotations, used_device, progress)
        if refit and detections.split == "val":
            told = f"stage2.refit = true trains on val, and {target.features} has nothing else to evaluate on"
            raise InputError(told, "leave it unset")
        _warn_of_few_steps(features, sets, progress)
    elif annotations is not None:
        raise InputError(f"{target.features} holds samples, not RoIs: there is nothing to annotate", "no --annotations")
    return Work(target, features, used_device, memory_gb, refit, progress, detections, gradients, boards)


def _warn_of_few_steps(features: FeaturesFile, sets: Sequence[Sequence[Method]], progress: Progress) -> None:
    """Batches for as many RoIs as LVIS has leave a small dataset a step an epoch."""
    num_rois = int((features["train"].labels >= 0).sum())
    large = [point.batch_size for points in sets for point in points if point.is_trained]
    if large and max(large) >= num_rois:
        told = f"there are {num_rois:,} RoIs, and batches of {max(large):,}: one step an epoch"
        progress.warn(f"{told} (--set stage2.batch_size={max(1, num_rois // 64)} would make 64)")


def _one_value(grid: Sequence[Stage2Config], name: str) -> Any:
    """The value of a setting that all classifiers of a command share.

    Raises:
        InputError: there are several.
    """
    values = {getattr(point, name) for point in grid}
    if len(values) > 1:
        raise InputError(f"stage2.{name} takes one value: it is one for all classifiers of a command")
    return values.pop()


def final_samples(work: Work) -> Samples:
    """What classifiers that were not chosen among others are trained on."""
    return Samples(with_val=bool(work.refit) and "val" in work.features)


def make_final(
    work: Work,
    chosen: Sequence[Method | Choice],
    seeds: Sequence[int],
    candidates: Candidates | None = None,
    overwrite: bool = False,
) -> tuple[list[tuple[Job, Path]], list[InputError]]:
    """Make the classifiers that are reported, and evaluate them on test; returns their folders, and what failed."""
    if work.target.config is None:
        note_features(work.target.folder, facts_of(work.features), work.progress)
    everything = final_samples(work)
    as_chosen = candidates.holdout.rest if candidates is not None and work.refit is False else everything
    has_classifier = work.features.classifier is not None
    jobs: dict[str, list[tuple[Job, Choice | None]]] = {everything.key: [], as_chosen.key: []}
    for one in chosen:
        choice = one if isinstance(one, Choice) else None
        method = one.method if isinstance(one, Choice) else one
        temperatures = choice.temperatures if choice else {}
        jobs[as_chosen.key if choice else everything.key] += [
            (Job(method, seed, temperature=temperatures.get(seed)), choice)
            for seed in seeds_of(method, seeds, has_classifier)
        ]
    made, errors = [], []
    for samples in {samples.key: samples for samples in (everything, as_chosen)}.values():
        finals = Finals(work)
        same = candidates is not None and candidates.saved.samples.key == samples.key
        adopted = candidates.saved if candidates is not None and same else None
        saved = Saved(work, runs.STAGE2, samples, finals.add, adopted)
        errors += saved.run([job for job, _ in jobs[samples.key]], overwrite)
        finals.finish()
        for job, choice in jobs[samples.key]:
            made.append((job, saved.folder(job)))
            if choice is not None and saved.is_finished(job):
                choice.write(made[-1][1])
    return made, errors


class Finals:
    """Classifiers that are trained and not yet evaluated: those of RoIs are, several at a time, in one pass."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # What others start from has to be finished before they can start.
        self._together = EVALUATED_TOGETHER if work.detections and work.features.classifier is not None else 1
        self._waiting: list[tuple[Path, Job, Retrained, dict[str, Any]]] = []

    def add(self, folder: Path, job: Job, result: Retrained, facts: dict[str, Any]) -> None:
        """One that is trained, its folder, and facts for its manifest."""
        self._waiting.append((folder, job, result, facts))
        if len(self._waiting) == self._together:
            self.finish()

    def finish(self) -> None:
        """Evaluate all that wait, and write their manifests."""
        work, waiting, self._waiting = self._work, self._waiting, []
        if work.detections is not None:
            work.detections.evaluate_together([(result, result.loss) for _, _, result, _ in waiting])
        for folder, job, result, facts in waiting:
            finish(
                *(folder, result, work.features, result.loss, work.device, facts, job.temperature),
                detections=work.detections,
            )
