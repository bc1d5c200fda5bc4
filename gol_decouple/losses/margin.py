"""LDAM: margins that are larger for smaller classes."""

from __future__ import annotations

import torch

from gol_decouple.activations import Activation, at_least_float32
from gol_decouple.losses.loss import ClassFacts
from gol_decouple.losses.weighted import ClassBalanced


class LDAM(ClassBalanced):
    """-log softmax(s (z - m_y e_y))_y, m_c = max_margin (min n / n_c)^(1/4) (Cao et al., NeurIPS 2019).

    `z` is meant to be a cosine classifier's, hence `scale` s; on one that scales its logits itself, set it to 1. From
    `deferred` on (DRW; 0.8 is their 160 of 200 epochs, 1 never), samples get class-balanced weights too.
    """

    name = "ldam"
    activations = ("softmax",)
    with_background = ()
    plain_at = ({"max_margin": 0.0, "scale": 1.0},)
    plain_when_uniform = False
    margins: torch.Tensor

    def __init__(
        self,
        activation: Activation,
        facts: ClassFacts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        deferred: float = 1.0,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(activation, facts, beta, deferred)
        self._require(max_margin >= 0, "max_margin", max_margin, "at least 0")
        self._require(scale > 0, "scale", scale, "above 0")
        counts = self._counts()
        self.scale = scale
        self._constant("margins", max_margin * (counts.min() / counts) ** 0.25)

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        column = labels.unsqueeze(1)
        logits.scatter_add_(1, column, -self.margins.to(logits.dtype)[column]).mul_(self.scale)
        losses = super().per_sample_(logits, labels)
        logits.mul_(self.scale)
        return losses

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        return super().scores(at_least_float32(logits) * self.scale)

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        return super().log_scores(at_least_float32(logits) * self.scale)
