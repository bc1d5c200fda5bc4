"""The one place that knows the order of a detector's classes in files of other programs, and torchvision's.

Ours, in files and tensors: labels 0..C-1 in the order of category ids, background is label C. torchvision's: background
is class 0, our label c is class c + 1; -1 is a RoI of neither, in both. detectron2 and mmdetection have background
last, and no box or mask of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

# Of a class that no RoI has: its probability is 0 in float32, and its Softmax changes no other class's.
NEVER = -100.0


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
        bias = torch.cat([bias, bias.new_full((1,), NEVER)])
    return LinearLayer(weight.roll(1, 0), bias.roll(1, 0))


def regressor_from_torchvision(weight: torch.Tensor, bias: torch.Tensor) -> LinearLayer:
    """torchvision's `bbox_pred`, [(C+1)*4, D] and [(C+1)*4], as [C, 4, D] and [C, 4]: background has no box.

    One for all classes, [4, D] and [4], is [1, 4, D] and [1, 4].
    """
    if len(weight) == 4:
        return LinearLayer(weight[None], bias[None])
    return LinearLayer(weight.view(-1, 4, weight.shape[1])[1:], bias.view(-1, 4)[1:])


def background_first(
    rows: torch.Tensor, num_classes: int, order: Sequence[int] | None, per_class: int, missing: float
) -> torch.Tensor:
    """Rows [C * per_class, ...] of classes, and of background if it has some after them, as torchvision has them.

    Args:
        order: at which place in `rows` each of our classes is; None: in our order.
        missing: what background's rows are filled with if there are none.
    """
    blocks = rows.view(-1, per_class, *rows.shape[1:])
    classes = blocks[:num_classes] if order is None else blocks[list(order)]
    background = blocks[num_classes:] if len(blocks) > num_classes else torch.full_like(blocks[:1], missing)
    return torch.cat([background, classes]).flatten(0, 1)


def background_last(
    rows: torch.Tensor, order: Sequence[int] | None, per_class: int, with_background: bool
) -> torch.Tensor:
    """The reverse: torchvision's rows in the file's order, background's last or left out."""
    blocks = rows.view(-1, per_class, *rows.shape[1:])
    classes = blocks[1:]
    if order is not None:
        classes = torch.empty_like(classes).index_copy_(0, torch.tensor(list(order), device=rows.device), classes)
    return torch.cat([classes, blocks[:1]] if with_background else [classes]).flatten(0, 1)
