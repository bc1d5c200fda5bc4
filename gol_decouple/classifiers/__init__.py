"""Classifiers on cached features: what they start from, what of them is trained, and how they are applied."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from gol_decouple.classifiers.applied import Classifier, as_tensors, fresh, from_tensors, linear, of
from gol_decouple.classifiers.means import SPACES, nearest_mean
from gol_decouple.classifiers.trained import LWS, Cosine, DisAlign, Linear, Trained
from gol_decouple.errors import check_parameters, unknown

__all__ = [
    "SPACES",
    "Classifier",
    "Linear",
    "Trained",
    "as_tensors",
    "fresh",
    "from_tensors",
    "get",
    "linear",
    "names",
    "nearest_mean",
    "of",
]

_TRAINED: dict[str, Callable[..., Trained]] = {
    "linear": Linear,
    "lws": LWS,
    "cosine": Cosine,
    "disalign": DisAlign,
}


def names() -> list[str]:
    """Names of all classifiers that are trained."""
    return list(_TRAINED)


def get(name: str, **params: Any) -> partial[Trained]:
    """What makes K classifiers called `name` of the weight [K, C, D] and bias [K, C] they start from.

    Raises:
        InputError: there is none, or a parameter it does not have.
    """
    if name not in _TRAINED:
        raise unknown("classifier", name, _TRAINED)
    make = _TRAINED[name]
    check_parameters(f"classifier {name!r}", params, list(inspect.signature(make).parameters)[2:])
    return partial(make, **params)
