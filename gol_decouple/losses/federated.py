"""Federated loss: negatives for the classes of the batch and some that are drawn."""

from __future__ import annotations

import numpy as np
import torch

from gol_decouple.activations import Activation
from gol_decouple.losses.loss import ClassFacts
from gol_decouple.losses.negatives import WeightedNegatives, Weights


class Federated(WeightedNegatives):
    """w_c = 1 for the batch's classes and drawn ones, `num_sampled` in all, else 0 (CenterNet2, Zhou et al., 2021).

    Drawn without replacement, with probabilities that go by (image frequency)^power. Background counts as no class; in
    the public code it is one of the `num_sampled`.
    """

    name = "federated"
    random = True
    independent = False
    plain_at = ({"num_sampled": 10**6},)
    log_odds: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, num_sampled: int = 50, power: float = 0.5) -> None:
        super().__init__(activation, facts)
        self._require(num_sampled > 0, "num_sampled", num_sampled, "at least 1")
        self._require(power >= 0, "power", power, "at least 0")
        self.num_sampled = num_sampled
        # A class that no image holds is drawn after all others, or like them if frequency does not matter.
        self._constant("log_odds", np.log(np.maximum(self._frequency() ** power, 1e-300)))

    def negative_weights(
        self, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        num_classes = logits.shape[1]
        present = torch.zeros(num_classes + 1, dtype=torch.bool, device=logits.device)
        present = present.scatter_(0, labels, True)[:num_classes]
        # The largest of log p + Gumbel noise are draws without replacement; those present come before all others.
        draws = torch.rand(num_classes, dtype=torch.float64, device=logits.device, generator=generator)
        keys = self.log_odds - torch.log(-torch.log(draws.clamp_(1e-300)))
        chosen = keys.masked_fill_(present, torch.inf).topk(min(self.num_sampled, num_classes)).indices
        weights = present.to(logits.dtype).scatter_(0, chosen, 1.0)
        return lambda cost, rows: weights
