"""Learning-rate factors against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from gol_decouple.schedules import lr_factor


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.999])
def test_constant_is_one(progress: float) -> None:
    assert lr_factor("constant", progress, milestones=[0.1], gamma=0.1) == 1.0


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 1.0), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (0.75, 0.5 - math.sqrt(0.125)), (1.0, 0.0)],
)
def test_cosine_falls_from_one_to_zero(progress: float, expected: float) -> None:
    assert lr_factor("cosine", progress) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.499, 1.0), (0.5, 0.1), (0.749, 0.1), (0.75, 0.01), (0.999, 0.01)]
)
def test_step_multiplies_at_each_milestone_passed(progress: float, expected: float) -> None:
    assert lr_factor("step", progress, milestones=[0.5, 0.75], gamma=0.1) == pytest.approx(expected)


def test_a_milestone_written_for_other_epochs_falls_at_the_first_step_of_its_epoch() -> None:
    # 200/240 and 10/12 are rounded differently; the fall may come neither a step late nor a step early.
    steps = 7
    for epochs in range(6, 301, 6):
        milestone = epochs * 200 // 240
        factors = [
            lr_factor("step", (epoch + step / steps) / epochs, [200 / 240], gamma=0.5)
            for epoch in (milestone - 1, milestone)
            for step in range(steps)
        ]
        assert factors == [1.0] * steps + [0.5] * steps, epochs


def test_a_rounding_error_does_not_put_a_fall_off() -> None:
    assert lr_factor("step", 0.3, milestones=[0.1 + 0.2], gamma=0.5) == 0.5


def test_step_without_milestones_is_constant() -> None:
    assert lr_factor("step", 0.9) == 1.0


# Warm-up


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.05, 0.25), (0.1, 0.5), (0.199, 0.995), (0.2, 1.0), (0.499, 1.0), (0.5, 0.1), (0.75, 0.01)],
)
def test_step_rises_in_proportion_and_then_falls_at_its_milestones(progress: float, expected: float) -> None:
    assert lr_factor("step", progress, [0.5, 0.75], gamma=0.1, warmup=0.2) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.4, 0.5 + math.sqrt(0.125)), (0.6, 0.5), (0.8, 0.5 - math.sqrt(0.125))],
)
def test_cosine_rises_in_proportion_and_then_falls_over_what_is_left(progress: float, expected: float) -> None:
    assert lr_factor("cosine", progress, warmup=0.2) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.15, 0.6), (0.25, 1.0), (0.9, 1.0)])
def test_constant_rises_in_proportion_and_stays(progress: float, expected: float) -> None:
    assert lr_factor("constant", progress, warmup=0.25) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
@pytest.mark.parametrize("warmup", [0.01, 1 / 3, 0.9])
def test_the_end_of_the_warm_up_is_no_jump(schedule: str, warmup: float) -> None:
    around = [lr_factor(schedule, warmup + off, [0.95], gamma=0.1, warmup=warmup) for off in (-1e-9, 0.0, 1e-9)]
    assert around == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    assert around[0] < 1.0


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.9])
def test_cosine_ends_at_zero_whatever_the_warm_up(warmup: float) -> None:
    assert lr_factor("cosine", 1.0, warmup=warmup) == pytest.approx(0.0, abs=1e-15)
    middle = (1.0 + warmup) / 2
    assert lr_factor("cosine", middle, warmup=warmup) == pytest.approx(0.5)


def test_without_a_warm_up_the_first_step_has_the_full_rate() -> None:
    assert [lr_factor(schedule, 0.0, warmup=0.0) for schedule in ("constant", "cosine", "step")] == [1.0, 1.0, 1.0]
    assert lr_factor("cosine", 0.25, warmup=0.0) == pytest.approx(0.5 + math.sqrt(0.125))
    assert lr_factor("step", 0.6, [0.5], gamma=0.1, warmup=0.0) == pytest.approx(0.1)
