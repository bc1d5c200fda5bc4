"""Seesaw loss: small classes are punished less as negatives of large ones, but for mistakes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from gol_decouple.activations import Activation
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.terms import softmax_


class Seesaw(Loss):
    """-log(e^z_y / (e^z_y + sum of S_yj e^z_j)), S = M C (Wang et al., CVPR 2021).

    M_ij = (N_j / N_i)^p where class j has had fewer samples than i until now, this batch included; C_ij = (s_j / s_i)^q
    where softmax scores j above the label i, of which at least `eps` is counted. No gradient passes through S. With
    background there are two further columns, a softmax of foreground and background over all samples; the classes learn
    from foreground, and scores are their softmax times that of foreground.
    """

    name = "seesaw"
    activations = ("softmax",)
    with_background = activations
    independent = False
    held_constant = "log_factors"
    plain_at = ({"p": 0.0, "q": 0.0},)
    samples: torch.Tensor

    def __init__(
        self, activation: Activation, facts: ClassFacts, p: float = 0.8, q: float = 2.0, eps: float = 0.01
    ) -> None:
        super().__init__(activation, facts)
        self._require(p >= 0, "p", p, "at least 0")
        self._require(q >= 0, "q", q, "at least 0")
        self._require(0 < eps <= 1, "eps", eps, "above 0, and at most 1")
        self.p, self.q, self.eps = p, q, eps
        self.extra_columns = 2 * int(self.background)
        self.register_buffer("samples", torch.zeros(len(self._given_counts()), dtype=torch.float64))

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        if not self.background:
            return self._of_classes_(logits, labels, None)
        num_classes = logits.shape[1] - self.extra_columns
        is_class = labels < num_classes
        classes, objectness = logits[:, :num_classes].clone(), logits[:, num_classes:].clone()
        losses = self._of_classes_(classes, labels.clamp(max=num_classes - 1), is_class.to(logits.dtype))
        losses += softmax_(objectness, (~is_class).to(labels.dtype))
        torch.cat([classes, objectness], dim=1, out=logits)
        return losses

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        return self.log_scores(logits).exp()

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        log_scores = self.activation.log_scores(self._of_classes(logits))
        return log_scores + self.activation.log_scores(logits[:, -2:])[:, :1] if self.background else log_scores

    def _of_classes_(self, logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
        """The loss [N] over the classes; zero for samples that are not `counted` [N], 1 or 0."""
        if self.training:
            ones = torch.ones_like(labels, dtype=self.samples.dtype)
            self.samples.scatter_add_(0, labels, ones if counted is None else counted.to(ones.dtype))
        losses = softmax_(logits.add_(self.log_factors(logits, labels.unsqueeze(1))), labels)
        if counted is not None:
            losses.mul_(counted)
            logits.mul_(counted.unsqueeze(1))
        return losses

    def log_factors(self, logits: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """log S [N, C], from the classes' logits [N, C] and the labels [N, 1].

        At the label itself both factors are 1: its score is not above what is counted of it.
        """
        log_count = self.samples.clamp(min=1.0).log().to(logits.dtype)
        log_scores = F.log_softmax(logits, dim=1)
        of_label = log_scores.gather(1, column).clamp_(min=math.log(self.eps))
        compensation = log_scores.sub_(of_label).clamp_(min=0.0).mul_(self.q)
        return compensation.add_((log_count - log_count[column]).clamp_(max=0.0).mul_(self.p))
