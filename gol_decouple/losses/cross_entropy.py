"""Cross entropy: softmax, or the sum of one binary cross entropy a class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gol_decouple.activations import Activation, OneVsAll, at_least_float32


class CrossEntropy(nn.Module):
    """-log softmax(q)_y, or -log eta(q_y) - sum over c != y of log(1 - eta(q_c)) (GOL, ECCV 2022, equation 9).

    Summed over classes, then averaged over samples: a mean over both would make every gradient C times smaller.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits [N, C] and labels [N] in 0..C-1 to a scalar."""
        if isinstance(self.activation, OneVsAll):
            loss: torch.Tensor = _OneVsAllCrossEntropy.apply(logits, labels, self.activation)
            return loss
        return F.cross_entropy(at_least_float32(logits), labels)

    def num_columns(self, num_classes: int) -> int:
        """One column a class."""
        return num_classes

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The activation of logits [N, C]."""
        return self.activation.scores(logits)


class _OneVsAllCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass: every class as a negative, then the label's entry of each row as the positive."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, activation: OneVsAll) -> torch.Tensor:
        q = at_least_float32(logits)
        column = labels.unsqueeze(1)
        positive, positive_slope = activation.log_eta(q.gather(1, column))
        value, slope = activation.log_one_minus_eta(q)
        value.scatter_(1, column, positive)
        slope.scatter_(1, column, positive_slope)
        ctx.save_for_backward(slope)
        ctx.dtype = logits.dtype
        return -value.sum() / len(q)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * (-grad / len(slope))).to(ctx.dtype), None, None
