"""The engine of stage two: trains many classifiers in the same passes over the train features."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import torch

from gol_decouple import classifiers, runtime
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.progress import SILENT, Bar, Progress
from gol_decouple.schedules import lr_factor
from gol_decouple.stages.feed import Batch, Feed, TrainRows
from gol_decouple.stages.jobs import History, Job, Retrained, State, Weights, loss_of
from gol_decouple.stages.stack import Stack

_START_STREAM, _LOSS_STREAM = 0, 4
# Samples between two signs of life.
_SAMPLES_A_SIGN = 65536
# Of all classes alike: what the public code of GOL (Alexandridis et al., ECCV 2022) starts its detectors with.
PAPER_WEIGHT, PAPER_BIAS = 0.001, -2.0

OnEpoch = Callable[[Iterable[tuple[Job, State]]], None]


def train_together(
    rows: TrainRows,
    jobs: Sequence[Job],
    progress: Progress = SILENT,
    on_epoch: OnEpoch | None = None,
    gradients: bool = False,
) -> Iterator[tuple[Job, Retrained | InputError]]:
    """Train every job; yields each with its classifier as soon as that is done, or with the error that ended it.

    All see the same features in one pass an epoch. Those of one method that differ in learning rate or start share each
    batch, and so do methods with equal sampler, batch size, views and seeds; small classifiers are trained as stacks.
    Each is what it would be alone, in float32 on one thread of a CPU bit by bit, else but for rounding.

    Args:
        jobs: of methods that are trained; the others are `closed_form`'s.
        on_epoch: called after each pass with the state of all that it trained, before any of them is yielded.
        gradients: sum the gradients of every class too, which changes nothing else.
    """
    groups = [_Group(rows, members, gradients) for members in stackable(rows, jobs)]
    for group in groups:
        if group.epoch == group.method.epochs:
            yield from group.results(seconds=0.0)
    groups = [group for group in groups if group.epoch < group.method.epochs]
    if not groups:
        return
    started = time.perf_counter()
    first, last = min(group.epoch for group in groups), max(group.method.epochs for group in groups)
    total = sum((group.method.epochs - group.epoch) * len(group.jobs) for group in groups) * rows.num_samples
    name = str(jobs[0]) if len(jobs) == 1 else f"{len(jobs)} classifiers"
    with progress.bar(name, total, "samples") as bar, runtime.threads_for(max(group.step_size for group in groups)):
        for epoch in range(first, last):
            active = [group for group in groups if group.jobs and group.epoch == epoch < group.method.epochs]
            if not active:
                continue
            note = f"epoch {epoch + 1}/{last}"
            _run_pass(rows, active, epoch, _Signs(bar, note))
            if len(jobs) == 1:
                bar.advance(0, f"{note}, loss {active[0].mean_losses()[0]:.3f}")
            seconds = time.perf_counter() - started
            ended = [result for group in active for result in group.end_epoch(seconds)]
            if on_epoch is not None:
                on_epoch(state for group in active for state in group.states())
            yield from ended


def stackable(rows: TrainRows, jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that are trained as one stack: small, and different in learning rate and start only, or in the seed.

    The larger a product is, the less is gained by making it larger still; on a CPU that ends early. Streamed rows of
    different seeds come at different times. A loss that draws, or looks at a whole batch, has one classifier.
    """
    stacks: dict[object, list[Job]] = {}
    recipes = [(repr(replace(job.method, lr=1.0, start="fresh")), _epochs_done(job)) for job in jobs]
    counts = Counter((recipe, job.seed) for recipe, job in zip(recipes, jobs, strict=True))
    sharing = {recipe for (recipe, _), count in counts.items() if count > 1}
    for recipe, job in zip(recipes, jobs, strict=True):
        loss = loss_of(job.method, rows.facts)
        large = _step_size(rows, job.method) >= runtime.SMALL_STEP and rows.device.type == "cpu"
        alone = large or loss.random or not loss.independent
        by_seed = rows.shuffled_rows is not None or recipe in sharing
        stacks.setdefault(id(job) if alone else (recipe, job.seed if by_seed else None), []).append(job)
    return list(stacks.values())


