"""What stage two trains and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gol_decouple import classifiers
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.metrics import Metrics

History = list[dict[str, float]]
Weights = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class State:
    """A classifier between two epochs: weight [C, D], bias [C], `velocity` [C * D + C] of both, and its history."""

    weight: torch.Tensor
    bias: torch.Tensor
    velocity: torch.Tensor
    history: History

    def fits(self, method: Method, shape: tuple[int, int]) -> bool:
        """Whether it can be one of a method's classifiers, [C, D], that has epochs left."""
        tensors = (self.weight, self.bias, self.velocity)
        wanted = (shape, shape[:1], (shape[0] * shape[1] + shape[0],))
        history = isinstance(self.history, list) and all(isinstance(entry, dict) for entry in self.history)
        same = [(tensor.shape, tensor.dtype) for tensor in tensors] == [(size, torch.float32) for size in wanted]
        return history and same and 0 < len(self.history) < method.epochs


@dataclass(frozen=True, eq=False)
class Job:
    """One classifier to train.

    Attributes:
        stage_one: weight [C, D] and bias [C] of the Softmax classifier, for methods that start from it.
        started_from: where those are from, as reports tell it.
        state: what to continue from.
    """

    method: Method
    seed: int
    stage_one: Weights | None = None
    started_from: str = "fresh"
    state: State | None = None

    def __str__(self) -> str:
        return f"{self.method.name} (lr {self.method.lr:g}, seed {self.seed})"


@dataclass(frozen=True)
class Retrained:
    """A retrained classifier.

    Attributes:
        weight, bias: float32 [C, D] and [C], on the CPU.
        method: what trained it, with all settings.
        num_views: views of each train sample it was trained on.
        history: for each epoch, its number (from 1), learning rate at its start, and mean train loss.
        seconds: wall time of the passes it was trained in, alone or together with others.
        metrics: top-1 metrics on test; None if there is no test split or `evaluate=False`.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    method: Method
    loss: Loss
    num_views: int
    history: History
    seconds: float
    metrics: Metrics | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.history)

    def scores(self, x: torch.Tensor | NDArray[np.floating]) -> torch.Tensor:
        """Scores [N, C] after the activation, of features [N, D]. Rank classes by logits: scores can underflow."""
        features = torch.as_tensor(x).float().cpu()
        return self.loss.scores(torch.addmm(self.bias, features, self.weight.t()))

    def to_linear(self) -> nn.Linear:
        """The classifier as an ordinary layer, D to C, that gives logits."""
        return classifiers.linear(self.weight, self.bias)
