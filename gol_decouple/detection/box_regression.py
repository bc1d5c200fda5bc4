"""Boxes from proposals and the box regressor, as torchvision's BoxCoder has them, for the pairs that are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from gol_decouple.backbones.conventions import MOST_GROWTH
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError

_PAIRS_AT_ONCE = 256  # the weights of so many stay in the processor's cache


@dataclass(frozen=True)
class BoxRegressor:
    """The layer that moves proposals to objects.

    Attributes:
        weight: [G, 4, D]; G is the number of classes, or 1: the same for all.
        bias: [G, 4].
        coder_weights: what dx, dy, dw and dh are divided by.
        least_growth: of a side, the logarithm of the factor (see `conventions.least_growth`).

    Raises:
        InputError: weight and bias do not go together.
    """

    weight: Tensor
    bias: Tensor
    coder_weights: tuple[float, float, float, float] = CODER_WEIGHTS
    least_growth: float = -math.inf

    def __post_init__(self) -> None:
        if self.weight.ndim != 3 or self.weight.shape[1] != 4 or self.bias.shape != self.weight.shape[:2]:
            raise InputError(
                f"a box regressor has weight {list(self.weight.shape)} and bias {list(self.bias.shape)}",
                "they are [classes or 1, 4, feature size] and [classes or 1, 4]",
            )


class DecodedBoxes:
    """The boxes of one image, decoded and clipped when they are first asked for, and kept for who asks next.

    Args:
        features: [R, D] of its RoIs.
        proposals: [R, 4], x1, y1, x2, y2.
        size: height and width of the image; boxes end there.
        num_classes: C.

    Raises:
        InputError: the regressor is for other features or classes.
    """

    def __init__(
        self, features: Tensor, proposals: Tensor, size: tuple[int, int], regressor: BoxRegressor, num_classes: int
    ) -> None:
        groups = len(regressor.weight)
        if groups not in (1, num_classes) or regressor.weight.shape[2] != features.shape[1]:
            raise InputError(
                f"the box regressor is for {groups} classes and features of size {regressor.weight.shape[2]}, the "
                f"classifier and its features are for {num_classes} and {features.shape[1]}"
            )
        self._features, self._proposals, self._size = features, proposals, size
        self._regressor, self._num_classes = regressor, num_classes
        self._known = torch.zeros(len(features) * groups, dtype=torch.bool, device=features.device)
        self._boxes = features.new_empty(len(self._known), 4)

    def of(self, pairs: Tensor) -> Tensor:
        """Boxes [P, 4] of pairs [P], each RoI * C + class."""
        groups = len(self._regressor.weight)
        keys = pairs if groups > 1 else pairs // self._num_classes
        new = torch.unique(keys[~self._known[keys]])
        for some in torch.split(new, _PAIRS_AT_ONCE):
            self._boxes[some] = self._decode(some // groups, some % groups)
        self._known[new] = True
        return self._boxes[keys]

    def _decode(self, rows: Tensor, groups: Tensor) -> Tensor:
        weight, bias, features = self._regressor.weight, self._regressor.bias, self._features[rows]
        if len(weight) == 1:
            deltas = linear(features, weight[0], bias[0])
        else:
            deltas = torch.baddbmm(bias[groups][:, :, None], weight[groups], features[:, :, None])[:, :, 0]
        return clipped(decoded(deltas, self._proposals[rows], self._regressor), self._size)


def decoded(deltas: Tensor, proposals: Tensor, regressor: BoxRegressor) -> Tensor:
    """Boxes [P, 4] from the regressor's output for each proposal, both [P, 4], in BoxCoder's order of steps."""
    sides = proposals[:, 2:] - proposals[:, :2]
    centres = proposals[:, :2] + 0.5 * sides
    moved = deltas / deltas.new_tensor(regressor.coder_weights)
    centres = moved[:, :2] * sides + centres
    half = 0.5 * (moved[:, 2:].clamp(regressor.least_growth, MOST_GROWTH).exp() * sides)
    return torch.cat([centres - half, centres + half], dim=1)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [P, 4] without what of them is outside an image of this height and width."""
    height, width = size
    return torch.stack([boxes[:, place].clamp(0, (width, height)[place % 2]) for place in range(4)], dim=1)
