"""Drawing some of a batch, with no number but that of tensors: nothing waits for a device."""

from __future__ import annotations

import torch


def drawn(among: torch.Tensor, number: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """A mask [N] of the whole part of `number` of those in the mask `among` [N], without replacement, or of all."""
    keys = torch.rand(len(among), dtype=torch.float64, device=among.device, generator=generator)
    order = keys.masked_fill_(~among, 2.0).argsort()
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return (rank < number.floor()) & among
