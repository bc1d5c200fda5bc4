"""Classifiers on cached features, and the weights they start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gol_decouple.activations import Activation

FRESH_STD = 0.001


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """A linear classifier with a copy of `weight` [C, D] and `bias` [C]."""
    # Built without storage, so that PyTorch's own initialisation draws nothing from the global random stream.
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def fresh(
    num_columns: int, num_classes: int, feature_size: int, activation: Activation, generator: torch.Generator
) -> nn.Linear:
    """A linear classifier at the activation's prior point: weights N(0, 0.001), every class scoring 1/C."""
    weight = torch.empty(num_columns, feature_size).normal_(0.0, FRESH_STD, generator=generator)
    return linear(weight, torch.full((num_columns,), activation.prior_bias(num_classes)))


def as_tensors(classifier: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [C, D] and bias [C] of anything that has both, or of a (weight, bias) pair, as float32 on the CPU."""
    pair = classifier if isinstance(classifier, tuple) else (classifier.weight, classifier.bias)
    weight, bias = (torch.as_tensor(part).detach().float().cpu() for part in pair)
    return weight, bias