def _epochs_done(job: Job) -> int:
    return len(job.state.history) if job.state else 0


def _epochs_of(state: State | None) -> list[torch.Tensor]:
    """What a state has of each epoch's gradients."""
    return [] if state is None or state.gradients is None else list(state.gradients)


def _step_size(rows: TrainRows, method: Method) -> int:
    """Multiply-adds of one matrix product of a classifier's step."""
    return method.batch_size * len(rows.class_counts) * rows.feature_size


def _run_pass(rows: TrainRows, groups: Sequence[_Group], epoch: int, signs: _Signs) -> None:
    by_feed: dict[Feed, list[_Group]] = {}
    for group in groups:
        by_feed.setdefault(group.feed, []).append(group)
        group.begin_epoch()
    with closing(rows.batches(list(by_feed), epoch)) as batches:
        for batch in batches:
            for group in by_feed[batch.feed]:
                group.step(batch)
                signs.advance(batch.labels.shape[1] * len(group.jobs))
    signs.show()


class _Signs:
    """Tells a bar how far the work is, now and then."""

    def __init__(self, bar: Bar, note: str) -> None:
        self._bar = bar
        self._note = note
        self._untold = 0

    def advance(self, samples: int) -> None:
        self._untold += samples
        if self._untold >= _SAMPLES_A_SIGN:
            self.show()

    def show(self) -> None:
        self._bar.advance(self._untold, self._note)
        self._untold = 0


def _start(rows: TrainRows, job: Job, loss: Loss) -> Weights:
    draws = runtime.generator(job.seed, _START_STREAM)
    num_classes = len(rows.class_counts)
    columns = loss.num_columns(num_classes)
    if job.method.start == "paper":
        return torch.full((columns, rows.feature_size), PAPER_WEIGHT), torch.full((columns,), PAPER_BIAS)
    weight, bias = classifiers.as_tensors(
        classifiers.fresh(columns, num_classes, rows.feature_size, loss.activation, draws)
    )
    if job.method.start == "stage_one":
        shared = loss.softmax_columns(num_classes)
        weight[:shared], bias[:shared] = (part[:shared] for part in classifiers.as_tensors(job.stage_one))
    return weight, bias


