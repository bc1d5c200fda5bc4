"""Activations and the gradients of their losses as functions of a logit (GOL, ECCV 2022, Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gol_decouple import activations
from gol_decouple.activations import OneVsAll
from gol_decouple.analyses.object_grid import Floats
from gol_decouple.analyses.outputs import Outputs

LOWEST, HIGHEST, STEPS = -6.0, 6.0, 241
# Softmax's score of a class depends on all logits: this is of two classes, the other one's logit being 0.
SOFTMAX = "softmax_of_two"
COLUMNS = ("activation", "q", "eta", "gradient_positive", "gradient_negative")


@dataclass(frozen=True, eq=False)
class Curve:
    """One activation, as training computes it.

    Attributes:
        q: logits, [N].
        eta: scores, [N].
        positive, negative: dL/dq of the cross entropy, for y = 1 and y = 0, [N].
    """

    name: str
    q: Floats
    eta: Floats
    positive: Floats
    negative: Floats


def curves(lowest: float = LOWEST, highest: float = HIGHEST, steps: int = STEPS) -> list[Curve]:
    """Of every one-vs-all activation, by the closed forms of its losses, and of Softmax with two classes."""
    q = torch.from_numpy(np.linspace(lowest, highest, steps).round(12))  # so that 0 is among them
    found = []
    for name in activations.ONE_VS_ALL:
        activation = activations.get(name)
        assert isinstance(activation, OneVsAll)
        _, positive = activation.positive_cost(q.clone())
        _, rising = activation.log_one_minus_eta(q.clone())
        found.append(_curve(name, q, activation.scores(q), positive, -rising))
    pair = torch.stack([q, torch.zeros_like(q)], dim=1)
    scores = activations.get("softmax").scores(pair)[:, 0]
    return [*found, _curve(SOFTMAX, q, scores, scores - 1.0, scores)]


def write_curves(outputs: Outputs, found: list[Curve]) -> None:
    """`curves.csv`."""
    rows = (
        (curve.name, *map(float, values))
        for curve in found
        for values in zip(curve.q, curve.eta, curve.positive, curve.negative, strict=True)
    )
    outputs.csv("curves.csv", COLUMNS, rows)


def _curve(name: str, *tensors: torch.Tensor) -> Curve:
    q, eta, positive, negative = (np.asarray(tensor, np.float64) for tensor in tensors)
    return Curve(name, q, eta, positive, negative)
