"""Samplers: which train samples an epoch of stage two visits, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gol_decouple.errors import unknown

# (labels [N], generator) -> indices [M] of one epoch.
Sampler = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def random(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every sample once, in random order."""
    return torch.randperm(len(labels), generator=generator)


_SAMPLERS: dict[str, Sampler] = {"random": random}


def get(name: str) -> Sampler:
    """The sampler called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in _SAMPLERS:
        raise unknown("sampler", name, _SAMPLERS)
    return _SAMPLERS[name]
