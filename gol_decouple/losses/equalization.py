"""Equalisation losses: negatives of classes that few images hold, and that would drown them, are left out."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple.activations import Activation
from gol_decouple.class_stats import COMMON_UP_TO
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.negatives import WeightedNegatives, Weights


class SoftmaxEQL(Loss):
    """-log(e^z_y / sum of w_k e^z_k), w_k = 1 - beta T(f_k) (1 - y_k) (EQL, Tan et al., CVPR 2020).

    T(f) = 1 for classes whose share of the samples is below `lambda_`; beta is 1 with probability `gamma`, drawn for
    each sample and class.
    """

    name = "softmax_eql"
    activations = ("softmax",)
    random = True
    plain_at = ({"lambda_": 0.0}, {"gamma": 0.0})
    in_tail: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, lambda_: float = 5e-3, gamma: float = 0.9) -> None:
        super().__init__(activation, facts)
        self._require(lambda_ >= 0, "lambda_", lambda_, "at least 0")
        self._require(0 <= gamma <= 1, "gamma", gamma, "from 0 to 1")
        self._constant("in_tail", (self._frequency() < lambda_).astype(np.float32))
        self.gamma = gamma

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        column = labels.unsqueeze(1)
        draws = torch.rand(logits.shape, generator=generator, device=logits.device)
        left_out = draws.lt_(self.gamma).mul_(self.in_tail).scatter_(1, column, 0.0)
        logits.add_(left_out, alpha=-0.5 * torch.finfo(torch.float32).max)
        losses = -F.log_softmax(logits, dim=1).gather(1, column).squeeze(1)
        # Not by exp, which is slow where it is zero.
        logits.copy_(F.softmax(logits, dim=1)).scatter_add_(1, column, logits.new_full((1, 1), -1.0).expand_as(column))
        return losses


class EQL(WeightedNegatives):
    """w_c = 1 - T(f_c) for foreground, 1 for background (EQL, Tan et al., CVPR 2020).

    T(f) = 1 for classes whose share of the images is below `lambda_`; unset, for the rare and common ones, which are
    in at most 100 images.
    """

    name = "eql"
    plain_at = ({"lambda_": 0.0},)
    tail: torch.Tensor

    def __init__(self, activation: Activation, facts: ClassFacts, lambda_: float | None = None) -> None:
        super().__init__(activation, facts)
        if lambda_ is None:
            tail = self._image_counts() <= COMMON_UP_TO
        else:
            self._require(lambda_ >= 0, "lambda_", lambda_, "at least 0")
            tail = self._frequency() < lambda_
        self._constant("tail", tail.astype(np.float64))

    def negative_weights(
        self, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        tail = self.tail.to(logits.dtype)
        of_foreground = 1.0 - tail
        if not self.background:
            return lambda cost, rows: of_foreground
        is_class = (labels < logits.shape[1]).unsqueeze(1)
        of_background = self.background_weights(labels, tail, generator)
        return lambda cost, rows: torch.where(is_class[rows], of_foreground, of_background(cost, rows))

    def background_weights(
        self, labels: torch.Tensor, tail: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        """The weights that negatives of background rows have, given T [C] in the dtype of the logits."""
        ones = torch.ones_like(tail)
        return lambda cost, rows: ones


class BEQL(EQL):
    """EQL, with w_c = 1 - T(f_c) min(-log_b eta(q_c), 1) for background (DropLoss, Hsieh et al., AAAI 2021, eq. 4)."""

    name = "beql"
    held_constant = "negative_weights"

    def __init__(
        self, activation: Activation, facts: ClassFacts, lambda_: float | None = None, base: float = 4.0
    ) -> None:
        super().__init__(activation, facts, lambda_)
        self._require(base > 1, "base", base, "above 1")
        self.base = base

    def background_weights(
        self, labels: torch.Tensor, tail: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        def weights(cost: torch.Tensor, rows: slice) -> torch.Tensor:
            log_eta = torch.log(-torch.expm1(-cost))
            return 1.0 - tail * (log_eta / -math.log(self.base)).clamp(max=1.0)

        return weights


class Drop(EQL):
    """EQL, with negatives of background kept by chance (DropLoss, Hsieh et al., AAAI 2021, equation 7).

    Drawn for each background row and class. With m the share of classes under `lambda_` among the foreground samples
    of the batch, a term of such a class is kept with probability m. The form "code" is that of the public code, which
    all published numbers come from, and keeps all terms of the other classes; "paper" is equation 7, which keeps those
    with probability 1 - m. A batch without foreground has no m, and nothing of it is left out.
    """

    name = "drop"
    random = True
    independent = False

    def __init__(
        self, activation: Activation, facts: ClassFacts, lambda_: float | None = None, form: str = "code"
    ) -> None:
        super().__init__(activation, facts, lambda_)
        self._require(form in ("code", "paper"), "form", form, "code or paper")
        self.form = form
        self.random, self.independent = self.background, not self.background

    def background_weights(
        self, labels: torch.Tensor, tail: torch.Tensor, generator: torch.Generator | None
    ) -> Weights:
        in_tail = torch.cat([tail, tail.new_zeros(1)])[labels]
        num_foreground = (labels < len(tail)).sum()
        share = in_tail.sum() / num_foreground.clamp(min=1)
        of_others = 1.0 - share if self.form == "paper" else torch.ones_like(share)
        kept = torch.where(tail > 0, share, of_others)
        kept = torch.where(num_foreground > 0, kept, torch.ones_like(kept))

        def weights(cost: torch.Tensor, rows: slice) -> torch.Tensor:
            draws = torch.rand(cost.shape, dtype=cost.dtype, device=cost.device, generator=generator)
            return draws.lt_(kept)

        return weights
