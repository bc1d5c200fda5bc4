"""Accuracies by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gol_decouple.metrics import class_accuracies, top1_metrics


def test_groups_are_means_over_classes_and_top1_counts_samples() -> None:
    # Class 0 (many): 3 of 4 right; class 1 (medium): 1 of 2; class 2 (medium): 0 of 1; class 3 (few): 1 of 1.
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    predictions = np.array([0, 0, 0, 1, 1, 0, 0, 3])
    metrics = top1_metrics(predictions, labels, np.array([101, 100, 20, 19]))
    assert metrics["top1"] == pytest.approx(100 * 5 / 8)
    assert metrics["top1_balanced"] == pytest.approx((75 + 50 + 0 + 100) / 4)
    assert metrics["top1_many"] == pytest.approx(75)
    assert metrics["top1_medium"] == pytest.approx(25)
    assert metrics["top1_few"] == pytest.approx(100)
    assert (metrics["num_many"], metrics["num_medium"], metrics["num_few"]) == (1, 2, 1)


def test_an_empty_group_is_none_and_not_zero() -> None:
    metrics = top1_metrics(np.array([0, 1]), np.array([0, 1]), np.array([200, 300]))
    assert metrics["top1_medium"] is None
    assert metrics["top1_few"] is None
    assert metrics["num_few"] == 0


def test_a_class_without_test_samples_is_left_out_of_the_means() -> None:
    metrics = top1_metrics(np.array([0, 0]), np.array([0, 0]), np.array([200, 300, 5]))
    assert metrics["top1_many"] == pytest.approx(100)
    assert metrics["top1_few"] is None
    assert metrics["num_few"] == 1
    assert np.isnan(class_accuracies(np.array([0]), np.array([0]), 2)[1])


def test_groups_follow_class_ids_when_a_class_is_absent_from_test() -> None:
    """OLTR's code numbers groups by the classes it finds in the labels, which shifts them when one is absent."""
    metrics = top1_metrics(np.array([2, 2]), np.array([2, 1]), np.array([5, 50, 500]))
    assert metrics["top1_many"] == pytest.approx(100)
    assert metrics["top1_medium"] == pytest.approx(0)
    assert metrics["top1_few"] is None
