"""Many classifiers in the same passes: each is what it would be alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pytest
import torch

from gol_decouple import methods
from gol_decouple.errors import InputError
from gol_decouple.losses import ClassFacts
from gol_decouple.stages import rows as rows_module
from gol_decouple.stages import together
from gol_decouple.stages.jobs import Job, Retrained, State, Weights, loss_of
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.stack import Stack
from gol_decouple.stages.together import train_together
from tests.conftest import TRAINED

EVERY_METHOD = pytest.mark.parametrize("name", TRAINED)
STACKABLE = [
    name
    for name, loss in (
        (name, loss_of(method, ClassFacts(np.array([60, 25, 10]))))
        for name, method in ((name, methods.get(name)) for name in TRAINED)
    )
    if loss.independent and not loss.random
]
# What float32 rounding may leave between two orders of the same sums.
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
BATCHES = 6  # of 16, of 95 samples


@pytest.fixture
def rows(gaussian_rows: InMemory) -> InMemory:
    return gaussian_rows


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many classifiers each stack has that is made."""
    made: list[int] = []

    class Counted(Stack):
        def __init__(self, starts: Sequence[Weights], *arguments: object) -> None:
            made.append(len(starts))
            super().__init__(starts, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(together, "Stack", Counted)
    return made


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch has that is gathered."""
    counts: list[int] = []
    real = rows_module.gather

    def counting(rows: torch.Tensor, index: torch.Tensor, *more: torch.Tensor) -> None:
        counts.append(len(index))
        real(rows, index, *more)

    monkeypatch.setattr(rows_module, "gather", counting)
    return counts


def short(name: str, **settings: object) -> methods.Method:
    """A method by name, for three epochs of six batches."""
    return methods.get(name).with_settings(**{"epochs": 3, "batch_size": 16} | settings)


def lrs_around(method: methods.Method) -> list[methods.Method]:
    return [method.with_settings(lr=method.lr * 2.0**power) for power in range(-5, 3)]


def alone(rows: InMemory, job: Job) -> Retrained:
    ((same, result),) = train_together(rows, [job])
    assert same is job
    assert isinstance(result, Retrained)
    return result


def assert_as_alone(rows: InMemory, job: Job, result: Retrained | InputError) -> None:
    wanted = alone(rows, job)
    assert isinstance(result, Retrained)
    assert (result.method, result.num_views) == (wanted.method, wanted.num_views)
    torch.testing.assert_close(result.weight, wanted.weight, **ROUNDING)
    torch.testing.assert_close(result.bias, wanted.bias, **ROUNDING)
    for entry, other in zip(result.history, wanted.history, strict=True):
        assert entry == pytest.approx(other, rel=1e-5, abs=1e-6)


def assert_all_as_alone(rows: InMemory, jobs: list[Job]) -> None:
    """Each once, and as if the others were not there."""
    results = list(train_together(rows, jobs))
    assert sorted(map(id, jobs)) == sorted(id(job) for job, _ in results)
    for job, result in results:
        assert_as_alone(rows, job, result)


# Together and alone


@EVERY_METHOD
def test_eight_learning_rates(rows: InMemory, stage_one: Weights, stacked: bool, sizes: list[int], name: str) -> None:
    jobs = [Job(method, 3, stage_one) for method in lrs_around(short(name))]
    assert_all_as_alone(rows, jobs)
    assert sizes[:-8] == ([8] if stacked and name in STACKABLE else [1] * 8)


@EVERY_METHOD
def test_eight_seeds(rows: InMemory, stage_one: Weights, stacked: bool, sizes: list[int], name: str) -> None:
    jobs = [Job(short(name), seed, stage_one) for seed in range(8)]
    assert_all_as_alone(rows, jobs)
    assert sizes[:-8] == ([8] if stacked and name in STACKABLE else [1] * 8)


@EVERY_METHOD
def test_seeds_with_learning_rates_and_starts(
    rows: InMemory, stage_one: Weights, stacked: bool, sizes: list[int], name: str
) -> None:
    starts = [{"start": "fresh"}, {"start": "stage_one"}] if "start" in methods.get(name).settings else [{}]
    chosen = [short(name, **start, lr=lr) for start in starts for lr in (1e-5, 1e-4, 1e-3, 1e-2)[:: len(starts)]]
    jobs = [Job(method, seed, stage_one) for seed, method in product((0, 5, 2), chosen)]
    assert_all_as_alone(rows, jobs)
    assert sizes[:-12] == ([4] * 3 if stacked and name in STACKABLE else [1] * 12)


def test_methods_of_every_kind(rows: InMemory, stage_one: Weights, stacked: bool, sizes: list[int]) -> None:
    chosen = [
        *lrs_around(short("softmax")),
        short("softmax", batch_size=7),
        short("crt", epochs=5, clip_norm=0.5),
        *lrs_around(short("crt", views="clean")),
        short("gumbel", views="clean", batch_size=95),
        short("gumbel", views="clean", batch_size=200),
        short("gumbel", epochs=1),
        short("gumbel", q_min=-2.0),
        short("gumbel_paper", momentum=0.5),
        short("gumbel_paper", momentum=0.5, start="fresh"),
        short("gumbel_crt", weight_decay=0.1),
        short("sigmoid", weight_decay=0.01, clip_norm=0.1, epochs=4, schedule="constant"),
        short("gumbel_published", batch_size=1, epochs=2),
    ]
    jobs = [Job(method, seed, stage_one) for method in chosen for seed in (0, 1)]
    assert_all_as_alone(rows, jobs)
    assert sorted(sizes[: -len(jobs)]) == ([2] * 11 + [8] * 4 if stacked else [1] * len(jobs))


def test_what_differs_in_one_other_setting_is_not_one_stack(
    rows: InMemory, stage_one: Weights, sizes: list[int]
) -> None:
    others = {
        "epochs": 2,
        "schedule": "cosine",
        "views": "clean",
        "batch_size": 32,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
        "precision": "bfloat16",
        "temperature": "val",
        "q_min": -2.0,
    }
    assert {"lr", "start", *others} == set(methods.get("gumbel").settings)
    chosen = [short("gumbel"), *(short("gumbel", **{name: value}) for name, value in others.items())]
    chosen += [short("gumbel_paper", lr=1e-5), short("gumbel_published")]
    assert_all_as_alone(rows, [Job(method, 0, stage_one) for method in chosen])
    assert sizes == [1] * 2 * len(chosen)


@pytest.mark.parametrize("draw", range(8))
def test_random_mixes(rows: InMemory, stage_one: Weights, stacked: bool, draw: int) -> None:
    stream = random.Random(draw)
    jobs = []
    for _ in range(10):
        method = methods.get(stream.choice(TRAINED))
        settings = {
            "lr": method.lr * stream.choice((0.1, 0.5, 1.0, 2.0)),
            "epochs": stream.randint(1, 4),
            "batch_size": stream.choice((16, 16, 7, 95, 300)),
            "views": stream.choice(("clean", "random")),
            "schedule": stream.choice(("constant", "cosine")),
            "start": stream.choice(("fresh", "stage_one")),
            "momentum": stream.choice((0.0, 0.9)),
            "weight_decay": stream.choice((0.0, 0.0, 0.1)),
            "clip_norm": stream.choice((None, None, 0.3)),
        }
        (method,) = methods.apply_settings([method], settings)
        jobs.append(Job(method, stream.randrange(3), stage_one))
    for job, result in train_together(rows, jobs):
        assert_as_alone(rows, job, result)


def test_nothing_to_train_is_nothing(rows: InMemory) -> None:
    assert list(train_together(rows, [])) == []


# What is shared


@pytest.mark.parametrize("seeds", [(4,), (4, 5)])
def test_equal_seeds_samplers_views_and_batch_sizes_share_each_batch(
    rows: InMemory, stage_one: Weights, stacked: bool, gathered: list[int], seeds: tuple[int, ...]
) -> None:
    chosen = [method for name in ("softmax", "sigmoid", "gumbel") for method in lrs_around(short(name))]
    list(train_together(rows, [Job(method, seed, stage_one) for method in chosen for seed in seeds]))
    assert sum(gathered) == 3 * 95 * len(seeds)
    assert len(gathered) <= 3 * BATCHES * len(seeds)


@pytest.mark.parametrize(
    ("name", "settings", "seed", "batches"),
    [
        ("gumbel", {"batch_size": 32}, 4, 3),
        ("gumbel", {"views": "clean"}, 4, BATCHES),
        ("gumbel", {"precision": "bfloat16"}, 4, BATCHES),
        ("gumbel", {}, 5, BATCHES),
        ("crt", {}, 4, BATCHES),
    ],
)
def test_what_differs_in_its_batches_has_its_own(
    rows: InMemory,
    stage_one: Weights,
    gathered: list[int],
    name: str,
    settings: dict[str, object],
    seed: int,
    batches: int,
) -> None:
    list(train_together(rows, [Job(short("softmax"), 4, stage_one), Job(short(name, **settings), seed, stage_one)]))
    assert len(gathered) == 3 * (BATCHES + batches)


# One after the other, as each is done


def test_each_is_told_when_its_own_epochs_are_done(rows: InMemory, stage_one: Weights, stacked: bool) -> None:
    jobs = [Job(short(name, epochs=epochs), 0, stage_one) for name, epochs in (("gumbel", 4), ("crt", 1), ("crt", 2))]
    events: list[object] = []

    def on_epoch(states: Iterable[tuple[Job, State]]) -> None:
        events.append({job.method.epochs: len(state.history) for job, state in states})

    for job, result in train_together(rows, jobs, on_epoch=on_epoch):
        assert isinstance(result, Retrained)
        assert result.epochs == job.method.epochs
        events.append(job.method.epochs)
    assert events == [{4: 1, 1: 1, 2: 1}, 1, {4: 2, 2: 2}, 2, {4: 3}, {4: 4}, 4]


@EVERY_METHOD
def test_a_state_holds_all_that_the_rest_depends_on(rows: InMemory, stage_one: Weights, name: str) -> None:
    """Continued after one, two, no and all epochs, all in one call."""
    jobs = [Job(method, seed, stage_one) for method, seed in zip(lrs_around(short(name)), (0, 0, 1), strict=False)]
    saved: list[dict[Job, State]] = []
    wanted = dict(train_together(rows, jobs, on_epoch=lambda states: saved.append(dict(states))))
    assert [len(states) for states in saved] == [3, 3, 3]
    continued = [
        Job(jobs[0].method, jobs[0].seed, stage_one, state=saved[0][jobs[0]]),
        Job(jobs[1].method, jobs[1].seed, stage_one, state=saved[1][jobs[1]]),
        jobs[2],
        Job(jobs[1].method, jobs[1].seed, stage_one, state=saved[2][jobs[1]]),
    ]
    results = dict(train_together(rows, continued))
    assert next(iter(results)) is continued[3], "there is nothing to train"
    for job, again in zip([*jobs, jobs[1]], continued, strict=True):
        before, after = wanted[job], results[again]
        assert isinstance(before, Retrained)
        assert isinstance(after, Retrained)
        assert torch.equal(after.weight, before.weight)
        assert torch.equal(after.bias, before.bias)
        assert after.history == before.history
