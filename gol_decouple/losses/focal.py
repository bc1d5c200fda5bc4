"""Focal loss: samples, or classes of a sample, that are right already count for less."""

from __future__ import annotations

import torch

from gol_decouple.activations import Activation, OneVsAll
from gol_decouple.losses.cross_entropy import CrossEntropy
from gol_decouple.losses.loss import ClassFacts
from gol_decouple.losses.terms import one_vs_all_, softmax_


class Focal(CrossEntropy):
    """(1 - p_t)^gamma times the cross entropy -log p_t (Lin et al., ICCV 2017, equation 4).

    For softmax p_t is the label's probability; for the others eta of the label and 1 - eta of every other class, and
    the terms are summed.
    """

    name = "focal"
    plain_at = ({"gamma": 0.0},)
    plain_when_uniform = False

    def __init__(self, activation: Activation, facts: ClassFacts, gamma: float = 2.0) -> None:
        super().__init__(activation, facts)
        self._require(gamma >= 0, "gamma", gamma, "at least 0")
        self.gamma = gamma

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        if isinstance(self.activation, OneVsAll):
            return one_vs_all_(logits, labels, self._positives, self._negatives_, self.background)
        losses = softmax_(logits, labels)
        factor = self._focus_(losses)
        logits.mul_(factor.unsqueeze(1))
        return losses

    def _positives(self, q: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert isinstance(self.activation, OneVsAll)
        cost, slope = self.activation.positive_cost(q)
        return cost, slope * self._focus_(cost)

    def _negatives_(self, part: torch.Tensor, _: slice) -> torch.Tensor:
        assert isinstance(self.activation, OneVsAll)
        cost = self.activation.negative_cost_(part)
        part.mul_(self._focus_(cost))
        return cost

    def _focus_(self, cost: torch.Tensor) -> torch.Tensor:
        """(1 - p)^gamma c replaces c = -log p; returns its derivative by c, (1 - p)^gamma (1 + gamma p c / (1 - p))."""
        tiny = torch.finfo(cost.dtype).tiny
        minus_cost = -cost
        missing = torch.expm1(minus_cost).neg_()
        factor = cost.clamp(min=tiny).div_(missing.clamp(min=tiny))
        factor.mul_(minus_cost.exp_()).mul_(self.gamma).add_(1.0)
        power = missing.pow_(self.gamma)
        cost.mul_(power)
        return factor.mul_(power)
