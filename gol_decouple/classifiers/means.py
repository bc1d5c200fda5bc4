"""Nearest class mean (NCM): a classifier that is not trained, but worked out from all train samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from gol_decouple.classifiers.applied import Classifier, prepared
from gol_decouple.errors import unknown

SPACES = ("raw", "l2", "centred_l2")
# The logit of a class without samples, below every other.
_NO_MEAN = -1e30

# Gives the train samples, all of them once, in batches of features [B, D] and labels [B].
Samples = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]


def nearest_mean(samples: Samples, num_classes: int, feature_size: int, space: str = "centred_l2") -> Classifier:
    """Logits |f|^2 - |f - m_c|^2, m_c being the mean of class c's f (Kang et al., ICLR 2020, section 4).

    They rank as the Euclidean distance does, and are linear in f: 2 m_c f - |m_c|^2. A class without samples is never
    predicted. As in the paper's code, means of features of length 1 keep the length they come to.

    Args:
        space: what f is: "raw", the features x; "l2", x with length 1; "centred_l2", x minus the mean of all train
            samples, with length 1.

    Raises:
        InputError: no such space.
    """
    if space not in SPACES:
        raise unknown("space of ncm", space, SPACES)
    normalise, centre = space != "raw", None
    if space == "centred_l2":
        sums, counts = _sums(samples, num_classes, feature_size)
        centre = (sums.sum(0) / counts.sum()).float()
    sums, counts = _sums(samples, num_classes, feature_size, normalise, centre)
    means = sums / counts.clamp(min=1.0).unsqueeze(1)
    bias = torch.where(counts > 0, -means.square().sum(1), _NO_MEAN)
    return Classifier((2.0 * means).float(), bias.float(), normalise, centre)


def _sums(
    samples: Samples,
    num_classes: int,
    feature_size: int,
    normalise: bool = False,
    centre: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each class, the sum of its f [C, D] and the number of its samples [C]."""
    sums = torch.zeros(num_classes, feature_size, dtype=torch.float64)
    counts = torch.zeros(num_classes, dtype=torch.float64)
    for x, labels in samples():
        sums.index_add_(0, labels.cpu(), prepared(x.cpu(), normalise, centre).double())
        counts += torch.bincount(labels.cpu(), minlength=num_classes)
    return sums, counts
