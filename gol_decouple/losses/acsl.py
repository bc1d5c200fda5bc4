"""Adaptive class suppression: a sample is a negative for the classes that it is mistaken for."""

from __future__ import annotations

import math

import numpy as np
import torch

from gol_decouple.activations import Activation
from gol_decouple.losses.draws import drawn
from gol_decouple.losses.loss import ClassFacts
from gol_decouple.losses.negatives import WeightedNegatives, Weights

# The share of a batch's background rows that are negatives for the classes of a group.
BACKGROUND_SHARES = {"rare": 0.01, "common": 0.1, "frequent": 1.0}


class ACSL(WeightedNegatives):
    """w_c = 1 if eta(q_c) is at least `threshold`, else 0 (ACSL, Wang et al., CVPR 2021).

    Background rows, as in the public code: all are negatives for the frequent classes, a tenth of them, drawn anew in
    each batch, for the common and a hundredth for the rare ones, whatever their scores.
    """

    name = "acsl"
    random = True
    held_constant = "negative_weights"
    plain_at = ({"threshold": 0.0},)
    is_of: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, threshold: float = 0.7) -> None:
        super().__init__(activation, facts)
        self._require(0 <= threshold < 1, "threshold", threshold, "at least 0 and below 1")
        self.least_cost = -math.log1p(-threshold)
        self.random, self.independent = self.background, not self.background
        if self.background:
            masks = self._frequency_groups()
            self._constant("is_of", np.array([masks[group] for group in BACKGROUND_SHARES], np.float64))

    def negative_weights(
        self, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        dtype, least_cost = logits.dtype, self.least_cost
        if not self.background:
            return lambda cost, rows: (cost >= least_cost).to(dtype)
        is_class = labels < logits.shape[1]
        shares = BACKGROUND_SHARES.values()
        chosen = torch.stack([drawn(~is_class, (~is_class).sum() * share, generator) for share in shares], dim=1)
        chosen, is_of = chosen.to(dtype), self.is_of.to(dtype)

        def weights(cost: torch.Tensor, rows: slice) -> torch.Tensor:
            mistaken = (cost >= least_cost).to(dtype)
            return torch.where(is_class[rows].unsqueeze(1), mistaken, chosen[rows] @ is_of)

        return weights
