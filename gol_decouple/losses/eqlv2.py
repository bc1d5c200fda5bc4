"""Equalisation loss v2: positives and negatives of a class are weighted by what gradients each had until now."""

from __future__ import annotations

import torch

from gol_decouple.activations import ONE_VS_ALL, Activation, OneVsAll
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.terms import one_vs_all_


class EQLv2(Loss):
    """Positives weigh 1 + alpha (1 - f(g_c)), negatives f(g_c) (EQLv2, Tan et al., CVPR 2021).

    f(g) = 1 / (1 + exp(-gamma (g - mu))), and g_c is the ratio of the gradients that the class's positives and
    negatives have had until now, weighted, as absolute values. Before the first batch all weights are 1. With
    background there is a further column, the objectness of background, always of weight 1, and scores are
    eta(q_c) (1 - eta(q_background)).
    """

    name = "eqlv2"
    activations = ONE_VS_ALL
    with_background = ONE_VS_ALL
    independent = False
    plain_at = ({"alpha": 0.0, "mu": -1e6},)
    positive_gradient: torch.Tensor
    negative_gradient: torch.Tensor

    def __init__(
        self, activation: Activation, facts: ClassFacts, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0
    ) -> None:
        super().__init__(activation, facts)
        self._require(alpha >= 0, "alpha", alpha, "at least 0")
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.extra_columns = int(self.background)
        for kind in ("positive", "negative"):
            self.register_buffer(f"{kind}_gradient", torch.zeros(len(self._given_counts()), dtype=torch.float64))

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        activation = self.activation
        assert isinstance(activation, OneVsAll)
        of_positives, of_negatives = (weights.to(logits.dtype) for weights in self._weights())
        positive, negative = (torch.zeros_like(of_positives) for _ in range(2))

        def positives(q: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            cost, slope = activation.positive_cost(q)
            weight = of_positives[column]
            slope.mul_(weight)
            positive.scatter_add_(0, column.squeeze(1), slope.squeeze(1).abs())
            return cost.mul_(weight), slope

        def negatives_(part: torch.Tensor, rows: slice) -> torch.Tensor:
            cost = activation.negative_cost_(part)
            part.mul_(of_negatives)
            # All as negatives, less what stands at the labels, where there is none.
            negative.add_(part.sum(0))
            own = labels[rows].unsqueeze(1)
            negative.scatter_add_(0, own.squeeze(1), part.gather(1, own).squeeze(1).neg())
            return cost.mul_(of_negatives)

        losses = one_vs_all_(logits, labels, positives, negatives_)
        if self.training:
            num_classes = len(self.positive_gradient)
            self.positive_gradient += positive[:num_classes]
            self.negative_gradient += negative[:num_classes]
        return losses

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        scores = self.activation.scores(logits)
        return self._of_classes(scores) * (1.0 - scores[:, -1:]) if self.background else scores

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        log_scores = super().log_scores(logits)
        assert isinstance(self.activation, OneVsAll)
        return log_scores + self.activation.log_complement(logits[:, -1:]) if self.background else log_scores

    def _weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of positives and of negatives, each for every column."""
        ratio = self.positive_gradient / (self.negative_gradient + 1e-10)
        begun = (self.positive_gradient.sum() + self.negative_gradient.sum()) > 0
        of_negatives = torch.where(begun, torch.sigmoid(self.gamma * (ratio - self.mu)), 1.0)
        if self.background:
            of_negatives = torch.cat([of_negatives, of_negatives.new_ones(1)])
        return 1.0 + self.alpha * (1.0 - of_negatives), of_negatives
