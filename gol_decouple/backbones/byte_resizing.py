"""Resizing of images as bytes, as the libraries do that detectors were trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Size = tuple[int, int]  # height and width
ByteResizing = Literal["opencv", "pillow"]

_FIXED_POINT = 2048  # OpenCV's weights are whole numbers of it


def size_of(old: Size, shorter: int, longest: int, resize: ByteResizing) -> Size:
    """The size of an image whose shorter side becomes `shorter`, unless the longer one would exceed `longest`.

    Both round to the nearest pixel, but in an order of their own, which can differ where that is half a pixel.
    """
    height, width = old
    if resize == "opencv":  # mmcv's rescale_size
        scale = min(longest / max(old), shorter / min(old))
        return int(height * scale + 0.5), int(width * scale + 0.5)
    # detectron2's ResizeShortestEdge
    scale = shorter / min(old)
    new = (float(shorter), scale * width) if height < width else (scale * height, float(shorter))
    if max(new) > longest:
        scale = longest / max(new)
        new = (new[0] * scale, new[1] * scale)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def resized(image: Tensor, size: Size, resize: ByteResizing) -> Tensor:
    """Bytes [3, H, W] as bytes [3, height, width], on the same device."""
    return _RESIZED[resize](image, size)


def _by_pillow(image: Tensor, size: Size) -> Tensor:
    """Pillow itself: torch's antialiasing of bytes is off by up to two levels from it."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    done = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(done)).permute(2, 0, 1).to(image.device)


def _as_opencv(image: Tensor, size: Size) -> Tensor:
    """cv2.resize with INTER_LINEAR in its whole numbers: columns are mixed first, four bits dropped, then rows."""
    left, right, first, second = _taps(image.shape[2], size[1], image.device)
    pixels = image.int()
    mixed = (pixels.index_select(2, left) * first + pixels.index_select(2, right) * second) >> 4
    above, below, first, second = _taps(image.shape[1], size[0], image.device)
    upper = (mixed.index_select(1, above) * first[:, None]) >> 16
    lower = (mixed.index_select(1, below) * second[:, None]) >> 16
    return ((upper + lower + 2) >> 2).to(torch.uint8)


def _taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two old pixels [new] that each new one lies between, and what each of them weighs."""
    # OpenCV inverts the scale twice, and goes on in single precision.
    at = ((torch.arange(new, dtype=torch.float64) + 0.5) * (1 / (new / old)) - 0.5).float()
    whole = at.floor()
    part = at - whole
    places = [(whole.long() + step).clamp(0, old - 1) for step in (0, 1)]
    weights = [(_FIXED_POINT * share).round().int() for share in (1 - part, part)]
    lower, upper, first, second = (tensor.to(device) for tensor in (*places, *weights))
    return lower, upper, first, second


_RESIZED: Mapping[ByteResizing, Callable[[Tensor, Size], Tensor]] = {"pillow": _by_pillow, "opencv": _as_opencv}
