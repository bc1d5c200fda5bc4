"""RoIAlign over the pyramid, against loops in float64."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from gol_decouple.backbones.conventions import filled
from gol_decouple.backbones.roi_pooling import PyramidPooling, roi_pooling
from gol_decouple.detector_settings import ConventionsConfig, Framework

SIZE = (256, 320)


def pooling(size: int = 7, **conventions: object) -> torch.nn.Module:
    return roi_pooling(size, filled(ConventionsConfig(**conventions)))


@pytest.fixture(scope="module")
def maps() -> dict[str, torch.Tensor]:
    """Of two images of 256 x 320, two channels, and a fifth level that RoIs are not taken from."""
    stream = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, 2, SIZE[0] // stride, SIZE[1] // stride, generator=stream)
        for name, stride in (("0", 4), ("1", 8), ("2", 16), ("3", 32), ("pool", 64))
    }


# Of all levels, over the edge of the image, of less than a pixel, and long and flat.
BOXES = [
    torch.tensor([[10.3, 20.7, 41.9, 50.2], [0.0, 0.0, 320.0, 256.0], [100.0, 90.0, 220.0, 210.0]]),
    torch.tensor([[-5.0, 200.0, 90.0, 256.0], [50.2, 60.1, 50.9, 60.5], [3.0, 100.0, 300.0, 110.0]]),
]


def value(channel: np.ndarray, y: float, x: float) -> float:
    """Between the centres of four pixels at whole y and x; up to a pixel outside, that of the edge; beyond, 0."""
    height, width = channel.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    below, after = y - top, x - left
    upper = channel[top, left] * (1 - after) + channel[top, right] * after
    lower = channel[bottom, left] * (1 - after) + channel[bottom, right] * after
    return float(upper * (1 - below) + lower * below)


def aligned(channel: np.ndarray, box: list[float], stride: int, bins: int, samples: int, shift: float) -> np.ndarray:
    x1, y1, x2, y2 = (corner / stride - shift for corner in box)
    width, height = x2 - x1, y2 - y1
    if not shift:
        width, height = max(width, 1.0), max(height, 1.0)
    down, along = samples or math.ceil(height / bins), samples or math.ceil(width / bins)
    result = np.zeros((bins, bins))
    for row in range(bins):
        for column in range(bins):
            found = [
                value(
                    channel,
                    y1 + height / bins * (row + (i + 0.5) / down),
                    x1 + width / bins * (column + (j + 0.5) / along),
                )
                for i in range(down)
                for j in range(along)
            ]
            result[row, column] = np.mean(found)
    return result


@pytest.mark.parametrize(
    ("conventions", "samples", "shift"),
    [
        ({"framework": "detectron2"}, 0, 0.5),
        ({"framework": "mmdetection"}, 0, 0.5),
        ({"framework": "mmdetection", "sampling_ratio": 2}, 2, 0.5),
        ({"framework": "detectron2", "aligned": False}, 0, 0.0),
        ({"framework": "torchvision", "aligned": True}, 2, 0.5),
        ({}, 2, 0.0),
        ({"sampling_ratio": 0}, 0, 0.0),
    ],
)
def test_bins_are_means_of_points(
    maps: dict[str, torch.Tensor], conventions: dict[str, object], samples: int, shift: float
) -> None:
    found = pooling(3, **conventions)(maps, BOXES, [SIZE, SIZE])
    assert found.shape == (6, 2, 3, 3)
    rows = [(image, box) for image, boxes in enumerate(BOXES) for box in boxes.tolist()]
    for bins, (image, box) in zip(found, rows, strict=True):
        side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        level = min(max(math.floor(math.log2(side / 56)), 0), 3)
        for channel in range(2):
            plain = maps[str(level)][image, channel].double().numpy()
            expected = aligned(plain, box, 4 << level, 3, samples, shift)
            np.testing.assert_allclose(bins[channel], expected, atol=2e-5)


def squares(sides: list[float]) -> torch.Tensor:
    return torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side] for side in sides])


@pytest.mark.parametrize("framework", get_args(Framework))
def test_levels_change_at_doubled_sizes(framework: Framework) -> None:
    levels = PyramidPooling(7, filled(ConventionsConfig(framework=framework))).levels
    sides = [1.0, 56.0, 111.9, 112.0, 223.9, 224.0, 447.9, 448.0, 2000.0]
    assert levels(squares(sides)).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert levels(torch.tensor([[5.0, 5.0, 5.0, 9.0]])).tolist() == [0], "without an area"


def test_frameworks_differ_millionths_below_a_boundary() -> None:
    # So many float32 below 224: shares of it of 1 - 1.4e-7, 1 - 5.4e-7 and 1 - 4.8e-5.
    boxes = torch.zeros(3, 4)
    boxes[:, 2:] = 224.0 - torch.tensor([2.0, 8.0, 700.0])[:, None] * 2.0**-16
    found = {
        framework: PyramidPooling(7, filled(ConventionsConfig(framework=framework))).levels(boxes).tolist()
        for framework in get_args(Framework)
    }
    assert found == {"torchvision": [2, 2, 1], "detectron2": [1, 1, 1], "mmdetection": [2, 1, 1]}


@pytest.mark.parametrize("size", [7, 14])
def test_torchvisions_is_its_own(maps: dict[str, torch.Tensor], size: int) -> None:
    own = pooling(size)
    assert isinstance(own, MultiScaleRoIAlign)
    expected = MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2)(maps, BOXES, [SIZE, SIZE])
    assert torch.equal(own(maps, BOXES, [SIZE, SIZE]), expected)


def test_no_roi_and_gradients(maps: dict[str, torch.Tensor]) -> None:
    pool = pooling(7, framework="mmdetection")
    empty = [torch.zeros(0, 4), torch.zeros(0, 4)]
    assert pool(maps, empty, [SIZE, SIZE]).shape == (0, 2, 7, 7)
    given = {name: tensor.clone().requires_grad_() for name, tensor in maps.items()}
    pool(given, [BOXES[0][:1], empty[1]], [SIZE, SIZE]).sum().backward()
    assert given["0"].grad is not None
    assert given["0"].grad[0].sum() > 0
    assert given["0"].grad[1].abs().sum() == 0
    assert given["3"].grad is not None, "each map keeps its part"


def test_maps_of_mixed_precision_are_taken_as_they_are(maps: dict[str, torch.Tensor]) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in maps.items()}
    pool = pooling(7, framework="detectron2")
    with torch.autocast("cpu", torch.bfloat16):
        found = pool(halves, BOXES, [SIZE, SIZE])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), pool(maps, BOXES, [SIZE, SIZE]), atol=0.05, rtol=0.05)
