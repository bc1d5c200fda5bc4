"""Anchors of each framework, against loops in plain Python, and torchvision's own as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from gol_decouple.backbones.anchors import Anchors
from gol_decouple.backbones.conventions import filled
from gol_decouple.detector_settings import ConventionsConfig

# Of a padded image of 96 x 160: the last map has every second row of 3 and column of 5.
GRIDS = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]


def anchors(images: int = 1, **conventions: object) -> list[torch.Tensor]:
    padded = ImageList(torch.zeros(images, 3, 96, 160), [(90, 150)] * images)
    made = Anchors(filled(ConventionsConfig(**conventions)))
    found: list[torch.Tensor] = made(padded, [torch.zeros(images, 1, *grid) for grid in GRIDS])
    return found


def by_hand(strides: tuple[int, ...] = (4, 8, 16, 32, 64), offset: float = 0.0, rounded: bool = False) -> np.ndarray:
    rows = []
    for (height, width), stride, size in zip(GRIDS, strides, (32, 64, 128, 256, 512), strict=True):
        for y in range(height):
            for x in range(width):
                for ratio in (0.5, 1.0, 2.0):
                    half_width, half_height = size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2
                    if rounded:
                        half_width, half_height = round(half_width), round(half_height)
                    centre_x, centre_y = (x + offset) * stride, (y + offset) * stride
                    rows.append([centre_x - half_width, centre_y - half_height])
                    rows[-1] += [centre_x + half_width, centre_y + half_height]
    return np.array(rows)


@pytest.mark.parametrize("framework", ["detectron2", "mmdetection"])
def test_other_frameworks_have_whole_strides_and_broken_sides(framework: str) -> None:
    found = anchors(2, framework=framework)
    assert len(found) == 2
    assert torch.equal(found[0], found[1])
    np.testing.assert_allclose(found[0], by_hand(), atol=1e-4)
    assert found[0][0].tolist() == pytest.approx([-22.627417, -11.313708, 22.627417, 11.313708], abs=1e-5)


def test_a_first_centre_can_be_within_its_stride() -> None:
    np.testing.assert_allclose(anchors(framework="detectron2", anchor_offset=0.5)[0], by_hand(offset=0.5), atol=1e-4)


def test_sides_can_be_rounded() -> None:
    np.testing.assert_array_equal(anchors(framework="mmdetection", anchor_rounding=True)[0], by_hand(rounded=True))


def test_torchvisions_are_its_own() -> None:
    theirs = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    padded = ImageList(torch.zeros(1, 3, 96, 160), [(90, 150)])
    expected = theirs(padded, [torch.zeros(1, 1, *grid) for grid in GRIDS])[0]
    assert torch.equal(anchors()[0], expected)
    # 96 // 2 = 48 and 160 // 3 = 53 where the others have 64.
    assert expected[-1].tolist() == [2 * 53 - 181, 48 - 362, 2 * 53 + 181, 48 + 362]
