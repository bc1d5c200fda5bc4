"""Losses by name. Each is a module from logits [N, columns] and labels [N] to the mean loss over the samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple import activations
from gol_decouple.activations import Activation
from gol_decouple.errors import InputError, unknown
from gol_decouple.losses.cross_entropy import CrossEntropy


class Loss(Protocol):
    """What the classifier engine and evaluation know of a loss."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over samples, a scalar in float32 or better, of logits [N, columns] and labels [N]."""

    def per_sample_(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Each sample's loss [N] from logits [N, columns] in float32 or better, which its gradient replaces."""

    def num_columns(self, num_classes: int) -> int:
        """How many logits a sample has when there are `num_classes` classes."""

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores [N, C] from logits [N, columns]."""


_LOSSES: dict[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
}


def names() -> list[str]:
    """Names of all losses."""
    return list(_LOSSES)


def get(
    name: str,
    *,
    activation: str | Activation,
    class_counts: NDArray[np.int64] | None = None,  # noqa: ARG001
    image_frequency: NDArray[np.float64] | None = None,  # noqa: ARG001
    **params: Any,
) -> Loss:
    """The loss called `name` on an activation.

    Args:
        activation: a name, or an activation from `activations.get`.
        class_counts: train samples of each class, [C], for losses that need them.
        image_frequency: share of the images that hold each class, [C], for losses that need it.

    Raises:
        InputError: no such loss or activation, or a parameter the loss does not have.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    if isinstance(activation, str):
        activation = activations.get(activation)
    make = _LOSSES[name]
    takes = [param for param in inspect.signature(make).parameters if param != "activation"]
    for param in params:
        if param not in takes:
            raise InputError(f"loss {name!r} has no parameter {param!r}", f"it takes: {takes or 'none'}")
    return make(activation, **params)
