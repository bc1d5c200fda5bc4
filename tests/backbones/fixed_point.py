"""OpenCV's resizing of bytes, which mmdetection uses, to the last bit."""

from __future__ import annotations

import numpy as np


def resize_fixed_point(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's bilinear resizing of bytes: weights of 11 bits, of which the second pass drops some on the way."""

    def taps(new: int, old: int) -> tuple[np.ndarray, ...]:
        at = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
        first = np.floor(at).astype(np.int64)
        return first, at - first.astype(np.float32)

    def fixed(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.rint((1 - share) * 2048).astype(np.int64), np.rint(share * 2048).astype(np.int64)

    old_height, old_width = image.shape[:2]
    left, share = taps(width, old_width)
    near, far = (weight[:, None] for weight in fixed(np.where((left < 0) | (left >= old_width - 1), 0, share)))
    pixels = image.astype(np.int64)
    across = pixels[:, left.clip(0, old_width - 1)] * near + pixels[:, (left + 1).clip(0, old_width - 1)] * far >> 4
    top, share = taps(height, old_height)
    near, far = (weight[:, None, None] for weight in fixed(share))
    upper = across[top.clip(0, old_height - 1)] * near >> 16
    lower = across[(top + 1).clip(0, old_height - 1)] * far >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)
