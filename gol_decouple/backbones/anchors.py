"""Anchors of a pyramid of five levels, as each framework places them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from gol_decouple.detector_settings import ConventionsConfig

SIZES = (32, 64, 128, 256, 512)  # square roots of the anchors' areas, one a level
RATIOS = (0.5, 1.0, 2.0)  # height by width
STRIDES = (4, 8, 16, 32, 64)


class Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """torchvision's anchors, with the sides, the strides and the first centre of a framework.

    torchvision divides the padded image by the map for a level's stride: of the last level, which drops every second
    row, that is below 64 where the rows are odd in number. The others have the strides of `STRIDES`.
    """

    def __init__(self, conventions: ConventionsConfig) -> None:
        super().__init__(tuple((size,) for size in SIZES), (RATIOS,) * len(SIZES))
        self._offset = conventions.anchor_offset
        self._fixed_strides = conventions.framework != "torchvision"
        if not conventions.anchor_rounding:
            self.cell_anchors = [_around_zero(size) for size in SIZES]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Any]]) -> list[Tensor]:
        """Anchors [H * W * 3, 4] of each level, x1, y1, x2, y2; row by row, and at each place by ratio."""
        if self._fixed_strides:
            strides = [[stride, stride] for stride in STRIDES]
        levels: list[Tensor] = super().grid_anchors(grid_sizes, strides)
        if not self._offset:
            return levels
        first = [self._offset * levels[0].new_tensor([int(width), int(height)] * 2) for height, width in strides]
        return [anchors + centre for anchors, centre in zip(levels, first, strict=True)]


def _around_zero(size: int) -> Tensor:
    """The anchors [3, 4] of a size, unrounded."""
    heights = size * torch.tensor(RATIOS, dtype=torch.float64).sqrt()
    widths = size**2 / heights
    return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).float()
