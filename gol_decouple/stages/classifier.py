"""Stage two: retrain classifiers on a run's features, one folder for each method, setting and seed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from gol_decouple import methods, runs, runtime
from gol_decouple.class_stats import empty_classes_warning
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import InputError, few
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.files import atomic_path, disk_errors
from gol_decouple.methods import Method
from gol_decouple.progress import SILENT, Progress
from gol_decouple.runs import Target
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job, Retrained, State, check, loss_of
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.together import train_together

CLASSIFIER = "classifier.safetensors"
STATE = "state.safetensors"
LOSS_STATE = "loss."  # before the names of the loss's own tensors in a state
# A training that is stopped loses no more than this, or an epoch where that is longer.
SECONDS_BETWEEN_SAVES = 30.0


def run_stage2(
    target: Target,
    names: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[Stage2Config],
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[Path]:
    """Retrain a classifier for every method, point of the grid and seed, all in the same passes over the features.

    Finished ones are kept, interrupted ones continued; one that diverges does not stop the others. Returns the folders.

    Args:
        names: methods (an activation's name is the method of that activation).
        grid: what replaces the methods' own settings; unset fields leave it.

    Raises:
        InputError: an unknown method or setting, a features file that cannot be used, or training that diverges.
        EnvironmentFailure: the disk is full.
    """
    chosen = _methods(names, grid, progress)
    features = open_features(target.features)
    if "test" not in features:
        raise InputError(f"{target.features} has no test split to report on", "write it with train and test")
    for method in chosen:
        check(method, features.classes)
    if warning := empty_classes_warning(features.classes.names, features.classes.train_counts):
        progress.warn(warning)
    if len(features["train"].features) == 1 and any(point.views == "random" for point in grid):
        progress.warn(f"{target.features} has the clean view only: stage2.views = 'random' changes nothing")
    if not features.checked:
        progress.warn(f"{target.features} was written elsewhere: it has no checksums, so damage cannot be noticed")
    budgets = {point.memory_gb for point in grid}
    if len(budgets) > 1:
        raise InputError("stage2.memory_gb takes one value: all classifiers are trained from the same memory")
    stage = _StageTwo(target, features, device, budgets.pop(), progress)
    # What is not trained is the same for every seed, unless what it starts from is not.
    once = features.classifier is not None
    jobs = [Job(method, seed) for method in chosen for seed in (seeds[:1] if method.posthoc and once else seeds)]
    return stage.run(jobs, overwrite)


def _methods(names: Sequence[str], grid: Sequence[Stage2Config], progress: Progress) -> list[Method]:
    """Every method with every point of the grid; points that differ in what a method does not have are one."""
    plain = [methods.get(name) for name in dict.fromkeys(names)]
    for name in dict.fromkeys(name for point in grid for name in point.changes):
        if not any(name in method.settings for method in plain):
            progress.warn(f"stage2.{name} has no effect on {', '.join(method.name for method in plain)}")
    chosen = [method for base in plain for point in grid for method in methods.apply_settings([base], point.changes)]
    return [method for place, method in enumerate(chosen) if method not in chosen[:place]]


class _StageTwo:
    """The classifiers of one features file; features are loaded when there is something to train."""

    def __init__(
        self, target: Target, features: FeaturesFile, device: str, memory_gb: float | None, progress: Progress
    ) -> None:
        self._target = target
        self._features = features
        self._device = runtime.select_device(device)
        self._memory_gb = memory_gb
        self._progress = progress
        self._last_save = time.monotonic()
        self._shuffled_rows: int | None = None

    def run(self, jobs: Sequence[Job], overwrite: bool) -> list[Path]:
        """Train what is not there, or with `overwrite` all; returns every job's folder."""
        left = []
        for job in jobs:
            folder = self._folder(job)
            # A state beside a finished classifier is of one that was to overwrite it.
            if runs.is_finished(folder) and not overwrite and not (folder / STATE).exists():
                self._progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
                continue
            if overwrite:
                (folder / STATE).unlink(missing_ok=True)
            left.append(job)
        if left:
            self._train_all(left)
        return [self._folder(job) for job in jobs]

    def _train_all(self, jobs: list[Job]) -> None:
        first = self._first_softmax(jobs)
        rows = open_rows(self._features, self._device, [job.method for job in [*first, *jobs]], self._memory_gb)
        if rows.shuffled_rows is not None:
            shuffled = f"{rows.shuffled_rows:,} rows shuffled at a time"
            self._progress.say(f"{self._target.features} is streamed, {shuffled} (stage2.memory_gb)")
        errors = []
        if first:
            self._progress.say(f"{self._target.features} has no Softmax classifier: training one first")
            errors += self._train(rows, first)
        # What was asked for may be what the others start from; and what one that failed should have started is lost.
        left = [job for job in jobs if not any((job.method, job.seed) == (done.method, done.seed) for done in first)]
        started = [ready for job in left if (ready := self._with_start(job)) is not None]
        errors += self._train(rows, started)
        if errors:
            told = few([error.message for error in errors])
            told = told if len(errors) == 1 else f"{len(errors)} classifiers failed: {told}"
            lost = len(left) - len(started)
            raise InputError(told + (f"; {lost} that start from them were left out" if lost else ""), errors[0].hint)

    def _train(self, rows: TrainRows, jobs: Sequence[Job]) -> list[InputError]:
        """Train jobs together and save each when it is done; returns the errors of those that diverged."""
        errors = []
        self._last_save = time.monotonic()
        self._shuffled_rows = rows.shuffled_rows
        jobs = [replace(job, state=self._read_state(job)) for job in jobs]
        for job, result in train_together(rows, jobs, self._progress, self._save_states):
            if not isinstance(result, InputError):
                self._save(job, result)
            (self._folder(job) / STATE).unlink(missing_ok=True)
            if isinstance(result, InputError):
                errors.append(result)
                with contextlib.suppress(OSError):
                    self._folder(job).rmdir()  # unless there is an older result in it
        return errors

    def _first_softmax(self, jobs: Sequence[Job]) -> list[Job]:
        """The Softmax classifiers that have to be trained before: one a seed, on a file that has none."""
        if self._features.classifier is not None:
            return []
        seeds = dict.fromkeys(job.seed for job in jobs if job.method.start == "stage_one")
        first = [Job(methods.first_softmax(), seed) for seed in seeds]
        return [job for job in first if not runs.is_finished(self._folder(job))]

    def _with_start(self, job: Job) -> Job | None:
        """The job with what it starts from; None if that could not be trained."""
        if job.method.start != "stage_one":
            return job
        if self._features.classifier is not None:
            return replace(job, stage_one=as_tensors(self._features.classifier), started_from="stage_one")
        folder = self._folder(Job(methods.first_softmax(), job.seed))
        if not runs.is_finished(folder):
            return None
        try:
            tensors = load_file(folder / CLASSIFIER)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"the Softmax classifier in {folder} cannot be read: {error}", f"remove {folder}"
            ) from None
        return replace(job, stage_one=(tensors["weight"], tensors["bias"]), started_from=folder.name)

    def _folder(self, job: Job) -> Path:
        return runs.classifier_folder(
            self._target, job.method, methods.changed_settings(job.method), job.seed, self._features.fingerprint
        )

    def _save_states(self, states: Iterable[tuple[Job, State]]) -> None:
        if time.monotonic() - self._last_save < SECONDS_BETWEEN_SAVES:
            return
        for job, state in states:
            folder = _make(self._folder(job))
            tensors = {"trained": state.trained, "velocity": state.velocity}
            tensors |= {f"{LOSS_STATE}{name}": tensor for name, tensor in state.loss.items()}
            with atomic_path(folder / STATE) as temporary:
                told = {"history": state.history, "shuffled_rows": self._shuffled_rows}
                save_file(tensors, temporary, metadata={name: json.dumps(value) for name, value in told.items()})
        self._last_save = time.monotonic()

    def _read_state(self, job: Job) -> State | None:
        """What an interrupted training of the job left, if it left something."""
        path = self._folder(job) / STATE
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                trained, velocity = (file.get_tensor(name) for name in ("trained", "velocity"))
                kept = [name for name in file.keys() if name.startswith(LOSS_STATE)]  # noqa: SIM118
                of_loss = {name.removeprefix(LOSS_STATE): file.get_tensor(name) for name in kept}
                told = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
                state = State(trained, velocity, told["history"], of_loss)
                shuffled = told["shuffled_rows"]
            classes = self._features.classes
            loss = loss_of(job.method, classes.train_counts)
            if not state.fits(job.method, loss, len(classes), self._features.feature_size):
                raise ValueError("it is of another training")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            self._progress.warn(f"{path} cannot be read, so {job} is trained from its start: {error}")
            return None
        self._progress.say(f"{job}: continuing after epoch {len(state.history)}")
        if shuffled != self._shuffled_rows:
            before, now = (count or "all" for count in (shuffled, self._shuffled_rows))
            self._progress.warn(f"{job}: {before} rows were shuffled at a time until here, {now} from now on")
        return state

    def _save(self, job: Job, result: Retrained) -> None:
        folder = _make(self._folder(job))
        (folder / runs.MANIFEST).unlink(missing_ok=True)
        with atomic_path(folder / CLASSIFIER) as temporary:
            told = {"normalise": "true"} if result.normalise else None
            save_file({"weight": result.weight, "bias": result.bias}, temporary, metadata=told)
        method = result.method
        facts = {
            "stage": 2,
            "run": self._target.folder.name,
            "method": method.name,
            "activation": method.activation,
            "loss": method.loss,
            "sampler": method.sampler,
            "classifier": method.classifier,
            "seed": job.seed,
            "settings": method.settings,
            "changed_settings": methods.changed_settings(method),
            "started_from": job.started_from,
            "views": result.num_views,
            "shuffled_rows": self._shuffled_rows,
            "seconds": result.seconds,
            "history": result.history,
        }
        finish(folder, result, self._features, result.loss, self._device, facts)


def _make(folder: Path) -> Path:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
