"""What follows from the box regressor's output: mmdetection's bound on shrinking, and one box for all classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from gol_decouple.backbones.conventions import least_growth
from gol_decouple.detector_settings import ConventionsConfig


class BoundedCoder(BoxCoder):  # type: ignore[misc]  # torchvision has no types
    """torchvision's coder, which bounds how much a side grows, with a framework's bound on how little, if it has one.

    Attributes:
        least_growth: the logarithm of the least factor; -inf: no bound.
    """

    def __init__(self, weights: tuple[float, float, float, float], conventions: ConventionsConfig) -> None:
        super().__init__(weights)
        self.least_growth = least_growth(conventions.framework)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes [N, G * 4] from the regressor's output for each, [N, G * 4], and boxes [N, 4]."""
        codes = rel_codes.reshape(len(rel_codes), rel_codes.shape[1] // 4, 4)
        sides = codes[..., 2:].clamp(min=self.least_growth * codes.new_tensor(self.weights[2:]))
        bounded = torch.cat([codes[..., :2], sides], dim=2)
        return super().decode_single(bounded.flatten(1), boxes)  # type: ignore[no-any-return]


class ClassAgnosticPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """torchvision's predictor with `bbox_pred` [4, D]: every class has the same box."""

    def __init__(self, in_channels: int, num_columns: int) -> None:
        super().__init__(in_channels, num_columns)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, C + 1] of features [R, D], and the box repeated for each of them, [R, (C + 1) * 4]."""
        logits, deltas = super().forward(x)
        return logits, deltas.repeat(1, logits.shape[1])
