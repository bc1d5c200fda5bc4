"""One-vs-all cross entropy whose negative terms have weights: the common ground of many losses."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gol_decouple.activations import ONE_VS_ALL, OneVsAll
from gol_decouple.losses.loss import Loss
from gol_decouple.losses.terms import one_vs_all_

# (costs of some rows as negatives [n, C], which of the N) -> their weights, of a shape that expands to [n, C].
Weights = Callable[[torch.Tensor, slice], torch.Tensor]


class WeightedNegatives(Loss):
    """-log eta(q_y) - sum over c != y of w_c log(1 - eta(q_c)); no gradient passes through w."""

    activations = ONE_VS_ALL
    with_background = ONE_VS_ALL

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        activation = self.activation
        assert isinstance(activation, OneVsAll)
        weights = self.negative_weights(labels, logits, generator)

        def negatives_(part: torch.Tensor, rows: slice) -> torch.Tensor:
            cost = activation.negative_cost_(part)
            weight = weights(cost, rows)
            part.mul_(weight)
            return cost.mul_(weight)

        return one_vs_all_(logits, labels, lambda q, _: activation.positive_cost(q), negatives_, self.background)

    def negative_weights(
        self, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        """The weights of the negatives of a batch; those at the labels' own entries do not matter.

        Args:
            labels: [N]; C is background.
            logits: [N, C], for their shape, dtype and device.
        """
        raise NotImplementedError
