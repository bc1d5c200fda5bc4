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


def class_balanced(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As many draws as there are samples, every class equally often (cRT; Kang et al., ICLR 2020, section 4.1).

    As in cRT's ClassAwareSampler, the classes take turns in random order, and a class goes through all its samples in
    random order before any of them comes again.
    """
    labels = labels.cpu()
    counts_of_all = torch.bincount(labels)
    classes = counts_of_all.nonzero().squeeze(1)
    counts = counts_of_all[classes]
    turns = -(-len(labels) // len(classes))
    order = torch.cat([torch.randperm(len(classes), generator=generator) for _ in range(turns)])[: len(labels)]
    drawn = torch.empty_like(order)
    for position, (label, count) in enumerate(zip(classes.tolist(), counts.tolist(), strict=True)):
        places = (order == position).nonzero().squeeze(1)
        members = (labels == label).nonzero().squeeze(1)
        rounds = -(-len(places) // count)
        cycles = [torch.randperm(count, generator=generator) for _ in range(rounds)]
        drawn[places] = members[torch.cat(cycles)[: len(places)]]
    return drawn


_SAMPLERS: dict[str, Sampler] = {"random": random, "class_balanced": class_balanced}


def names() -> list[str]:
    """Names of all samplers."""
    return list(_SAMPLERS)


def get(name: str) -> Sampler:
    """The sampler called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in _SAMPLERS:
        raise unknown("sampler", name, _SAMPLERS)
    return _SAMPLERS[name]
