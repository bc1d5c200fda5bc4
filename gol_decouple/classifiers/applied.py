"""Classifiers as they are applied: from features to logits, and to and from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from gol_decouple.activations import Activation
from gol_decouple.errors import InputError

FRESH_STD = 0.001


@dataclass(frozen=True, eq=False)
class Alignment:
    """DisAlign's part of a classifier: q + g (s q + t - q), with g = sigmoid(v x + c) a number for each sample.

    Attributes:
        scale, shift: s and t, [columns].
        confidence_weight, confidence_bias: v [D] and c [1].
    """

    scale: torch.Tensor
    shift: torch.Tensor
    confidence_weight: torch.Tensor
    confidence_bias: torch.Tensor

    def __call__(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Aligned logits [N, columns], of logits and features [N, D]."""
        confidence = torch.addmv(self.confidence_bias, x, self.confidence_weight).sigmoid_()
        return logits + confidence.unsqueeze(1) * (logits * (self.scale - 1.0) + self.shift)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Logits W f + b of features [N, D], where f is x as it is, or x - `centre`, or either with length 1.

    Attributes:
        weight, bias: float32 [columns, D] and [columns].
        normalise: whether f has length 1.
        centre: [D], what is subtracted first.
        alignment: what is done with the logits then.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    normalise: bool = False
    centre: torch.Tensor | None = None
    alignment: Alignment | None = None

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N, columns] of features [N, D]."""
        x = prepared(x, self.normalise, self.centre)
        logits = torch.addmm(self.bias, x, self.weight.t())
        return logits if self.alignment is None else self.alignment(logits, x)

    def to(self, device: torch.device | None) -> Classifier:
        """The same on a device."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return from_tensors(moved, self.normalise)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name, as `from_tensors` takes them."""
        found = {"weight": self.weight, "bias": self.bias}
        found |= {} if self.centre is None else {"centre": self.centre}
        if self.alignment is not None:
            found |= {field.name: getattr(self.alignment, field.name) for field in fields(Alignment)}
        return found

    def class_norms(self, num_classes: int) -> NDArray[np.float64]:
        """The Euclidean norm of each class's weight, without its bias, [C]; other columns are left out."""
        norms: NDArray[np.float64] = np.linalg.norm(self.weight[:num_classes].cpu().double().numpy(), axis=1)
        return norms

    def to_linear(self) -> nn.Linear:
        """An ordinary layer, D to the columns, that gives the logits of x, or of x with length 1 (`normalise`).

        Raises:
            InputError: DisAlign's classifier is no linear one, and neither is that of lengths about a centre.
        """
        if self.alignment is not None or (self.centre is not None and self.normalise):
            raise InputError("this classifier is no linear layer", "use its logits(x) or scores(x)")
        bias = self.bias if self.centre is None else self.bias - self.weight @ self.centre
        return linear(self.weight, bias)


def prepared(x: torch.Tensor, normalise: bool, centre: torch.Tensor | None) -> torch.Tensor:
    """What a classifier sees of features [N, D], float32."""
    x = x.float() if centre is None else x.float() - centre
    return F.normalize(x, dim=1) if normalise else x


def from_tensors(tensors: Mapping[str, torch.Tensor], normalise: bool = False) -> Classifier:
    """The classifier of some `Classifier.tensors()`.

    Raises:
        KeyError: one is missing.
    """
    names = [field.name for field in fields(Alignment)]
    alignment = Alignment(**{name: tensors[name] for name in names}) if names[0] in tensors else None
    return Classifier(tensors["weight"], tensors["bias"], normalise, tensors.get("centre"), alignment)


def of(classifier: Any) -> Classifier:
    """A `Classifier`, or what has one, or that of anything `as_tensors` takes."""
    own = getattr(classifier, "classifier", classifier)
    return own if isinstance(own, Classifier) else Classifier(*as_tensors(classifier))


def as_tensors(classifier: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [C, D] and bias [C] of anything that has both, or of a (weight, bias) pair, as float32 on the CPU."""
    pair = classifier if isinstance(classifier, tuple) else (classifier.weight, classifier.bias)
    weight, bias = (torch.as_tensor(part).detach().float().cpu() for part in pair)
    return weight, bias


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
