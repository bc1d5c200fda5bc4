"""Intervals of differences against textbooks' tables and cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gol_decouple.report import noise

# t at 0.975 by degrees of freedom, from any textbook's table.
TABLED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 8: 2.306, 10: 2.228, 30: 2.042}


@pytest.mark.parametrize("freedom", TABLED)
def test_where_both_vary_alike_it_is_students_t_of_the_table(freedom: int) -> None:
    # Two groups of n with equal variances s^2 have 2n - 2 degrees of freedom and the error s sqrt(2 / n).
    if freedom % 2:
        # One that does not vary at all leaves the other's n - 1.
        a, b = [5.0] * 3, [*np.linspace(1.0, 2.0, freedom + 1)]
        error = math.sqrt(np.var(b, ddof=1) / len(b))
    else:
        size = freedom // 2 + 1
        a, b = [*np.linspace(1.0, 2.0, size)], [*np.linspace(4.0, 5.0, size)]
        error = math.sqrt(np.var(a, ddof=1) * 2 / size)
    found = noise.of_seeds(a, b)
    assert (found.high - found.low) / 2 == pytest.approx(TABLED[freedom] * error, rel=2e-4)
    assert (found.high + found.low) / 2 == pytest.approx(np.mean(b) - np.mean(a))
    assert found.noise == noise.SEEDS


def test_a_case_of_unequal_variances_by_hand() -> None:
    # a: mean 2, variance 1, n 3; b: mean 6, variance 20/3, n 4. Shares 1/3 and 5/3, error sqrt(2), degrees of freedom
    # 4 / ((1/9)/2 + (25/9)/3) = 4 / (53/54) = 4.0755; t between those of 4 (2.776) and 5 (2.571).
    found = noise.of_seeds([1.0, 2.0, 3.0], [3.0, 5.0, 7.0, 9.0])
    half = (found.high - found.low) / 2 / math.sqrt(2)
    assert 2.571 < half < 2.776
    assert half == pytest.approx(2.776 - 0.0755 * (2.776 - 2.571), abs=0.005)  # between two lines of the table
    # 4 / sqrt(2) = 2.828 is beyond t at 0.975 (2.76) and below that at 0.99 (3.7).
    assert 0.02 < found.p_value < 0.05
    assert found.low > 0


def test_the_interval_covers_the_difference_that_is_there() -> None:
    stream, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        found = noise.of_seeds([*stream.normal(50, 0.5, 5)], [*stream.normal(51, 2.0, 3)])
        covered += found.low <= 1.0 <= found.high
    assert 920 <= covered <= 975


def test_no_variation_leaves_nothing_to_chance() -> None:
    assert noise.of_seeds([1.0, 1.0], [2.0, 2.0]) == noise.Interval(1.0, 1.0, 0.0, noise.SEEDS)
    assert noise.of_seeds([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]) == noise.Interval(0.0, 0.0, 1.0, noise.SEEDS)


def test_of_test_samples_by_hand() -> None:
    # 50 and 60 of 98 right: with one more of each kind 51 and 61 of 100.
    found = noise.of_test_samples(100 * 50 / 98, 98, 100 * 60 / 98, 98)
    error = 100 * math.sqrt((0.51 * 0.49 + 0.61 * 0.39) / 100)
    assert found.low == pytest.approx(10 - 1.95996 * error, abs=1e-3)
    assert found.high == pytest.approx(10 + 1.95996 * error, abs=1e-3)
    assert found.p_value == pytest.approx(0.1522, abs=2e-4)  # 2 (1 - Phi(1.432)), Phi(1.432) = 0.9239 by the table
    assert found.noise == noise.TEST_SAMPLES


def test_of_test_samples_has_a_width_where_all_are_right() -> None:
    found = noise.of_test_samples(100.0, 10, 100.0, 10)
    assert found.low < 0 < found.high
    assert found.p_value == 1.0


def test_of_test_samples_covers_the_difference_that_is_there() -> None:
    stream, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        a, b = stream.binomial(200, 0.1) / 2, stream.binomial(500, 0.2) / 5
        found = noise.of_test_samples(a, 200, b, 500)
        covered += found.low <= 10.0 <= found.high
    assert 1860 <= covered <= 1950


def test_holm_by_hand() -> None:
    # In order: 0.01 <= 0.05 / 4, 0.015 <= 0.05 / 3, 0.03 > 0.05 / 2: from there on none.
    assert noise.beyond_all([0.04, 0.01, 0.03, 0.015]) == [False, True, False, True]
    assert noise.beyond_all([0.05]) == [True]
    assert noise.beyond_all([0.051]) == [False]
    assert noise.beyond_all([]) == []


def test_a_percent_beyond_its_bounds_is_taken_for_the_bound() -> None:
    assert noise.of_test_samples(100.0 + 1e-7, 50, -1e-7, 0.0001) == noise.of_test_samples(100.0, 50, 0.0, 0.0001)
    assert noise.of_test_samples(150.0, 100, 40.0, 100) == noise.of_test_samples(100.0, 100, 40.0, 100)
