"""Activations: what turns a classifier's logits q into scores, and the logarithms that every loss is made of.

A one-vs-all activation eta scores each class on its own; it is written once, in log space, as two functions that give a
value together with its derivative in closed form. Losses and scores both derive from them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from gol_decouple.errors import InputError, check_parameters, unknown

# q -> (f(q), f'(q)), elementwise, in the dtype of q.
ValueAndSlope = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# As tensors, since PyTorch makes one of every number each time it meets it.
_MINUS_LOG_2, _ONE, _HALF = (torch.tensor(number, dtype=torch.float64) for number in (-math.log(2.0), 1.0, 0.5))
Q_MIN = -4.0
LOWEST_Q_MIN = -80.0  # exp(80) is a float32


@dataclass(frozen=True)
class Softmax:
    """Scores that compete: softmax over the classes. All methods take logits [N, C]."""

    name: str = "softmax"
    one_vs_all: bool = False

    def log_prob(self, q: torch.Tensor) -> torch.Tensor:
        """log softmax(q), [N, C]."""
        return F.log_softmax(at_least_float32(q), dim=-1)

    def log_scores(self, q: torch.Tensor) -> torch.Tensor:
        """The logarithm of the scores, [N, C]."""
        return self.log_prob(q)

    def scores(self, q: torch.Tensor) -> torch.Tensor:
        """softmax(q), [N, C]; each row sums to one."""
        return F.softmax(at_least_float32(q), dim=-1)

    def prior_bias(self, num_classes: int) -> float:
        """The bias of a fresh classifier: 0, at which every class scores 1/C."""
        _check_classes(num_classes)
        return 0.0


@dataclass(frozen=True)
class OneVsAll:
    """Scores that do not compete: eta(q) of each class on its own. All methods take logits [N, C].

    Attributes:
        log_eta: log eta(q) and its derivative.
        log_one_minus_eta: log(1 - eta(q)) and its derivative.
        log_odds: log eta(q) - log(1 - eta(q)) and its derivative, without the tangent that continues log eta.
        eta: the scores.
        log_of_eta: their logarithm, as they are and not as training continues it.
        link: eta's inverse, from a probability in (0, 1) to a logit.
        negative_cost_: -log(1 - eta(q)), while its derivative replaces q, for sums over many classes: as exact as
            their dtype is beside 1 (`log_one_minus_eta` keeps all digits of the smallest values), and fast.
    """

    name: str
    log_eta: ValueAndSlope
    log_one_minus_eta: ValueAndSlope
    log_odds: ValueAndSlope
    eta: Callable[[torch.Tensor], torch.Tensor]
    log_of_eta: Callable[[torch.Tensor], torch.Tensor]
    link: Callable[[float], float]
    negative_cost_: Callable[[torch.Tensor], torch.Tensor]
    one_vs_all: bool = True

    def log_prob(self, q: torch.Tensor) -> torch.Tensor:
        """log eta(q), [N, C]."""
        return _apply(q, self.log_eta)

    def log_complement(self, q: torch.Tensor) -> torch.Tensor:
        """log(1 - eta(q)), [N, C]."""
        return _apply(q, self.log_one_minus_eta)

    def positive_cost(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """-log eta(q) and its derivative, in the dtype of q."""
        value, slope = self.log_eta(q)
        return value.neg_(), slope.neg_()

    def log_scores(self, q: torch.Tensor) -> torch.Tensor:
        """The logarithm of the scores, [N, C], where these underflow too."""
        return self.log_of_eta(at_least_float32(q))

    def scores(self, q: torch.Tensor) -> torch.Tensor:
        """eta(q), [N, C]; a row does not sum to one. Predict by the largest logit: scores underflow, logits do not."""
        return self.eta(at_least_float32(q))

    def prior_bias(self, num_classes: int) -> float:
        """The bias b of a fresh classifier: eta(b) = 1/C, the share of positives under a uniform prior."""
        _check_classes(num_classes)
        return self.link(1.0 / num_classes)


Activation = Softmax | OneVsAll


def at_least_float32(q: torch.Tensor) -> torch.Tensor:
    """`q`, with half precision raised to float32: exp and log of half-precision logits lose everything."""
    return q.float() if q.dtype in (torch.float16, torch.bfloat16) else q


# Gumbel: eta(q) = exp(-exp(-q)), the CDF of the standard Gumbel (GOL, ECCV 2022, equation 6). u = exp(-q) throughout.


def _gumbel_log_eta(q: torch.Tensor, q_min: float) -> tuple[torch.Tensor, torch.Tensor]:
    """log eta = -u, continued below `q_min` by its tangent: the slope u is unbounded, exp(-q_min) is not."""
    slope = torch.exp(-q.clamp(min=q_min))
    below = (q - q_min).clamp(max=0.0)
    return slope * (below - 1.0), slope


def _gumbel_log_complement(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log(1 - eta) = -log(1 + r), with slope -u r, where r = eta / (1 - eta) = 1 / (e^u - 1) loses no digits.

    It is below -q everywhere, and -q to all digits where the bound on u would make it wrong.
    """
    u = torch.exp(-q).clamp_(1e-30, 88.0)
    odds = torch.expm1(u).reciprocal_()
    return torch.minimum(-torch.log1p(odds), -q), -u * odds


def _gumbel_negative_cost_(q: torch.Tensor) -> torch.Tensor:
    """-log(1 - eta) = log((1 + r) / 2), with slope (r - 1) u/2, where r = 1 / tanh(u/2) is cheaper than expm1."""
    half = torch.sub(_MINUS_LOG_2, q).exp_().clamp_(1e-30, 44.0)
    r = torch.tanh(half).reciprocal_()
    cost = torch.add(r, _ONE).mul_(_HALF).log_()
    torch.maximum(cost, q, out=cost)
    torch.mul(half, r, out=q).sub_(half)
    return cost


