"""Bounds on boxes, and one box for all classes."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from gol_decouple.backbones.box_coding import BoundedCoder, ClassAgnosticPredictor
from gol_decouple.backbones.conventions import filled
from gol_decouple.detector_settings import ConventionsConfig

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def coder(framework: str) -> BoundedCoder:
    return BoundedCoder(WEIGHTS, filled(ConventionsConfig(framework=framework)))


def by_hand(codes: list[float], box: list[float], bounded: bool) -> list[float]:
    x1, y1, x2, y2 = box
    most = math.log(1000 / 16)
    growth = [min(code / 5, most) for code in codes[2:]]
    if bounded:
        growth = [max(one, -most) for one in growth]
    width, height = (x2 - x1) * math.exp(growth[0]), (y2 - y1) * math.exp(growth[1])
    x, y = (x1 + x2) / 2 + codes[0] / 10 * (x2 - x1), (y1 + y2) / 2 + codes[1] / 10 * (y2 - y1)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@pytest.mark.parametrize("framework", ["torchvision", "detectron2", "mmdetection"])
def test_only_mmdetection_bounds_shrinking(framework: str) -> None:
    boxes = torch.tensor([[10.0, 20.0, 1010.0, 520.0], [3.0, 4.0, 30.0, 60.0]])
    codes = torch.tensor([[1.0, -2.0, -30.0, 0.5, 0.3, 0.4, 40.0, -25.0], [0.1, 0.0, 1.0, -40.0, 0.0, 0.0, -3.0, 2.0]])
    found = coder(framework).decode(codes, [boxes])
    for row in range(2):
        for group in range(2):
            expected = by_hand(
                codes[row, 4 * group : 4 * group + 4].tolist(), boxes[row].tolist(), framework == "mmdetection"
            )
            assert found[row, group].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
    width = float(found[0, 0, 2] - found[0, 0, 0])
    assert width == pytest.approx(16.0 if framework == "mmdetection" else 1000 * math.exp(-6), rel=1e-3)


def test_without_a_bound_it_is_torchvisions() -> None:
    stream = torch.Generator().manual_seed(0)
    boxes = torch.rand(50, 4, generator=stream) * 100
    boxes[:, 2:] += boxes[:, :2]
    codes = 20 * torch.randn(50, 12, generator=stream)
    assert torch.equal(coder("torchvision").decode(codes, [boxes]), BoxCoder(WEIGHTS).decode(codes, [boxes]))


def test_no_box() -> None:
    assert coder("mmdetection").decode(torch.zeros(0, 12), [torch.zeros(0, 4)]).shape[0] == 0


def test_every_class_has_the_same_box() -> None:
    predictor = ClassAgnosticPredictor(6, 4)
    x = torch.randn(5, 6)
    logits, deltas = predictor(x)
    assert predictor.bbox_pred.weight.shape == (4, 6)
    assert torch.equal(logits, predictor.cls_score(x))
    assert deltas.shape == (5, 16)
    for group in range(4):
        assert torch.equal(deltas[:, 4 * group : 4 * group + 4], predictor.bbox_pred(x))
