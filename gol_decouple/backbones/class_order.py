"""The one place that knows torchvision's order of a detector's classes.

Ours, in files and tensors: labels 0..C-1 in the order of category ids, background is label C. torchvision's: background
is class 0, our label c is class c + 1; -1 is a RoI of neither, in both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

# The bias of a background that no classifier has learnt.
NO_BACKGROUND = -100.0


class LinearLayer(NamedTuple):
    """A layer's `weight` and `bias`."""

    weight: torch.Tensor
    bias: torch.Tensor


def labels_to_torchvision(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Our labels [N], -1..C, as torchvision's."""
    shifted = torch.where(labels == num_classes, 0, labels + 1)
    return torch.where(labels < 0, labels, shifted)


def classifier_from_torchvision(weight: torch.Tensor, bias: torch.Tensor) -> LinearLayer:
    """torchvision's `cls_score`, [C+1, D] and [C+1], with its background row last."""
    return LinearLayer(weight.roll(-1, 0), bias.roll(-1, 0))


def classifier_to_torchvision(layer: LinearLayer, num_classes: int) -> LinearLayer:
    """A classifier of C + 1 columns, background last, or of C alone, as torchvision's `cls_score`, background first.

    One that has no background gets a row of zeros for it, with a bias so low that it is never the likeliest.
    """
    weight, bias = layer
    if len(weight) == num_classes:
        weight = torch.cat([weight, weight.new_zeros(1, weight.shape[1])])
        bias = torch.cat([bias, bias.new_full((1,), NO_BACKGROUND)])
    return LinearLayer(weight.roll(1, 0), bias.roll(1, 0))


def regressor_from_torchvision(weight: torch.Tensor, bias: torch.Tensor) -> LinearLayer:
    """torchvision's `bbox_pred`, [(C+1)*4, D] and [(C+1)*4], as [C, 4, D] and [C, 4]: background has no box."""
    return LinearLayer(weight.view(-1, 4, weight.shape[1])[1:], bias.view(-1, 4)[1:])
