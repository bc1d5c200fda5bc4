"""Cross entropy with a weight for each sample, by its class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple.activations import Activation
from gol_decouple.losses.cross_entropy import CrossEntropy
from gol_decouple.losses.loss import ClassFacts, Limits


class Weighted(CrossEntropy):
    """Cross entropy times w_y, where the weights sum to C. The mean is over samples; background weighs 1."""

    plain_when_uniform = True
    weights: torch.Tensor

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        losses = super().per_sample_(logits, labels)
        weights = self.weights.to(losses.dtype)[labels]
        logits.mul_(weights.unsqueeze(1))
        return losses.mul_(weights)

    def _weigh(self, weights: NDArray[np.float64]) -> None:
        self._constant("weights", np.append(weights * (len(weights) / weights.sum()), 1.0))


class ClassBalanced(Weighted):
    """w_c = (1 - beta) / (1 - beta^n_c), by the effective number of samples (Cui et al., CVPR 2019).

    With `deferred`, the share of the training before which all weights are 1, it is LDAM's deferred re-weighting (DRW;
    Cao et al., NeurIPS 2019, algorithm 1).
    """

    name = "class_balanced"
    plain_at: ClassVar[Limits] = ({"beta": 0.0}, {"deferred": 1.0})

    def __init__(self, activation: Activation, facts: ClassFacts, beta: float = 0.9999, deferred: float = 0.0) -> None:
        super().__init__(activation, facts)
        self._require(0 <= beta < 1, "beta", beta, "at least 0 and below 1")
        self._require(0 <= deferred <= 1, "deferred", deferred, "from 0 to 1")
        counts = self._counts()
        self._weigh(-1.0 / np.expm1(counts * np.log(beta)) if beta else np.ones_like(counts))
        self._constant("final_weights", self.weights.clone())
        self.deferred = deferred
        self.start_epoch(0.0)

    def start_epoch(self, share_done: float) -> None:
        final = self.get_buffer("final_weights")
        self.weights.copy_(final if share_done >= self.deferred and self.deferred < 1 else torch.ones_like(final))


class InverseFrequency(Weighted):
    """w_c = (1 / n_c)^power: 1 is the inverse frequency, 1.2 DisAlign's on ImageNet-LT (Zhang et al., CVPR 2021)."""

    name = "inverse_frequency"
    plain_at = ({"power": 0.0},)

    def __init__(self, activation: Activation, facts: ClassFacts, power: float = 1.0) -> None:
        super().__init__(activation, facts)
        self._require(power >= 0, "power", power, "at least 0")
        self._weigh(self._counts() ** -power)
