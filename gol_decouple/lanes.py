"""Where a tensor of several classifiers begins with each, so that a CPU computes every one as it would alone.

A CPU works on several numbers at a time. What is left over beyond the last of them is computed by other instructions,
which can round differently; so can a matrix product whose operands or result begin between two of them.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

# Numbers that are worked on at a time, or a multiple: two registers of AVX-512.
LANES = 32


def in_lanes(parts: torch.Tensor) -> torch.Tensor:
    """A tensor [K, ...] of which each of the K begins at a multiple of `LANES`: a copy, unless it is so already."""
    if len(parts) < 2 or parts.stride(0) % LANES == 0:
        return parts
    size = parts[0].numel()
    return F.pad(parts.flatten(1), (0, -size % LANES))[:, :size].view(parts.shape)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The products [K, L, N] of K pairs of matrices [K, L, M] and [K, M, N], with each in lanes."""
    size = left.shape[1] * right.shape[2]
    if len(left) < 2 or size % LANES == 0:
        return torch.bmm(left, right)
    memory = left.new_empty(len(left), size + -size % LANES)
    return torch.bmm(left, right, out=memory[:, :size].view(len(left), left.shape[1], right.shape[2]))
