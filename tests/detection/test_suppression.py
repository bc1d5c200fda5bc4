"""Suppression of boxes offered some at a time: torchvision's `nms` of each class, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from gol_decouple.detection.suppression import Survivors


def by_torchvision(boxes: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    """Places of the survivors, of boxes in the order of their scores."""
    scores = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
    kept = []
    for class_ in np.unique(classes):
        own = np.flatnonzero(classes == class_)
        kept += own[nms(torch.from_numpy(boxes[own]), scores[own], threshold).numpy()].tolist()
    return sorted(kept)


def survivors(boxes: np.ndarray, classes: np.ndarray, threshold: float, at_once: int) -> list[int]:
    found, kept = Survivors(threshold), []
    for start in range(0, len(boxes), at_once):
        kept += (start + found.add(boxes[start : start + at_once], classes[start : start + at_once])).tolist()
    np.testing.assert_array_equal(found.boxes, boxes[kept])
    np.testing.assert_array_equal(found.classes, classes[kept])
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_whole_pixels_are_as_with_torchvision(threshold: float, at_once: int) -> None:
    """Many IoUs are equal to the threshold, and many boxes to each other."""
    for seed in range(8):
        stream = np.random.default_rng(seed)
        corner, sides = stream.integers(0, 12, (150, 2)), stream.integers(1, 13, (150, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
        classes = stream.integers(0, 4, 150)
        expected = by_torchvision(boxes, classes, threshold)
        assert len(expected) < 150
        assert survivors(boxes, classes, threshold, at_once) == expected


@pytest.mark.parametrize("at_once", [64, 1000])
def test_any_boxes_are_as_with_torchvision(at_once: int) -> None:
    stream = np.random.default_rng(0)
    corner, sides = stream.random((800, 2)) * 300, stream.random((800, 2)) * 200 + 1
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    classes = stream.integers(0, 9, 800)
    assert survivors(boxes, classes, 0.5, at_once) == by_torchvision(boxes, classes, 0.5)


def test_what_an_overlapped_box_overlaps_stays() -> None:
    """A chain: each overlaps the next by two thirds, so that every other one survives."""
    boxes = np.array([[2.0 * place, 0, 2.0 * place + 10, 1] for place in range(9)], dtype=np.float32)
    assert survivors(boxes, np.zeros(9, np.int64), 0.5, 9) == [0, 2, 4, 6, 8]
    assert survivors(boxes, np.arange(9), 0.5, 9) == list(range(9)), "another class"


def test_an_iou_equal_to_the_threshold_is_compared_in_double_precision() -> None:
    """3 of 10 square pixels: float32's 0.3 is above 0.3."""
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]], dtype=np.float32)
    assert by_torchvision(boxes, np.zeros(2, np.int64), 0.3) == [0]
    assert survivors(boxes, np.zeros(2, np.int64), 0.3, 2) == [0]


def test_nothing_offered() -> None:
    assert survivors(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0.5, 1) == []
    assert Survivors(0.5).add(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)).tolist() == []
