"""Classifiers that diverge are told, and leave those they are trained with as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
import torch
from test_together import assert_as_alone, lrs_around, short

from gol_decouple.errors import InputError
from gol_decouple.stages.feed import Batch, Feed
from gol_decouple.stages.jobs import Job, Retrained, Weights
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.together import train_together


@pytest.fixture
def rows(gaussian_rows: InMemory) -> InMemory:
    return gaussian_rows


def refused(result: Retrained | InputError, lr: str, epoch: int = 1) -> bool:
    """Whether a result is the error of a training that diverged."""
    if isinstance(result, Retrained):
        return False
    assert result.message.startswith(f"gumbel (lr {lr}, seed 0) diverged in epoch {epoch}: the loss is ")
    assert result.hint == f"lower stage2.lr (now {lr})"
    return True


@pytest.mark.parametrize("places", [[0], [2], [5], [0, 1], [1, 4], [0, 5], [0, 2, 3, 5]])
def test_those_that_diverge_leave_the_others_as_they_are(
    rows: InMemory, stage_one: Weights, stacked: bool, places: list[int]
) -> None:
    lrs = [1e38 if place in places else 1e-5 * 2**place for place in range(6)]
    jobs = [Job(short("gumbel", lr=lr), 0, stage_one) for lr in lrs]
    jobs += [Job(method, 0, stage_one) for method in lrs_around(short("softmax"))]
    results = list(train_together(rows, jobs))
    assert [job for job, _ in results[: len(places)]] == [jobs[place] for place in places], "told first"
    for job, result in results:
        assert refused(result, "1e+38") == (job.method.lr == 1e38)
        if job.method.lr != 1e38:
            assert_as_alone(rows, job, result)


@pytest.mark.parametrize("places", [[0], [1, 3], [4]])
def test_seeds_that_diverge_leave_the_others_their_batches(
    rows: InMemory, stage_one: Weights, stacked: bool, places: list[int]
) -> None:
    far = tuple(torch.full_like(part, 1e38) for part in stage_one)
    starts = [far if seed in places else stage_one for seed in range(5)]
    jobs = [Job(short("softmax", lr=0.01), seed, start) for seed, start in enumerate(starts)]
    results = list(train_together(rows, jobs))
    assert [job.seed for job, result in results if isinstance(result, InputError)] == places
    for job, result in results[len(places) :]:
        assert_as_alone(rows, job, result)


def test_those_that_diverge_in_different_epochs(rows: InMemory, stage_one: Weights, stacked: bool) -> None:
    """Decay of 1 multiplies the weights by the learning rate in each step."""
    jobs = [Job(short("gumbel", lr=lr, weight_decay=1.0), 0, stage_one) for lr in (1e-5, 1e38, 2e4, 3e-5)]
    results = list(train_together(rows, jobs))
    assert [job for job, _ in results] == [jobs[1], jobs[2], jobs[0], jobs[3]]
    assert refused(results[0][1], "1e+38", epoch=1)
    assert refused(results[1][1], "20000", epoch=2)
    for job, result in results[2:]:
        assert_as_alone(rows, job, result)


def test_nothing_is_trained_on_once_all_have_diverged(
    rows: InMemory, stage_one: Weights, stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    real = InMemory.batches

    def counting(self: InMemory, feeds: Sequence[Feed], epoch: int) -> Iterable[Batch]:
        passes.append(epoch)
        return real(self, feeds, epoch)

    monkeypatch.setattr(InMemory, "batches", counting)
    jobs = [Job(short("gumbel", lr=1e38, epochs=50), seed, stage_one) for seed in range(3)]
    jobs += [Job(short("sigmoid", lr=1e38, epochs=40), 0, stage_one), Job(short("softmax", epochs=2), 0, stage_one)]
    results = list(train_together(rows, jobs))
    assert [isinstance(result, InputError) for _, result in results] == [True] * 4 + [False]
    assert passes == [0, 1]
