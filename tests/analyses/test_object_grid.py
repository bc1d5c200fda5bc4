"""Object distributions and their divergences against cases worked out by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from gol_decouple.analyses.object_grid import (
    add,
    centre_cells,
    class_divergences,
    distributions,
    divergence,
    empty_counts,
    mean_of,
)


def test_centres_fall_into_cells_by_row_and_column() -> None:
    """Of an image of 100 rows and 200 columns, in cells of 50 by 100 pixels."""
    boxes = np.array([[0, 0, 20, 20], [150, 0, 180, 10], [0, 60, 10, 90], [90, 40, 110, 60], [99, 49, 100.9, 50.9]])
    sizes = np.broadcast_to([100, 200], (5, 2))
    assert centre_cells(boxes, sizes, 2).tolist() == [0, 1, 2, 3, 0]
    assert centre_cells(boxes, sizes, 1).tolist() == [0] * 5


def test_centres_outside_are_in_the_nearest_cell() -> None:
    boxes = np.array([[-50.0, -50.0, 0.0, 0.0], [200, 100, 200, 100], [300, 0, 310, 10]])
    assert centre_cells(boxes, np.broadcast_to([100, 200], (3, 2)), 4).tolist() == [0, 15, 3]


def two_by_two() -> np.ndarray:
    """Two classes in four cells, eight objects: class 0 four times in the first cell, once in the second."""
    counts = empty_counts(2, 2)
    add(counts, np.array([0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 1]))
    add(counts, np.array([1, 1]), np.array([1, 3]), np.array([2.5, 0.5]))
    return counts


def test_the_distributions_of_a_grid_by_hand() -> None:
    counts = two_by_two()
    assert counts.tolist() == [[4, 1, 0, 0], [0, 2.5, 0, 0.5]]
    found = distributions(counts)
    np.testing.assert_allclose(found.objects, [0.5, 3.5 / 8, 0, 0.5 / 8])
    np.testing.assert_allclose(found.classes, [[1, 1 / 3.5, np.nan, 0], [0, 2.5 / 3.5, np.nan, 1]])
    np.testing.assert_allclose(found.joint, [[0.5, 0.125, 0, 0], [0, 2.5 / 8, 0, 0.5 / 8]])
    assert found.objects.sum() == found.joint.sum() == 1.0
    defined = ~np.isnan(found.classes)
    np.testing.assert_allclose((found.classes * found.objects)[defined], found.joint[defined])


def test_the_divergence_of_a_grid_by_hand() -> None:
    """With a = 1 and four cells: P = (2, 1, 1, 0) / 4 becomes (3, 2, 2, 1) / 8; Q = (0, 0, 0, 4) / 4, (1, 1, 1, 5)."""
    truth, predicted = np.array([2.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 7.0])
    wanted = (3 * math.log(3) + 2 * math.log(2) + 2 * math.log(2) + math.log(1 / 5)) / 8
    assert divergence(truth, predicted, smoothing=1.0) == pytest.approx(wanted, rel=1e-12)
    each = class_divergences(np.stack([truth, truth]), np.stack([predicted, truth]), smoothing=1.0)
    np.testing.assert_allclose(each, [wanted, 0.0], atol=1e-15)


def test_it_is_the_sum_of_the_definition() -> None:
    stream = np.random.default_rng(0)
    truth, predicted = (stream.poisson(0.7, (5, 9)) * stream.uniform(size=(5, 9)) for _ in range(2))
    a, number = 0.01, 45
    wanted = 0.0
    for y, u in product(range(5), range(9)):
        p = (truth[y, u] / truth.sum() + a / number) / (1 + a)
        q = (predicted[y, u] / predicted.sum() + a / number) / (1 + a)
        wanted += p * math.log(p / q)
    assert divergence(truth, predicted) == pytest.approx(wanted, rel=1e-12)
    own = [divergence(truth[y], predicted[y]) for y in range(5)]
    np.testing.assert_allclose(class_divergences(truth, predicted), own, rtol=1e-12)


def test_what_is_predicted_as_it_is_diverges_by_nothing() -> None:
    counts = two_by_two()
    assert divergence(counts, counts) == 0.0
    assert divergence(counts, 17.0 * counts) == pytest.approx(0.0, abs=1e-15)  # counts of another size
    np.testing.assert_allclose(class_divergences(counts, 0.1 * counts), 0.0, atol=1e-15)


def test_it_is_finite_and_positive_where_nothing_is_predicted_and_undefined_where_nothing_is_there() -> None:
    counts, none = two_by_two(), empty_counts(2, 2)
    even = np.ones_like(counts)
    assert 0 < divergence(counts, none) < math.inf
    assert divergence(counts, none) == divergence(counts, even)
    assert math.isnan(divergence(none, counts))
    found = class_divergences(np.stack([counts[0], none[0]]), np.stack([none[0], counts[1]]))
    assert found[0] > 0
    assert np.isnan(found[1])


def test_means_leave_out_what_is_undefined() -> None:
    values = np.array([1.0, np.nan, 3.0, 100.0])
    assert mean_of(values, [True, True, True, False]) == 2.0
    assert math.isnan(mean_of(values, [False, True, False, False]))
    assert math.isnan(mean_of(values, [False] * 4))
