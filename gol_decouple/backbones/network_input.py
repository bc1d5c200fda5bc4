"""What a network takes as input: how images are resized and normalised for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bilinear", "bicubic"]
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class NetworkInput:
    """The images [3, size, size] that a library's network was made for.

    Attributes:
        size: height and width in pixels.
        resize: the shorter side before size x size is cropped; None squeezes the whole image into it.
        interpolation: of the resizing.
        mean: of the three channels, of pixels between 0 and 1.
        std: their standard deviation.
    """

    size: int
    resize: int | None
    interpolation: Interpolation
    mean: Channels
    std: Channels
