"""Classifiers on cached features: the weights they start from, and what of them is trained.

Each gives its logits by a weight and a bias, on features as they are or of length 1. They are written for K at a time,
which are trained in step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from gol_decouple.activations import Activation
from gol_decouple.errors import InputError, check_parameters, unknown

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


class Trained(Protocol):
    """K classifiers that are trained in step.

    Attributes:
        initial: what is trained, [K, P], at the start.
        normalise: whether features are scaled to length 1 first.
    """

    initial: torch.Tensor
    normalise: bool

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [K, C, D] and bias [K, C] that the logits come of, given what is trained [K, P]."""

    def gradient(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The gradient of what is trained [K, P], given those of weight [K, C, D] and bias [K, C]."""

    def keep(self, positions: list[int]) -> None:
        """Drop all of the K but those at `positions`."""


class Linear:
    """Weight and bias themselves are trained."""

    normalise = False

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.initial = torch.cat([weight.flatten(1), bias], dim=1)
        self._shape = weight.shape[1:]

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self._shape.numel()
        return trained[:, :size].view(len(trained), *self._shape), trained[:, size:]

    def gradient(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.cat([weight.flatten(1), bias], dim=1)

    def keep(self, positions: list[int]) -> None:
        pass


class LWS:
    """Learnable weight scaling: r_c (w_c x + b_c), where only r is trained, from 1 (Kang et al., ICLR 2020, 4.4)."""

    normalise = False

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.initial = torch.ones_like(bias)
        self._weight, self._bias = weight, bias

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._weight * trained.unsqueeze(2), self._bias * trained

    def gradient(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return (weight * self._weight).sum(2).addcmul_(bias, self._bias)

    def keep(self, positions: list[int]) -> None:
        self._weight, self._bias = self._weight[positions], self._bias[positions]


class Cosine:
    """s w_c x / (|w_c| |x|), without a bias; s is `cosine_scale`, and trained too if `learn_scale`.

    Weights start with length 1, since their length is nothing but the size of their steps.
    """

    normalise = True

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, cosine_scale: float = 16.0, learn_scale: bool = False
    ) -> None:
        if cosine_scale <= 0:
            raise InputError(f"classifier 'cosine': cosine_scale = {cosine_scale}: must be above 0")
        unit = F.normalize(weight, dim=2).flatten(1)
        self.initial = torch.cat([unit, unit.new_full((len(unit), 1), cosine_scale)], dim=1) if learn_scale else unit
        self._shape = weight.shape[1:]
        self._fixed_scale = None if learn_scale else cosine_scale

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        directions, scale = self._directions(trained)
        return directions * scale, directions.new_zeros(directions.shape[:2])

    def gradient(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        directions, scale = self._directions(trained)
        along = (weight * directions).sum(2, keepdim=True)
        lengths = self._raw(trained).norm(dim=2, keepdim=True).clamp(min=1e-12)
        across = ((weight - along * directions) * (scale / lengths)).flatten(1)
        return across if self._fixed_scale else torch.cat([across, along.sum((1, 2)).unsqueeze(1)], dim=1)

    def keep(self, positions: list[int]) -> None:
        pass

    def _raw(self, trained: torch.Tensor) -> torch.Tensor:
        return trained[:, : self._shape.numel()].view(len(trained), *self._shape)

    def _directions(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The weights with length 1, and their scale."""
        scale = self._fixed_scale or trained[:, -1].view(-1, 1, 1)
        return F.normalize(self._raw(trained), dim=2), scale


_CLASSIFIERS: dict[str, type[Linear] | type[LWS] | type[Cosine]] = {"linear": Linear, "lws": LWS, "cosine": Cosine}


def names() -> list[str]:
    """Names of all classifiers."""
    return list(_CLASSIFIERS)


def get(name: str, **params: Any) -> Callable[..., Trained]:
    """What makes K classifiers called `name` of the weight [K, C, D] and bias [K, C] they start from.

    Raises:
        InputError: there is none, or a parameter it does not have.
    """
    if name not in _CLASSIFIERS:
        raise unknown("classifier", name, _CLASSIFIERS)
    make = _CLASSIFIERS[name]
    check_parameters(f"classifier {name!r}", params, list(inspect.signature(make).parameters)[2:])
    return partial(make, **params)


def normalises(name: str) -> bool:
    """Whether the classifier called `name` takes features of length 1."""
    return _CLASSIFIERS[name].normalise
