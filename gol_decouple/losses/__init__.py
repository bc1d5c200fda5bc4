"""Losses by name. Each is a module from logits [N, columns] and labels [N] to the mean loss over the samples."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import activations
from gol_decouple.activations import Activation
from gol_decouple.errors import InputError, check_parameters, unknown
from gol_decouple.losses.acsl import ACSL
from gol_decouple.losses.bags import BAGS
from gol_decouple.losses.cross_entropy import CrossEntropy
from gol_decouple.losses.eqlv2 import EQLv2
from gol_decouple.losses.equalization import BEQL, EQL, Drop, SoftmaxEQL
from gol_decouple.losses.federated import Federated
from gol_decouple.losses.focal import Focal
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.margin import LDAM
from gol_decouple.losses.prior_shift import Balanced, LogitAdjusted
from gol_decouple.losses.seesaw import Seesaw
from gol_decouple.losses.smoothing import LabelAwareSmoothing
from gol_decouple.losses.weighted import ClassBalanced, InverseFrequency

__all__ = ["ClassFacts", "Loss", "background_pairs", "get", "names", "pairs"]

_LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        *(CrossEntropy, Focal, ClassBalanced, InverseFrequency),
        *(Balanced, LogitAdjusted, LDAM, LabelAwareSmoothing, SoftmaxEQL, Seesaw, BAGS),
        *(EQL, BEQL, Drop, Federated, EQLv2, ACSL),
    )
}


def names() -> list[str]:
    """Names of all losses."""
    return list(_LOSSES)


def pairs() -> list[tuple[str, str]]:
    """All (activation, loss) that go together, by name."""
    return [(activation, name) for name, loss in _LOSSES.items() for activation in loss.activations]


def background_pairs() -> list[tuple[str, str]]:
    """Those of `pairs` that take background samples."""
    return [(activation, name) for name, loss in _LOSSES.items() for activation in loss.with_background]


def get(
    name: str,
    *,
    activation: str | Activation,
    class_counts: NDArray[np.int64] | None = None,
    image_frequency: NDArray[np.float64] | None = None,
    num_images: int | None = None,
    background: bool = False,
    **params: Any,
) -> Loss:
    """The loss called `name` on an activation.

    Args:
        activation: a name, or an activation from `activations.get`.
        class_counts: train samples of each class, [C], for losses that need them.
        image_frequency: share of the train images that hold each class, [C]; None: each sample is an image.
        num_images: how many train images that is a share of, for losses that tell rare, common and frequent classes.
        background: whether there are samples of no class, with label C.

    Raises:
        InputError: no such loss or activation, a pair that does not go together, a parameter the loss does not have or
            a value out of its range, or counts that are missing.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    if isinstance(activation, str):
        activation = activations.get(activation)
    make = _LOSSES[name]
    if activation.name not in make.activations:
        others = ", ".join(loss for on, loss in pairs() if on == activation.name)
        raise InputError(
            f"loss {name!r} does not go with activation {activation.name!r}",
            f"{name} goes with {', '.join(make.activations)}; {activation.name} with {others}",
        )
    takes = list(inspect.signature(make).parameters)[2:]
    check_parameters(f"loss {name!r}", params, takes)
    for param, value in params.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"loss {name!r}: {param} = {value!r}: must be a finite number")
    return make(activation, ClassFacts(class_counts, image_frequency, num_images, background), **params)
