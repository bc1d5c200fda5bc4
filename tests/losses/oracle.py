"""What the tests of losses have in common: activations written out, and values compared with their gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from gol_decouple.losses import Loss

Result = tuple[torch.Tensor, torch.Tensor]

ETA: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": lambda q: 1.0 / (1.0 + torch.exp(-q)),
    "gumbel": lambda q: torch.exp(-torch.exp(-q)),
}
NAMES = list(ETA)


def run(loss: Loss, logits: torch.Tensor, labels: torch.Tensor, seed: torch.Generator | int = 0) -> Result:
    """A loss and the gradient of the logits, with draws from a generator or a seed."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    logits = logits.clone().requires_grad_(True)
    value = loss(logits, labels, generator=generator if loss.random else None)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def weighted_negatives(activation: str, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> Result:
    """Mean over rows of the label's -log eta plus the sum over other classes of w (-log(1 - eta)), w [C] or [N, C]."""
    q = logits.clone().requires_grad_(True)
    eta, num_classes = ETA[activation](q), logits.shape[1]
    y = F.one_hot(labels, num_classes + 1)[:, :num_classes].to(torch.float64)
    value = -(y * torch.log(eta) + (1.0 - y) * weights.detach() * torch.log(1.0 - eta)).sum() / len(labels)
    value.backward()
    assert q.grad is not None
    return value.detach(), q.grad


def check(got: Result, wanted: Result) -> None:
    for part, expected in zip(got, wanted, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-12)
