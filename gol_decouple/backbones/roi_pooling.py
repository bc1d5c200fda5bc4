"""RoIAlign on the level of the pyramid that a RoI's size asks for, as each framework has it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

from gol_decouple.detector_settings import ConventionsConfig, Framework

# The pyramid's maps that RoIs are taken from, finest first, and their strides.
LEVELS = {"0": 4, "1": 8, "2": 16, "3": 32}

# The level, 0 being the finest, that sizes [R] (square roots of areas, in pixels) ask for; it can be below 0 or above
# 3. The three are one formula (equation 1 of Feature Pyramid Networks, Lin et al., 2017), and differ in what is added
# so that rounding does not take RoIs of a boundary's very size to the level below.
_LEVEL_OF: Mapping[Framework, Callable[[Tensor], Tensor]] = {
    "torchvision": lambda sizes: (4 + torch.log2(sizes / 224) + 1e-6).floor() - 2,
    "detectron2": lambda sizes: (4 + torch.log2(sizes / 224 + sys.float_info.epsilon)).floor() - 2,
    "mmdetection": lambda sizes: torch.log2(sizes / 56 + 1e-6).floor(),
}


class PyramidPooling(nn.Module):
    """RoIAlign to [size, size] bins, by conventions; called as torchvision's MultiScaleRoIAlign is."""

    def __init__(self, size: int, conventions: ConventionsConfig) -> None:
        super().__init__()
        assert conventions.framework is not None  # as `conventions.filled` has it
        assert conventions.sampling_ratio is not None
        self._level_of = _LEVEL_OF[conventions.framework]
        self._size, self._aligned = size, bool(conventions.aligned)
        self._sampling_ratio = conventions.sampling_ratio or -1  # torchvision's word for: by the RoI's size

    def forward(self, maps: Mapping[str, Tensor], boxes: Sequence[Tensor], _image_sizes: object) -> Tensor:
        """What RoIs see, [R, channels, size, size].

        Args:
            maps: of the pyramid, [N, channels, H, W] each.
            boxes: [R_n, 4] of each image, x1, y1, x2, y2 in pixels of the image as it was resized.
        """
        every = torch.cat(list(boxes))
        image = torch.cat([own.new_full((len(own), 1), place) for place, own in enumerate(boxes)])
        rois = torch.cat([image, every], dim=1)
        levels = self.levels(every)
        finest = maps["0"]
        pooled = finest.new_zeros(len(rois), finest.shape[1], self._size, self._size)
        # Every level, also one without RoIs: each map keeps its part in the gradients.
        for level, (name, stride) in enumerate(LEVELS.items()):
            own = torch.where(levels == level)[0]
            bins = roi_align(maps[name], rois[own], self._size, 1 / stride, self._sampling_ratio, aligned=self._aligned)
            pooled[own] = bins.to(pooled.dtype)
        return pooled

    def levels(self, boxes: Tensor) -> Tensor:
        """The level [R], 0 to 3, that each of the boxes [R, 4] is taken from."""
        sides = boxes[:, 2:] - boxes[:, :2]
        return self._level_of(sides.prod(1).sqrt()).clamp(0, len(LEVELS) - 1).long()


def roi_pooling(size: int, conventions: ConventionsConfig) -> nn.Module:
    """RoIAlign to [size, size] bins: torchvision's own, as far as it can do what is asked for."""
    if conventions.framework == "torchvision" and not conventions.aligned:
        return MultiScaleRoIAlign(list(LEVELS), size, conventions.sampling_ratio)  # type: ignore[no-any-return]
    return PyramidPooling(size, conventions)
