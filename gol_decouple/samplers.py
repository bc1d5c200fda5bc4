"""Samplers: which train samples an epoch visits, and in which order; and how often images with rare classes come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gol_decouple.errors import unknown

# (labels [N], generator, share of the training that is done) -> indices [M] of one epoch.
Sampler = Callable[[torch.Tensor, torch.Generator, float], torch.Tensor]


def random(labels: torch.Tensor, generator: torch.Generator, share_done: float) -> torch.Tensor:
    """Every sample once, in random order."""
    return torch.randperm(len(labels), generator=generator)


def class_balanced(labels: torch.Tensor, generator: torch.Generator, share_done: float) -> torch.Tensor:
    """As many draws as there are samples, every class equally often (cRT; Kang et al., ICLR 2020, section 4).

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


def square_root(labels: torch.Tensor, generator: torch.Generator, share_done: float) -> torch.Tensor:
    """As many draws as there are samples, of class c with probability n_c^(1/2) / sum of n_j^(1/2).

    Kang et al., ICLR 2020, equation 1 with q = 1/2; then any of the class's samples, with replacement.
    """
    return _by_class(labels, lambda counts: counts.sqrt(), generator)


def progressive(labels: torch.Tensor, generator: torch.Generator, share_done: float) -> torch.Tensor:
    """As many draws as there are samples, of class c with probability (1 - t) n_c / N + t / C.

    Progressively-balanced sampling (Kang et al., ICLR 2020, equation 2), t being the share of the epochs that are done;
    then any of the class's samples, with replacement. Classes without samples do not count.
    """

    def shares(counts: torch.Tensor) -> torch.Tensor:
        present = (counts > 0).double()
        return (1.0 - share_done) * counts / counts.sum() + share_done * present / present.sum()

    return _by_class(labels, shares, generator)


def _by_class(
    labels: torch.Tensor, shares: Callable[[torch.Tensor], torch.Tensor], generator: torch.Generator
) -> torch.Tensor:
    """N draws with replacement: a class by its share, given the counts [C]; then one of its samples."""
    labels = labels.cpu()
    counts = torch.bincount(labels)
    classes = torch.multinomial(shares(counts.double()), len(labels), replacement=True, generator=generator)
    places = (torch.rand(len(labels), dtype=torch.float64, generator=generator) * counts[classes]).long()
    return labels.argsort(stable=True)[counts.cumsum(0)[classes] - counts[classes] + places]


def repeat_factors(
    classes_of_images: Sequence[Sequence[int]], num_classes: int, threshold: float = 1e-3
) -> torch.Tensor:
    """How often an epoch should have each image, [N] of at least 1 (Gupta et al., LVIS, CVPR 2019).

    max over the image's classes c of max(1, sqrt(threshold / f_c)), f_c being the share of images that hold class c.
    """
    held = [sorted(set(classes)) for classes in classes_of_images]
    all_held = torch.tensor([label for one in held for label in one], dtype=torch.int64)
    frequency = torch.bincount(all_held, minlength=num_classes) / len(held)
    of_class = (threshold / frequency).sqrt().clamp(min=1.0)
    return torch.tensor([max((of_class[label].item() for label in one), default=1.0) for one in held])


def repeated(factors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An epoch's images in random order, image i floor(factors[i]) times, and once more by chance of what is left."""
    times = factors.floor() + (torch.rand(len(factors), generator=generator) < factors.frac())
    images = torch.arange(len(factors)).repeat_interleave(times.long())
    return images[torch.randperm(len(images), generator=generator)]


_SAMPLERS: dict[str, Sampler] = {
    "random": random,
    "class_balanced": class_balanced,
    "square_root": square_root,
    "progressive": progressive,
}
# Those whose epochs depend on how long the training is.
CHANGING = frozenset({"progressive"})


def names() -> list[str]:
    """Names of all samplers."""
    return list(_SAMPLERS)


def get(name: str, background: int | None = None) -> Sampler:
    """The sampler called `name`.

    Args:
        background: the label of samples of no class, if there are any: they come once each, in between, and the sampler
            is that of the others. (Random order is one of all.)

    Raises:
        InputError: there is none.
    """
    if name not in _SAMPLERS:
        raise unknown("sampler", name, _SAMPLERS)
    sampler = _SAMPLERS[name]
    return sampler if background is None or name == "random" else _beside(sampler, background)


def _beside(sampler: Sampler, background: int) -> Sampler:
    def sample(labels: torch.Tensor, generator: torch.Generator, share_done: float) -> torch.Tensor:
        foreground = (labels != background).nonzero().squeeze(1)
        drawn = foreground[sampler(labels[foreground], generator, share_done)]
        everything = torch.cat([drawn, (labels == background).nonzero().squeeze(1)])
        return everything[torch.randperm(len(everything), generator=generator)]

    return sample
