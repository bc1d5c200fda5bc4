"""Masks of boxes in the whole image, as detectron2 and mmdetection place them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities [N, 1, m, m] over boxes [N, 4] at the centres of an image's pixels, [N, 1, height, width].

    They are mixed bilinearly, also with the nothing around a box. What lies beyond a box, where they would be less than
    half of the mask's, is left at 0: no threshold from 0.5 on sees it.
    """
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    touched = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).clamp(min=0).minimum(limits)
    whole = masks.new_zeros(len(masks), 1, height, width)
    for mask, box, canvas, (left, top, right, bottom) in zip(masks, boxes, whole, touched.int().tolist(), strict=True):
        if left < right and top < bottom:
            x, y = _places(left, right, box[0::2]), _places(top, bottom, box[1::2])
            grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
            canvas[:, top:bottom, left:right] = F.grid_sample(mask[None], grid[None], align_corners=False)[0]
    return whole


def _places(first: int, last: int, ends: Tensor) -> Tensor:
    """Where the centres of pixels from the first to before the last are in a box, from -1 to 1 between its `ends`."""
    pixels = torch.arange(first, last, device=ends.device) + 0.5
    return (pixels - ends[0]) / (ends[1] - ends[0]) * 2 - 1