def _gumbel_log_odds(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-log(e^u - 1), with slope u + u / (e^u - 1); it is q itself, to all digits, where u would underflow."""
    u = torch.exp(-q.clamp(max=80.0)).clamp_(max=88.0)
    against = torch.expm1(u)
    slope = u.div(against).add_(u)
    return against.log_().neg_().add_((q - 80.0).clamp_(min=0.0)), slope


def _gumbel_eta(q: torch.Tensor) -> torch.Tensor:
    return torch.exp(-torch.exp(-q))


def _gumbel_log_of_eta(q: torch.Tensor) -> torch.Tensor:
    return -torch.exp(-q.clamp(min=LOWEST_Q_MIN))


def _gumbel_link(eta: float) -> float:
    return -math.log(-math.log(eta))


# The published Gumbel (GOL's gumbel_ce.py): q clamped to [-4, 10], eta by two exponentials, then PyTorch's binary cross
# entropy, whose logarithm is cut at -100 and whose gradient divides by max(eta (1 - eta), 1e-12). For a positive, that
# leaves next to no gradient below q = -3.32 and none below -4. GOL also cuts the reduced loss at 20; that is left out.


def _published_parts(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """eta, and d eta / dq over the denominator of PyTorch's gradient; zero where the clamp acts."""
    clamped = q.clamp(-4.0, 10.0)
    eta = 1.0 / torch.exp(torch.exp(-clamped))  # as written there: its rounding decides where 1 - eta vanishes
    slope = eta * torch.exp(-clamped) * (clamped == q)
    return eta, slope / (eta * (1.0 - eta)).clamp(min=1e-12)


def _published_log_eta(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    eta, slope = _published_parts(q)
    return eta.log().clamp(min=-100.0), slope * (1.0 - eta)


def _published_log_complement(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    eta, slope = _published_parts(q)
    return torch.log1p(-eta).clamp(min=-100.0), -slope * eta


def _published_log_odds(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (for_, rising), (against, falling) = _published_log_eta(q), _published_log_complement(q)
    return for_.sub_(against), rising.sub_(falling)


def _published_negative_cost_(q: torch.Tensor) -> torch.Tensor:
    value, slope = _published_log_complement(q)
    torch.neg(slope, out=q)
    return value.neg_()


def _sigmoid_log_eta(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return F.logsigmoid(q), torch.sigmoid(-q)


def _sigmoid_log_complement(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return F.logsigmoid(-q), -torch.sigmoid(q)


def _sigmoid_negative_cost_(q: torch.Tensor) -> torch.Tensor:
    cost = F.softplus(q, threshold=40.0)
    q.sigmoid_()
    return cost


def _sigmoid_link(eta: float) -> float:
    return math.log(eta) - math.log1p(-eta)


def _make_gumbel(q_min: float = Q_MIN) -> Activation:
    if not LOWEST_Q_MIN <= q_min < 0:
        raise InputError(f"q_min = {q_min}: must be at least {LOWEST_Q_MIN} and below 0")
    log_eta = partial(_gumbel_log_eta, q_min=q_min)
    return OneVsAll(
        "gumbel",
        log_eta,
        _gumbel_log_complement,
        _gumbel_log_odds,
        _gumbel_eta,
        _gumbel_log_of_eta,
        _gumbel_link,
        _gumbel_negative_cost_,
    )


def _make_published() -> Activation:
    return OneVsAll(
        "gumbel_published",
        _published_log_eta,
        _published_log_complement,
        _published_log_odds,
        _gumbel_eta,
        _gumbel_log_of_eta,
        _gumbel_link,
        _published_negative_cost_,
    )


def _make_sigmoid() -> Activation:
    return OneVsAll(
        "sigmoid",
        _sigmoid_log_eta,
        _sigmoid_log_complement,
        lambda q: (q.clone(), torch.ones_like(q)),
        torch.sigmoid,
        F.logsigmoid,
        _sigmoid_link,
        _sigmoid_negative_cost_,
    )


_ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "softmax": Softmax,
    "sigmoid": _make_sigmoid,
    "gumbel": _make_gumbel,
    "gumbel_published": _make_published,
}


ONE_VS_ALL = tuple(name for name, make in _ACTIVATIONS.items() if make is not Softmax)


def names() -> list[str]:
    """Names of all activations."""
    return list(_ACTIVATIONS)


def get(name: str, **params: Any) -> Activation:
    """The activation called `name`.

    Args:
        params: of "gumbel": `q_min` (default -4), below which log eta continues as its tangent.

    Raises:
        InputError: no such activation, or a parameter it does not have.
    """
    if name not in _ACTIVATIONS:
        raise unknown("activation", name, _ACTIVATIONS)
    make = _ACTIVATIONS[name]
    takes = [] if make is Softmax else list(inspect.signature(make).parameters)
    check_parameters(f"activation {name!r}", params, takes)
    return make(**params)


class _Pointwise(torch.autograd.Function):
    """A function whose slope is known in closed form, so that autograd never differentiates through `where`."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, function: ValueAndSlope) -> torch.Tensor:
        value, slope = function(at_least_float32(q))
        ctx.save_for_backward(slope)
        ctx.dtype = q.dtype
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).to(ctx.dtype), None


def _apply(q: torch.Tensor, function: ValueAndSlope) -> torch.Tensor:
    result: torch.Tensor = _Pointwise.apply(q, function)
    return result


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise InputError(f"a classifier needs at least 2 classes, not {num_classes}")