class _Group:
    """Jobs of one method, trained as one stack."""

    def __init__(self, rows: TrainRows, jobs: list[Job], gradients: bool = False) -> None:
        self.jobs = jobs
        self.method = jobs[0].method
        self._members = [{"seed": job.seed, "lr": job.method.lr, "start": job.method.start} for job in jobs]
        self.step_size = _step_size(rows, self.method) * len(jobs)
        self._rows = rows
        self.feed = self._feed()
        self._loss = loss_of(self.method, rows.facts).to(rows.device)
        starts = [_start(rows, job, self._loss) for job in jobs]
        gradients_of = len(rows.class_counts) if gradients else None
        self._stack = Stack(starts, self.method, self._loss, self.feed.batch_size, rows.device, gradients_of)
        self._gradients = [_epochs_of(job.state) for job in jobs]
        self._histories: list[History] = [list(job.state.history) if job.state else [] for job in jobs]
        for position, job in enumerate(jobs):
            if job.state is not None:
                self._stack.trained[position] = job.state.trained
                self._stack.velocity[position] = job.state.velocity
                self._loss.load_state_dict(job.state.loss)
        self._lrs = torch.tensor([job.method.lr for job in jobs]).unsqueeze(1)

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return len(self._histories[0]) if self._histories else self.method.epochs

    def begin_epoch(self) -> None:
        """Learning rates of the epoch's steps, all at once: one by one, they would be moved to the device in each."""
        steps = -(-self._rows.num_samples // self.feed.batch_size)
        factors = torch.tensor([self._lr_factor(step / steps) for step in range(steps)])
        self._minus_lrs = enumerate((-factors[:, None, None] * self._lrs).to(self._rows.device))
        self._loss.start_epoch(self.epoch / self.method.epochs)

    def step(self, batch: Batch) -> None:
        """One step on a batch of the group's feed."""
        number, minus_lr = next(self._minus_lrs)
        self._stack.step(batch.x, batch.labels, minus_lr, self._draws(number) if self._loss.random else None)

    def mean_losses(self) -> list[float]:
        """Of each job, over the samples of the epoch."""
        means: list[float] = (self._stack.loss_sums / self._rows.num_samples).tolist()
        return means

    def end_epoch(self, seconds: float) -> list[tuple[Job, Retrained | InputError]]:
        """Write the histories on; returns the jobs that are done or diverged, and lets the latter go."""
        ended: list[tuple[Job, Retrained | InputError]] = []
        means, finite = self.mean_losses(), self._stack.finite()
        self._stack.loss_sums.zero_()
        gradients = self._take_gradients()
        factor, done = self._lr_factor(0.0), self.epoch + 1
        for position, (job, history, mean) in enumerate(zip(self.jobs, self._histories, means, strict=True)):
            history.append({"epoch": done, "lr": job.method.lr * factor, "loss": mean})
            if gradients is not None:
                self._gradients[position].append(gradients[position])
            if not finite[position]:
                what = "the weights are not finite" if math.isfinite(mean) else f"the loss is {mean}"
                hint = f"lower stage2.lr (now {job.method.lr:g})"
                ended.append((job, InputError(f"{job} diverged in epoch {done}: {what}", hint)))
        self._keep([position for position, is_finite in enumerate(finite) if is_finite])
        return ended + (self.results(seconds) if done == self.method.epochs else [])

    def results(self, seconds: float) -> list[tuple[Job, Retrained | InputError]]:
        """Every job with its classifier, once all epochs are done."""
        num_views = self._rows.num_views if self.method.views == "random" else 1
        loss, shuffled = copy.deepcopy(self._loss).cpu(), self._rows.shuffled_rows
        return [
            (
                job,
                Retrained(
                    *(self._stack.classifier(position), job.method, loss, num_views, history, seconds, shuffled),
                    gradients=self._summed(position),
                    stack=self._members,
                ),
            )
            for position, (job, history) in enumerate(zip(self.jobs, self._histories, strict=True))
        ]

    def states(self) -> list[tuple[Job, State]]:
        """Every job that has not diverged, as it stands between two epochs; copied, and not moved, which is quick."""
        trained, velocity = self._stack.trained.clone(), self._stack.velocity.clone()
        loss = {name: tensor.clone() for name, tensor in self._loss.state_dict().items()}
        return [
            (job, State(trained[position], velocity[position], list(history), loss, self._summed(position)))
            for position, (job, history) in enumerate(zip(self.jobs, self._histories, strict=True))
        ]

    def _take_gradients(self) -> torch.Tensor | None:
        """The sums of the epoch, on the CPU, [K, 3, C]; those of the next one start from zero."""
        if self._stack.gradients is None:
            return None
        sums = self._stack.gradients.sums.cpu().clone()
        self._stack.gradients.sums.zero_()
        return sums

    def _summed(self, position: int) -> torch.Tensor | None:
        """Of a job, the sums of every epoch so far, [epochs, 3, C]."""
        return torch.stack(self._gradients[position]) if self._stack.gradients is not None else None

    def _draws(self, step: int) -> torch.Generator:
        """What a loss draws from in a step: the same whatever was trained before or is trained beside it."""
        return runtime.generator(self.jobs[0].seed, _LOSS_STREAM, self.epoch, step, device=self._rows.device)

    def _feed(self) -> Feed:
        background = len(self._rows.class_counts) if self._rows.facts.background else None
        return Feed.of(self.method, tuple(job.seed for job in self.jobs), self._rows.num_samples, background)

    def _lr_factor(self, share_of_epoch: float) -> float:
        return lr_factor(self.method.schedule, (self.epoch + share_of_epoch) / self.method.epochs)

    def _keep(self, positions: list[int]) -> None:
        if len(positions) == len(self.jobs):
            return
        self.jobs = [self.jobs[position] for position in positions]
        self._histories = [self._histories[position] for position in positions]
        self._gradients = [self._gradients[position] for position in positions]
        self._lrs = self._lrs[positions]
        self._stack.keep(positions)
        self.feed = self._feed()
