"""Cross entropy: softmax, or the sum of one binary cross entropy a class."""

from __future__ import annotations

from typing import ClassVar

import torch

from gol_decouple.activations import ONE_VS_ALL, Activation, OneVsAll
from gol_decouple.losses.loss import ClassFacts, Limits, Loss
from gol_decouple.losses.terms import one_vs_all_, softmax_


class CrossEntropy(Loss):
    """-log softmax(q)_y, or -log eta(q_y) - sum over c != y of log(1 - eta(q_c)) (GOL, ECCV 2022, equation 9).

    Summed over classes, then averaged over samples: a mean over both would make every gradient C times smaller.
    Background is a column of its own for softmax, and a row without positives for the others.
    """

    name = "cross_entropy"
    activations = ("softmax", *ONE_VS_ALL)
    with_background = activations
    plain_at: ClassVar[Limits] = ({},)
    plain_when_uniform = True

    def __init__(self, activation: Activation, facts: ClassFacts) -> None:
        super().__init__(activation, facts)
        self.extra_columns = int(self.background and not activation.one_vs_all)

    def softmax_columns(self, num_classes: int) -> int:
        return self.num_columns(num_classes)

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        if not isinstance(self.activation, OneVsAll):
            return softmax_(logits, labels)
        activation = self.activation
        return one_vs_all_(
            logits,
            labels,
            lambda q, _: activation.positive_cost(q),
            lambda part, _: activation.negative_cost_(part),
            self.background,
        )
