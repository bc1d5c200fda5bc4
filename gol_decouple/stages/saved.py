"""Classifiers that are trained and kept, each in a folder of its own; what was interrupted continues."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gol_decouple import methods, runs, runtime
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import GolDecoupleError, InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.files import make_folder
from gol_decouple.progress import Progress
from gol_decouple.report.rows import read_row
from gol_decouple.stages.classifier_file import CLASSIFIER, facts_of, load_retrained, save_classifier
from gol_decouple.stages.closed_form import closed_form
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.evaluation import NotFinite
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.gradients import GRADIENTS, write_gradients
from gol_decouple.stages.jobs import Job, Retrained, State, loss_of
from gol_decouple.stages.memory import Memory
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.samples import Samples
from gol_decouple.stages.states import STATE, LastStates, read_state
from gol_decouple.stages.tensorboard import Boards, remove_board
from gol_decouple.stages.together import train_together
from gol_decouple.stages.training_log import write_history
from gol_decouple.stopping import deferred
from gol_decouple.targets import Target

# A training that is killed loses no more than this, or an epoch where that is longer.
SECONDS_BETWEEN_SAVES = 30.0


@dataclass(frozen=True)
class Work:
    """What stage two works on, and with: a features file, the run it belongs to, a device, and memory for features.

    Attributes:
        refit: whether final classifiers are trained on val too; None: where val was held out of train, what was chosen
            is trained on all of train, otherwise it is what was chosen from.
        detections: what classifiers of RoIs are evaluated with.
        gradients: whether trainings sum every class's gradients, into `gradients.csv`.
        boards: what writes TensorBoard's files, where they are asked for.
    """

    target: Target
    features: FeaturesFile
    device: torch.device
    memory_gb: float | None
    refit: bool | None
    progress: Progress
    detections: DetectionEvaluation | None = None
    gradients: bool = False
    boards: Boards | None = None


# Writes what a finished classifier's folder holds besides its weights, the manifest last, given facts for it.
Finish = Callable[[Path, Job, Retrained, dict[str, Any]], None]


class Saved:
    """Classifiers of one features file that are trained on the same samples; each is trained once.

    Args:
        section: the folder of the run that theirs are in.
        adopted: where those that have been trained there are taken from.
    """

    def __init__(
        self, work: Work, section: str, samples: Samples, finish: Finish, adopted: Saved | None = None
    ) -> None:
        self._work = work
        self._section = section
        self.samples = samples
        self._finish = finish
        self._adopted = adopted
        self._states = LastStates()
        self._unevaluated: list[Path] = []
        self._last_save = time.monotonic()
        self._memory = Memory(work.progress)

    def folder(self, job: Job) -> Path:
        """Where a job's classifier is kept."""
        fingerprint = self._work.features.fingerprint
        changed = methods.changed_settings(job.method, self._work.features.is_detection)
        key = runs.classifier_key(job.method, changed, job.seed, fingerprint, self.samples.key)
        return self._work.target.folder / self._section / key

    def is_finished(self, job: Job) -> bool:
        """Whether it is there."""
        return runs.is_finished(self.folder(job))

    def is_left(self, job: Job) -> bool:
        """Whether there is something to do: a state beside a finished classifier is of one that was to overwrite it."""
        return not self.is_finished(job) or (self.folder(job) / STATE).exists()

    def run(self, jobs: Sequence[Job], overwrite: bool = False) -> list[InputError]:
        """Train what is not there, or with `overwrite` all.

        Returns the errors of what could not be trained, which does not stop the others.
        """
        left = []
        for job in jobs:
            folder = self.folder(job)
            if not overwrite and not self.is_left(job):
                self._work.progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
                if self._work.detections is not None:
                    self._work.detections.tell_other(folder)
                if self._lacks_gradients(job):
                    self._work.progress.warn(f"it was trained without stage2.gradients, and has no {GRADIENTS}")
                continue
            if overwrite:
                (folder / STATE).unlink(missing_ok=True)
            left.append(job)
        first = self._first_softmax(left)
        errors = self.train_first(left)
        # What was asked for may be what the others start from; and what one that failed should have started is lost.
        left = [job for job in left if not any((job.method, job.seed) == (done.method, done.seed) for done in first)]
        started = [ready for job in left if (ready := self._with_start(job)) is not None]
        errors += self._run(started)
        if lost := len(left) - len(started):
            errors[-1] = InputError(f"{errors[-1].message}; {lost} that start from them were left out", errors[-1].hint)
        return errors

    def has(self, job: Job) -> bool:
        """Whether it is there with all that is asked for."""
        return self.is_finished(job) and not self._lacks_gradients(job)

    def _lacks_gradients(self, job: Job) -> bool:
        return self._work.gradients and job.method.is_trained and not (self.folder(job) / GRADIENTS).is_file()

    def train_first(self, jobs: Sequence[Job]) -> list[InputError]:
        """Train the Softmax classifiers that jobs start from, where the file has none; returns what failed."""
        first = self._first_softmax(jobs)
        if first:
            self._work.progress.say(f"{self._work.features.path} has no Softmax classifier: training one first")
        return self._run(first)

    def load(self, job: Job) -> Retrained:
        """The classifier of a finished job.

        Raises:
            InputError: its file is not there any more, or damaged.
        """
        features = self._work.features
        loss = loss_of(job.method, self.samples.facts(features))
        return load_retrained(self.folder(job), job.method, loss, len(features.classes))

    def _run(self, jobs: Sequence[Job]) -> list[InputError]:
        """Make classifiers and save each when it is done; returns the errors of those that failed.

        What stops that, a signal say, lets each go on after its last finished epoch when it is made again.
        """
        try:
            return self._make(jobs)
        except GolDecoupleError:
            raise
        except BaseException:
            self._save_last()
            raise

    def _make(self, jobs: Sequence[Job]) -> list[InputError]:
        errors = []
        for job, made in self._results(jobs):
            result = made if isinstance(made, InputError) else self._save(job, made)
            if not isinstance(result, InputError):
                continue
            if len(jobs) > 1 and self._section == runs.STAGE2:
                self._work.progress.warn(f"{result.message}; the others go on")
            errors.append(result)
            folder = self.folder(job)
            self._states.drop(folder)
            (folder / STATE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless there is an older result in it
        self._states.write()  # of what is still to be evaluated
        return errors

    def _results(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Retrained | InputError]]:
        """What was trained elsewhere, then what is not trained, then the rest, in one pass over the features."""
        left = []
        for job in jobs:
            if self._adopted is not None and self._adopted.has(job):
                try:
                    yield job, self._adopted.load(job)
                except InputError as error:
                    yield job, error
            elif job.method.is_trained:
                left.append(job)
            else:
                yield job, closed_form(self._work.features, job, self.samples)
        if left:
            work, free = self._work, runtime.free_memory(self._work.device)
            rows = self._open_rows(left)
            self._last_save = time.monotonic()
            for portion in self._memory.portions(rows, left, free):
                ready = [replace(job, state=self._read_state(job)) for job in portion]
                yield from train_together(rows, ready, work.progress, self._save_states, work.gradients)

    def _open_rows(self, jobs: Sequence[Job]) -> TrainRows:
        work = self._work
        rows = open_rows(work.features, work.device, [job.method for job in jobs], work.memory_gb, self.samples)
        self._states.shuffled_rows = rows.shuffled_rows
        if rows.shuffled_rows is not None:
            shuffled = f"{rows.shuffled_rows:,} rows shuffled at a time"
            work.progress.say(f"{work.features.path} is streamed, {shuffled} (stage2.memory_gb)")
        return rows

    def _first_softmax(self, jobs: Sequence[Job]) -> list[Job]:
        """The Softmax classifiers that have to be trained before: one a seed, on a file that has none."""
        if self._work.features.classifier is not None:
            return []
        seeds = dict.fromkeys(job.seed for job in jobs if job.method.start == "stage_one")
        first = [Job(methods.first_softmax(self._work.features.is_detection), seed) for seed in seeds]
        return [job for job in first if not self.is_finished(job)]

    def _with_start(self, job: Job) -> Job | None:
        """The job with what it starts from; None if that could not be trained."""
        if job.method.start != "stage_one":
            return job
        if self._work.features.classifier is not None:
            return replace(job, stage_one=as_tensors(self._work.features.classifier), started_from="stage_one")
        first = Job(methods.first_softmax(self._work.features.is_detection), job.seed)
        if not self.is_finished(first):
            return None
        weights = as_tensors(self.load(first))
        return replace(job, stage_one=weights, started_from=self.folder(first).name)

    def _save_states(self, states: Iterable[tuple[Job, State]]) -> None:
        by_folder = {self.folder(job): state for job, state in states}
        self._states.keep(by_folder)
        if self._work.boards is not None:
            for folder, state in by_folder.items():
                self._work.boards.epoch(folder, state.history)
        if time.monotonic() - self._last_save >= SECONDS_BETWEEN_SAVES:
            self._states.write()
            self._last_save = time.monotonic()

    def _save_last(self) -> None:
        """Write the states of the last finished epoch; a signal that comes meanwhile has to wait."""
        with deferred():
            try:
                self._states.write()
            except Exception as error:  # what stopped the training is told in any case
                self._work.progress.warn(f"epochs since the last saved one are lost: {error}")

    def _read_state(self, job: Job) -> State | None:
        """What an interrupted training of the job left, if it left something."""
        path = self.folder(job) / STATE
        if not path.exists():
            return None
        features, progress = self._work.features, self._work.progress
        try:
            state, shuffled = read_state(path.parent)
            loss = loss_of(job.method, self.samples.facts(features))
            if not state.fits(job.method, loss, len(features.classes), features.feature_size):
                raise ValueError("it is of another training")
        except ValueError as error:
            progress.warn(f"{path} cannot be read, so {job} is trained from its start: {error}")
            return None
        if self._work.gradients and state.gradients is None:
            told = "its first epochs were trained without stage2.gradients"
            progress.warn(f"{job} is trained from its start: {told}")
            return None
        if len(state.history) == job.method.epochs:
            progress.say(f"{job}: it was trained before, and is evaluated now")
            return state
        progress.say(f"{job}: continuing after epoch {len(state.history)}")
        if shuffled != self._states.shuffled_rows:
            before, now = (count or "all" for count in (shuffled, self._states.shuffled_rows))
            progress.warn(f"{job}: {before} rows were shuffled at a time until here, {now} from now on")
        return state

    def _save(self, job: Job, result: Retrained) -> InputError | None:
        """Write all of a classifier's folder; returns why it could not be evaluated, if that is so."""
        folder = make_folder(self.folder(job))
        for old in (runs.MANIFEST, runs.CHOICE, runs.LOG, GRADIENTS):
            (folder / old).unlink(missing_ok=True)
        if self._work.boards is None:  # those of a former training
            remove_board(folder)
        save_classifier(folder, result.classifier)
        if result.history:
            write_history(folder, result.history)
        if result.gradients is not None:
            write_gradients(folder, result.gradients, self._work.features.is_detection)
        facts = {
            "stage": 2,
            "run": self._work.target.folder.name,
            **facts_of(job, result, self._work.features.is_detection),
            "config": {"stage2": {name: getattr(self._work, name) for name in ("refit", "memory_gb", "gradients")}},
            "trained_on": str(self.samples),
            "class_counts": self.samples.counts(self._work.features).tolist(),
        }
        try:
            self._finish(folder, job, result, facts)
        except NotFinite as error:
            for left in (CLASSIFIER, runs.LOG, GRADIENTS, runs.PREDICTIONS, runs.PER_CLASS):
                (folder / left).unlink(missing_ok=True)
            if self._work.boards is not None:
                self._work.boards.drop(folder)
            return InputError(f"{job}: {error.message}", error.hint)
        self._unevaluated.append(folder)
        for done in [one for one in self._unevaluated if runs.is_finished(one)]:
            self._unevaluated.remove(done)
            self._states.drop(done)
            if self._work.boards is not None:
                self._work.boards.finish(done, read_row(done), runs.read_manifest(done).get("history") or [])
        return None
