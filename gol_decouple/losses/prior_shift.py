"""Losses that add the train prior to the logits while training, so that the plain ones are free of it at test time."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple.activations import ONE_VS_ALL, Activation, OneVsAll
from gol_decouple.losses.cross_entropy import CrossEntropy
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.terms import one_vs_all_, softmax_

Shift = Literal["exact", "link"]


class LogitAdjusted(Loss):
    """-log softmax(q + tau log pi)_y, with pi_c = n_c / n (Menon et al., ICLR 2021, equation 10)."""

    name = "logit_adjusted"
    activations = ("softmax",)
    plain_at = ({"tau": 0.0},)
    plain_when_uniform = True
    shift: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, tau: float = 1.0) -> None:
        super().__init__(activation, facts)
        counts = self._counts()
        self._constant("shift", tau * np.log(counts / counts.sum()))

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        return softmax_(logits.add_(self.shift.to(logits.dtype)), labels)


class Balanced(CrossEntropy):
    """Balanced Softmax (Ren et al., NeurIPS 2020), and its like for one-vs-all activations.

    Softmax: -log softmax(q + log n)_y. One-vs-all: the log-odds of eta(q_c) are lowered by
    s_c = log((n/k) / n_c (n - n_c) / (n - n/k)), of which equal class sizes leave nothing; for sigmoid that is Balanced
    Sigmoid (Ren et al., LVIS workshop 2020). With `shift="link"` it is q itself that moves, by
    link(n_c / n) - link(1 / k), where link is eta's inverse: the same for sigmoid, another loss for Gumbel. With
    background, only foreground samples are shifted.
    """

    name = "balanced"
    with_background = ONE_VS_ALL  # for softmax, the share of background is a choice of sampling and no prior
    plain_at = ()
    plain_when_uniform = True
    shift_by: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, shift: Shift = "exact") -> None:
        super().__init__(activation, facts)
        self._require(shift in get_args(Shift), "shift", shift, "exact or link")
        counts = self._counts()
        share, even = counts / counts.sum(), 1.0 / len(counts)
        # For sigmoid, moving the odds is moving q.
        self._moves_odds = shift == "exact" and activation.one_vs_all and activation.name != "sigmoid"
        if not isinstance(activation, OneVsAll):
            self._constant("shift_by", np.log(counts))
        elif self._moves_odds:
            self._constant("shift_by", np.log(share / (1.0 - share)) - np.log(even / (1.0 - even)))
        else:
            self._constant("shift_by", np.array([activation.link(p) for p in share]) - activation.link(even))

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        shift = self.shift_by.to(logits.dtype)
        if self.background:
            shift = shift * (labels < logits.shape[1]).to(logits.dtype).unsqueeze(1)
        if not self._moves_odds:
            return super().per_sample_(logits.add_(shift), labels)
        return self._with_odds_moved_(logits, labels, shift.expand_as(logits))

    def _with_odds_moved_(self, logits: torch.Tensor, labels: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy of each class's log-odds, moved by `shift` [N, C]."""
        activation = self.activation
        assert isinstance(activation, OneVsAll)

        def positives(q: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # By way of log eta, which is continued by its tangent.
            (log_eta, rising), (log_rest, falling) = activation.log_eta(q), activation.log_one_minus_eta(q)
            odds = log_eta.sub_(log_rest).add_(shift.gather(1, column))
            return F.softplus(-odds, threshold=40.0), falling.sub_(rising).mul_(torch.sigmoid(-odds))

        def negatives_(part: torch.Tensor, rows: slice) -> torch.Tensor:
            odds, slope = activation.log_odds(part)
            odds.add_(shift[rows])
            cost = F.softplus(odds, threshold=40.0)
            torch.mul(slope, odds.sigmoid_(), out=part)
            return cost

        return one_vs_all_(logits, labels, positives, negatives_, self.background)
