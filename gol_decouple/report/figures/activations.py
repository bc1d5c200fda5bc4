"""Activations and the gradients of their losses as functions of a logit (GOL, ECCV 2022, Figure 3), in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.style import COLOURS, PANEL, legend_below, logarithmic, new_figure, settled, style
from gol_decouple.report.rows import Row

Floats = NDArray[np.float64]

LOWEST, HIGHEST, STEPS = -6.0, 6.0, 241
COLUMNS = ("activation", "q", "eta", "gradient_positive", "gradient_negative")
_Q_MIN = -4.0  # below it, log eta of Gumbel continues as its tangent
_STYLES: dict[str, Any] = {"softmax": ":", "sigmoid": "-.", "gumbel": "-", "gumbel_published": "--"}
_SHOWN = (1e-3, 2e2)  # of the gradients of positives


@dataclass(frozen=True, eq=False)
class Values:
    """Of one activation at logits q, [N].

    Attributes:
        eta: scores.
        positive, negative: dL/dq of the cross entropy, for y = 1 and y = 0.
    """

    eta: Floats
    positive: Floats
    negative: Floats


def sigmoid(q: Floats) -> Values:
    """eta = 1 / (1 + e^-q); also softmax of two classes, the other one's logit being 0."""
    eta = 1.0 / (1.0 + np.exp(-q))
    return Values(eta, eta - 1.0, eta)


def gumbel(q: Floats) -> Values:
    """eta = exp(-u) with u = e^-q: slopes -u, u not above e^4, and u / (e^u - 1)."""
    u = np.exp(-q)
    return Values(np.exp(-u), -np.exp(-np.maximum(q, _Q_MIN)), u / np.expm1(np.minimum(u, 88.0)))


def gumbel_published(q: Floats) -> Values:
    """The formula of GOL's public code: q clamped to [-4, 10], and no gradient where the clamp acts."""
    inside = np.clip(q, -4.0, 10.0)
    eta = np.exp(-np.exp(-inside))
    slope = eta * np.exp(-inside) * (inside == q) / np.maximum(eta * (1.0 - eta), 1e-12)
    return Values(np.exp(-np.exp(-q)), -slope * (1.0 - eta), slope * eta)


ACTIVATIONS: dict[str, Callable[[Floats], Values]] = {
    "sigmoid": sigmoid,
    "gumbel": gumbel,
    "gumbel_published": gumbel_published,
    "softmax": sigmoid,
}


def activation_curves(found: Sequence[Row]) -> Drawn | None:
    """Three panels: eta, and how large the gradient is for positives (on a logarithmic axis) and for negatives."""
    used = {row["activation"] for row in found}
    names = [name for name in ACTIVATIONS if name in used]
    if not names:
        return None
    q = np.linspace(LOWEST, HIGHEST, STEPS).round(12)  # so that 0 is among them
    values = {name: ACTIVATIONS[name](q) for name in names}
    with style():
        figure = new_figure(3 * PANEL, PANEL + 0.5)
        panels = figure.subplots(1, 3)
        for name, of_name in values.items():
            colour = COLOURS[list(ACTIVATIONS).index(name)]
            label = "softmax, two classes" if name == "softmax" else name
            sizes = np.abs(of_name.positive)
            for axes, each in zip(
                panels, (of_name.eta, np.where(sizes > 0, sizes, np.nan), of_name.negative), strict=True
            ):
                axes.plot(q, each, color=colour, linestyle=_STYLES[name], label=label)
        logarithmic(panels[1])
        panels[1].set_ylim(*_SHOWN)
        for axes, label in zip(panels, ("score η(q)", "|dL/dq| where y = 1", "dL/dq where y = 0"), strict=True):
            axes.set_xlabel("logit q")
            axes.set_ylabel(label)
            axes.set_xlim(LOWEST, HIGHEST)
        legend_below(figure, panels[0], columns=4)
        settled(figure)
    at = int(np.flatnonzero(q == -2.0)[0])
    return Drawn(
        "activations",
        "Activations and their gradients",
        "The score of a logit q, and the gradient of the cross entropy for the class of a sample (y = 1, logarithmic) "
        "and for the others (y = 0), in closed form. With Gumbel, rare classes' low logits get the largest gradients.",
        "Scores and gradients against the logit. At q = -2, the score and the gradients for y = 1 and y = 0: "
        + "; ".join(
            f"{name} {one.eta[at]:.3g}, {one.positive[at]:.3g} and {one.negative[at]:.3g}"
            for name, one in values.items()
        )
        + ".",
        figure,
        COLUMNS,
        [
            (name, *point)
            for name, one in values.items()
            for point in zip(*(each.tolist() for each in (q, one.eta, one.positive, one.negative)), strict=True)
        ],
    )
