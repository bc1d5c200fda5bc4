"""What of a classifier is trained, and how: K classifiers at a time, side by side in one set of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch.nn import functional as F

from gol_decouple import lanes
from gol_decouple.classifiers.applied import Alignment, Classifier
from gol_decouple.errors import InputError


class Trained(ABC):
    """K classifiers that are trained in step.

    Attributes:
        initial: what is trained, float32 [K, P], at the start.
        fixed: weight [K, C, D] and bias [K, C] of stage one, where they stay as they are.
        normalise: whether the features x they are given have to have length 1.
    """

    initial: torch.Tensor
    fixed: tuple[torch.Tensor, ...] = ()
    normalise: ClassVar[bool] = False

    @abstractmethod
    def logits(self, trained: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, C] in `out`, given what is trained [K, P] and features x [K, B, D]."""

    @abstractmethod
    def gradient(self, trained: torch.Tensor, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """The gradient of what is trained [K, P], given those of the last logits [K, B, C], summed over samples."""

    @abstractmethod
    def classifier(self, trained: torch.Tensor, position: int) -> Classifier:
        """One of the K as it is applied, on the CPU."""

    def keep(self, positions: list[int]) -> None:
        """Drop all of the K but those at `positions`."""
        self.fixed = tuple(part[positions] for part in self.fixed)


class ByWeights(Trained):
    """Classifiers whose logits are those of a weight and a bias, which are made of what is trained."""

    @abstractmethod
    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [K, C, D] and bias [K, C]."""

    @abstractmethod
    def chain(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The gradient of what is trained [K, P], given those of weight [K, C, D] and bias [K, C]."""

    def logits(self, trained: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return product(x, *self.weights(trained), out)

    def gradient(self, trained: torch.Tensor, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        return self.chain(trained, lanes.product(_in(x.dtype, slopes).mT, x).float(), slopes.sum(1))

    def classifier(self, trained: torch.Tensor, position: int) -> Classifier:
        weight, bias = (part[position].cpu().clone() for part in self.weights(trained))
        return Classifier(weight, bias, self.normalise)


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """x W^T + b in `out` [K, B, C], multiplied in the dtype of x [K, B, D]."""
    weight = _in(x.dtype, weight)
    if x.dtype is torch.float32:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT, out=out)
    return torch.add(lanes.product(x, weight.mT), bias.unsqueeze(1), out=out)


def _in(dtype: torch.dtype, parts: torch.Tensor) -> torch.Tensor:
    """What is multiplied, [K, ...]."""
    return lanes.in_lanes(parts.to(dtype))


class Linear(ByWeights):
    """Weight and bias themselves are trained."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.initial = torch.cat([weight.flatten(1), bias], dim=1)
        self._shape = weight.shape[1:]

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self._shape.numel()
        return trained[:, :size].view(len(trained), *self._shape), trained[:, size:]

    def chain(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.cat([weight.flatten(1), bias], dim=1)


class LWS(ByWeights):
    """Learnable weight scaling: r_c (w_c x + b_c); only r is trained, from 1 (Kang et al., ICLR 2020, section 4)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.initial = torch.ones_like(bias)
        self.fixed = (weight, bias)

    def weights(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight, bias = self.fixed
        return weight * trained.unsqueeze(2), bias * trained

    def chain(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        own_weight, own_bias = self.fixed
        return (weight * own_weight).sum(2).addcmul_(bias, own_bias)


class Cosine(ByWeights):
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

    def chain(self, trained: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        directions, scale = self._directions(trained)
        along = (weight * directions).sum(2, keepdim=True)
        lengths = self._raw(trained).norm(dim=2, keepdim=True).clamp(min=1e-12)
        across = ((weight - along * directions) * (scale / lengths)).flatten(1)
        return across if self._fixed_scale else torch.cat([across, along.sum((1, 2)).unsqueeze(1)], dim=1)

    def _raw(self, trained: torch.Tensor) -> torch.Tensor:
        return trained[:, : self._shape.numel()].view(len(trained), *self._shape)

    def _directions(self, trained: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """The weights with length 1, and their scale."""
        scale = self._fixed_scale or trained[:, -1].view(-1, 1, 1)
        return F.normalize(self._raw(trained), dim=2), scale


class DisAlign(Trained):
    """Stage one's logits q become q + g (s q + t - q), with g = sigmoid(v x + c) for each sample.

    s, t, v and c are trained, from s = 1 and t = v = c = 0, at which nothing is changed (Zhang et al., Distribution
    Alignment, CVPR 2021).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        count, columns, size = weight.shape
        self.initial = torch.cat([torch.ones_like(bias), weight.new_zeros(count, columns + size + 1)], dim=1)
        self.fixed = (weight, bias)
        self._sizes = [columns, columns, size, 1]

    def logits(self, trained: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        scale, shift, weight, bias = torch.split(trained, self._sizes, dim=1)
        # What the gradient needs of the forward pass, which the loss overwrites.
        own_weight, own_bias = self.fixed
        self._plain = product(x, own_weight, own_bias, torch.empty_like(out))
        # A row times a matrix, and no sigmoid_: of several classifiers, both are rounded as of each one alone.
        of_confidence = lanes.product(_in(x.dtype, weight).unsqueeze(1), x.mT).mT.float() + bias.unsqueeze(1)
        self._confidence = F.logsigmoid(of_confidence).exp_()
        self._change = torch.addcmul(shift.unsqueeze(1), self._plain, scale.unsqueeze(1) - 1.0)
        return torch.addcmul(self._plain, self._confidence, self._change, out=out)

    def gradient(self, trained: torch.Tensor, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        confidence = self._confidence
        of_change = slopes * confidence
        steep = (slopes * self._change).sum(2, keepdim=True) * confidence * (1.0 - confidence)
        # With a second row, of zeros: a row alone is rounded otherwise beside those of other classifiers on some CPUs.
        of_weight = lanes.product(_in(x.dtype, F.pad(steep, (0, 1))).mT, x)[:, 0].float()
        return torch.cat([(of_change * self._plain).sum(1), of_change.sum(1), of_weight, steep.sum(1)], dim=1)

    def classifier(self, trained: torch.Tensor, position: int) -> Classifier:
        weight, bias = (part[position].cpu() for part in self.fixed)
        alignment = Alignment(*(part.cpu().clone() for part in torch.split(trained[position], self._sizes)))
        return Classifier(weight, bias, alignment=alignment)
