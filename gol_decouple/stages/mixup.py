"""Mixup: training on pairs of images laid over each other (Zhang et al., mixup, ICLR 2018)."""

from __future__ import annotations

import numpy as np
import torch


def mix(images: torch.Tensor, alpha: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A batch [N, ...] mixed with itself in another order (equation 1 of the paper, one share a batch as in its code).

    Returns:
        share * images + (1 - share) * images[others]; `others` [N], on the images' device; and `share`, drawn from
        Beta(alpha, alpha). The loss is mixed likewise: share of it for the label, 1 - share for that of the other.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    others = torch.randperm(len(images), generator=generator).to(images.device)
    return torch.lerp(images[others], images, share), others, share
