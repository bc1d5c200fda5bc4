"""Cross entropy: softmax, or the sum of one binary cross entropy a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gol_decouple.activations import Activation, OneVsAll, at_least_float32

# Logits that are worked on at a time: their intermediate values stay in a core's cache, and small enough for the
# allocator to use the same memory again, where larger ones come back from the system page by page.
AT_ONCE = 131072


class CrossEntropy(nn.Module):
    """-log softmax(q)_y, or -log eta(q_y) - sum over c != y of log(1 - eta(q_c)) (GOL, ECCV 2022, equation 9).

    Summed over classes, then averaged over samples: a mean over both would make every gradient C times smaller.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits [N, C] and labels [N] in 0..C-1 to a scalar."""
        loss: torch.Tensor = _ClosedForm.apply(logits, labels, self)
        return loss

    def per_sample_(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Each sample's loss [N] from logits [N, C] in float32 or better, which its gradient replaces, in one pass."""
        column = labels.unsqueeze(1)
        if isinstance(self.activation, OneVsAll):
            return _one_vs_all_(self.activation, logits, column)
        log_prob = F.log_softmax(logits, dim=1)
        losses = -log_prob.gather(1, column).squeeze(1)
        torch.exp(log_prob, out=logits).scatter_add_(1, column, logits.new_full((1, 1), -1.0).expand_as(column))
        return losses

    def num_columns(self, num_classes: int) -> int:
        """One column a class."""
        return num_classes

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The activation of logits [N, C]."""
        return self.activation.scores(logits)


def _one_vs_all_(activation: OneVsAll, logits: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Every class as a negative; then the label's entry of each row as the positive."""
    positive, slope = activation.log_eta(logits.gather(1, column))
    losses = []
    rows = max(1, AT_ONCE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = (torch.split(whole, rows) for whole in (logits, column, positive.neg_()))
    for part, at, of_label in zip(*parts, strict=True):
        losses.append(activation.negative_cost_(part).scatter_(1, at, of_label).sum(1))
    logits.scatter_(1, column, slope.neg_())
    return torch.cat(losses)


class _ClosedForm(torch.autograd.Function):
    """The mean of `per_sample_`, with the gradient that came with it."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, loss: CrossEntropy) -> torch.Tensor:
        gradient = at_least_float32(logits).clone()
        losses = loss.per_sample_(gradient, labels)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * (grad / len(gradient))).to(ctx.dtype), None, None
