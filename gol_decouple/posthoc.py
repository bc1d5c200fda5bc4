"""Corrections of a trained classifier's logits, class by class, without any training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple.errors import InputError, check_parameters, unknown

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """Logits q_c to `factor`_c q_c + `shift`_c, each [C]."""

    factor: torch.Tensor
    shift: torch.Tensor

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Corrected logits [N, C or more]; columns after those of the classes, as background, stay as they are."""
        corrected = logits.clone()
        classes = corrected[:, : len(self.factor)]
        classes.mul_(self.factor.to(logits)).add_(self.shift.to(logits))
        return corrected

    def fold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [columns, D] and bias [columns] of the classifier whose logits are the corrected ones."""
        scaled = weight.clone()
        scaled[: len(self.factor)] *= self.factor.to(weight).unsqueeze(1)
        return scaled, self(bias.unsqueeze(0))[0]


# Of counts [C], and lengths of the weights [C] where they are known, the factor and the shift [C] of the logits.


def logit_adjustment(counts: Floats, norms: Floats | None, tau: float = 1.0) -> tuple[Floats, Floats]:
    """q - tau log pi, with pi_c = n_c / n (Menon et al., ICLR 2021, equation 9)."""
    return np.ones_like(counts), -tau * np.log(counts / counts.sum())


def tau_norm(counts: Floats, norms: Floats | None, tau: float = 1.0) -> tuple[Floats, Floats]:
    """q_c / |w_c|^tau (Kang et al., ICLR 2020, section 4), bias and all; their code drops the bias."""
    if norms is None:
        raise InputError("correction 'tau_norm' needs the weight of the classifier")
    with np.errstate(all="ignore"):  # what is not finite is for the caller to see
        return norms**-tau, np.zeros_like(norms)


def norcal(counts: Floats, norms: Floats | None, gamma: float = 0.6) -> tuple[Floats, Floats]:
    """e^q_c / n_c^gamma for the classes, e^q for background, then normalised (NorCal, Pan et al., NeurIPS 2021)."""
    return np.ones_like(counts), -gamma * np.log(counts)


def iif(counts: Floats, norms: Floats | None, variant: str = "raw") -> tuple[Floats, Floats]:
    """q_c times how rarely images hold the class (Inverse Image Frequency, Alexandridis et al., 2022).

    rel and normit are negative for a class that has more than half of the samples.

    Variants, with pi_c = n_c / n: raw log(1 / pi), smooth log((n + 1) / (n_c + 1)) + 1, rel log((1 - pi) / pi), normit
    minus the normal quantile of pi, gombit -log(-log(1 - pi)), base2 and base10 as raw to these bases.
    """
    total, share = counts.sum(), counts / counts.sum()
    variants: dict[str, Callable[[], Floats]] = {
        "raw": lambda: -np.log(share),
        "smooth": lambda: np.log((total + 1.0) / (counts + 1.0)) + 1.0,
        "rel": lambda: np.log((1.0 - share) / share),
        "normit": lambda: np.array([-NormalDist().inv_cdf(value) for value in share]),
        "gombit": lambda: -np.log(-np.log1p(-share)),
        "base2": lambda: -np.log2(share),
        "base10": lambda: -np.log10(share),
    }
    if variant not in variants:
        raise unknown("variant of iif", variant, variants)
    return variants[variant](), np.zeros_like(counts)


_CORRECTIONS: dict[str, Callable[..., tuple[Floats, Floats]]] = {
    function.__name__: function for function in (logit_adjustment, tau_norm, norcal, iif)
}


def names() -> list[str]:
    """Names of all corrections."""
    return list(_CORRECTIONS)


def get(name: str, *, class_counts: NDArray[np.int64], weight: torch.Tensor | None = None, **params: Any) -> Correction:
    """The correction called `name`.

    Args:
        class_counts: train samples of each class, [C]; a class without any counts as if it had one.
        weight: of the classifier that gives the logits, [C or more, D], for tau_norm.

    Raises:
        InputError: no such correction, or a parameter it does not have.
    """
    if name not in _CORRECTIONS:
        raise unknown("correction", name, _CORRECTIONS)
    function = _CORRECTIONS[name]
    check_parameters(f"correction {name!r}", params, list(inspect.signature(function).parameters)[2:])
    counts = np.maximum(np.asarray(class_counts, np.float64), 1.0)
    norms = None if weight is None else weight[: len(counts)].double().norm(dim=1).cpu().numpy()
    factor, shift = function(counts, norms, **params)
    return Correction(torch.from_numpy(factor), torch.from_numpy(shift))
