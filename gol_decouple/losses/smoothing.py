"""Label-aware smoothing: the larger a class, the less its labels are believed."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple.activations import ONE_VS_ALL, Activation, OneVsAll
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.terms import one_vs_all_


class LabelAwareSmoothing(Loss):
    """Cross entropy with targets t = (1 - e_y) y + e_y / C (MiSLAS, Zhong et al., CVPR 2021, for softmax).

    One-vs-all activations have the sum over classes of -t log eta - (1 - t) log(1 - eta), of which no paper is known.

    e rises from `tail` for the smallest class to `head` for the largest by a quarter of a sine. This is what its code
    computes; the paper shares e_y among the other C - 1 classes, which is the same with e_y C / (C - 1).
    """

    name = "label_aware_smoothing"
    activations = ("softmax", *ONE_VS_ALL)
    plain_at = ({"head": 0.0, "tail": 0.0},)
    smoothing: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, head: float = 0.4, tail: float = 0.1) -> None:
        super().__init__(activation, facts)
        self._require(0 <= head < 1, "head", head, "at least 0 and below 1")
        self._require(0 <= tail < 1, "tail", tail, "at least 0 and below 1")
        counts = self._counts()
        size = (counts - counts.min()) / max(np.ptp(counts), 1.0)
        self._constant("smoothing", tail + (head - tail) * np.sin(size * np.pi / 2))

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        if isinstance(self.activation, OneVsAll):
            return self._one_vs_all_(self.activation, logits, labels)
        column = labels.unsqueeze(1)
        smoothing = self.smoothing.to(logits.dtype)[column]
        log_prob = F.log_softmax(logits, dim=1)
        losses = (smoothing - 1.0) * log_prob.gather(1, column) - smoothing * log_prob.mean(1, keepdim=True)
        torch.exp(log_prob, out=logits).sub_(smoothing / logits.shape[1]).scatter_add_(1, column, smoothing - 1.0)
        return losses.squeeze(1)

    def _one_vs_all_(self, activation: OneVsAll, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing = self.smoothing.to(logits.dtype)[labels.unsqueeze(1)]
        others = smoothing / logits.shape[1]

        def costs_(q: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            """Of logits q, whose slopes replace them, with these targets."""
            cost, slope = activation.positive_cost(q)
            as_negatives = activation.negative_cost_(q)
            q.lerp_(slope, targets)
            return as_negatives.lerp_(cost, targets)

        def positives(q: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            slope = q.clone()
            return costs_(slope, 1.0 - smoothing + others), slope

        return one_vs_all_(logits, labels, positives, lambda part, rows: costs_(part, others[rows]))
