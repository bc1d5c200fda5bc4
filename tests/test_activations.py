"""Activations against the papers' equations in high precision (mpmath, 60 digits)."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import activations
from gol_decouple.errors import InputError

mpmath.mp.dps = 60
Q_MIN = activations.Q_MIN
ONE_VS_ALL = [name for name in activations.names() if activations.get(name).one_vs_all]


def exact(q: float, positive: bool) -> tuple[float, float]:
    """GOL's equation 9 for one logit: the loss -log eta or -log(1 - eta), and its derivative in q."""
    u = mpmath.exp(-mpmath.mpf(q))
    if positive:
        return float(u), float(-u)
    return float(-mpmath.log(-mpmath.expm1(-u))), float(u / mpmath.expm1(u))


def loss_and_gradient(q: torch.Tensor, positive: bool, name: str = "gumbel") -> tuple[np.ndarray, np.ndarray]:
    q = q.clone().requires_grad_(True)
    activation = activations.get(name)
    loss = -(activation.log_prob(q) if positive else activation.log_complement(q))
    loss.sum().backward()
    return loss.detach().double().numpy(), q.grad.double().numpy()


def relative_error(q: torch.Tensor, positive: bool) -> float:
    """The largest relative error of loss and gradient over the logits q."""
    measured = np.stack(loss_and_gradient(q, positive))
    wanted = np.array([exact(float(value), positive) for value in q]).T
    return float(np.max(np.abs(measured / wanted - 1.0)))


def test_gumbel_positive_in_float32() -> None:
    assert relative_error(torch.linspace(Q_MIN, 20.0, 4801), positive=True) < 1e-6


def test_gumbel_negative_in_float32() -> None:
    assert relative_error(torch.linspace(-2.0, 30.0, 6401), positive=False) < 1e-6
    assert relative_error(torch.linspace(-4.0, -2.0, 4001), positive=False) < 1e-5


def test_gumbel_negative_far_below_is_zero_to_23_digits() -> None:
    q = torch.linspace(-4.0001, -200.0, 2000)
    wanted = np.array([exact(float(value), positive=False) for value in q]).T
    assert np.max(np.abs(np.stack(loss_and_gradient(q, positive=False)) - wanted)) < 1e-23


@pytest.mark.parametrize("positive", [True, False])
def test_gumbel_in_float64(positive: bool) -> None:
    q = torch.linspace(-3.9 if positive else -3.0, 30.0, 3001, dtype=torch.float64)
    assert relative_error(q, positive) < 1e-13


def test_gumbel_negative_keeps_its_digits_at_the_seams_of_its_forms() -> None:
    """u = log 2 and q = 15 were seams once; u is bounded above q = 69, where the value is -q."""
    seams = [-math.log(math.log(2.0)), 15.0, 30.0 * math.log(10.0)]
    near = [seam + step for seam in seams for step in np.linspace(-1e-4, 1e-4, 101)]
    assert relative_error(torch.tensor(near), positive=False) < 1e-6


def test_gumbel_positive_continues_below_q_min_as_its_tangent() -> None:
    activation = activations.get("gumbel", q_min=-3.0)
    q = torch.tensor([-3.0, -3.5, -10.0, -1e4], dtype=torch.float64, requires_grad=True)
    value = activation.log_prob(q)
    value.sum().backward()
    slope = math.exp(3.0)
    np.testing.assert_allclose(value.detach(), [-slope + slope * (x + 3.0) for x in q.tolist()], rtol=1e-14)
    np.testing.assert_allclose(q.grad, [slope] * 4, rtol=1e-14)


# The negatives' cost as sums take it: -log(1 - eta), and its derivative in the place of q.


def exact_negative_cost(name: str, q: float) -> tuple[float, float]:
    """-log(1 - eta(q)) and its derivative by the definition of each activation."""
    x = mpmath.mpf(q)
    if name == "sigmoid":
        return float(mpmath.log1p(mpmath.exp(x))), float(1 / (1 + mpmath.exp(-x)))
    if name == "gumbel":
        return exact(q, positive=False) if q > -20.0 else (0.0, 0.0)  # there below exp(-1e8)
    clamped = min(max(x, mpmath.mpf(-4)), mpmath.mpf(10))
    u = mpmath.exp(-clamped)
    eta = mpmath.exp(-u)
    slope = u * eta**2 / max(eta * (1 - eta), mpmath.mpf("1e-12")) if clamped == x else mpmath.mpf(0)
    return float(min(-mpmath.log(-mpmath.expm1(-u)), 100)), float(slope)


def negative_cost(name: str, q: torch.Tensor) -> np.ndarray:
    """Cost and slope, [2, N]."""
    slope = q.clone()
    cost = activations.get(name).negative_cost_(slope)
    assert cost.data_ptr() != slope.data_ptr()
    assert cost.dtype is slope.dtype is q.dtype
    return torch.stack([cost, slope]).double().numpy()


# From far below to far above, and closely where the bounds on u and the clamps of the published form act.
NEGATIVE_Q = torch.cat(
    [
        torch.linspace(-40.0, 110.0, 601, dtype=torch.float64),
        *(near + torch.linspace(-0.02, 0.02, 41, dtype=torch.float64) for near in (-4.4773, -4.0, 0.0, 10.0, 69.0776)),
        torch.tensor([-1e6, -1e4, -200.0, 300.0, 1e4, 1e6], dtype=torch.float64),
    ]
)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("sigmoid", torch.float32, 2e-6),
        ("sigmoid", torch.float64, 2e-10),  # above 20, PyTorch's softplus is q
        ("gumbel", torch.float32, 2e-6),
        ("gumbel", torch.float64, 1e-12),
        ("gumbel_published", torch.float64, 1e-11),  # 1 - eta is taken from a rounded eta
    ],
)
def test_negative_cost_by_the_definition(name: str, dtype: torch.dtype, tolerance: float) -> None:
    q = NEGATIVE_Q.to(dtype)
    wanted = np.array([exact_negative_cost(name, float(value)) for value in q]).T
    error = np.abs(negative_cost(name, q) - wanted) / np.maximum(1.0, np.abs(wanted))
    assert error.max() < tolerance, f"at q = {q[error.max(0).argmax()].item()}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negative_cost_of_the_published_gumbel_rounds_as_its_logarithm_does(dtype: torch.dtype) -> None:
    q = NEGATIVE_Q.to(dtype)
    value, slope = activations.get("gumbel_published").log_one_minus_eta(q.clone())
    np.testing.assert_array_equal(negative_cost("gumbel_published", q), -torch.stack([value, slope]).double().numpy())


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_negative_cost_is_the_logarithm_of_the_complement(name: str) -> None:
    """Of every activation that is listed, a new one too."""
    q = torch.linspace(-3.9, 9.9, 277, dtype=torch.float64)
    value, slope = activations.get(name).log_one_minus_eta(q.clone())
    wanted = -torch.stack([value, slope]).numpy()
    np.testing.assert_allclose(negative_cost(name, q), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ONE_VS_ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negative_cost_is_finite_at_large_logits_and_nan_at_nan(name: str, dtype: torch.dtype) -> None:
    large = torch.tensor([-1e6, -1e5, -104.0, -88.8, 88.8, 104.0, 1e5, 1e6], dtype=dtype)
    assert np.isfinite(negative_cost(name, large)).all()
    cost, slope = negative_cost(name, torch.tensor([0.0, math.nan, 1.0], dtype=dtype))
    for part in (cost, slope):
        np.testing.assert_array_equal(np.isnan(part), [False, True, False])


def exact_log_odds(name: str, q: float) -> tuple[float, float]:
    """log(eta / (1 - eta)) and its derivative."""
    if name == "sigmoid":
        return q, 1.0
    u = mpmath.exp(-mpmath.mpf(q))
    return float(-mpmath.log(mpmath.expm1(u))), float(u * (1 + 1 / mpmath.expm1(u)))


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_log_odds_by_their_definition(name: str, dtype: torch.dtype, tolerance: float) -> None:
    q = torch.cat([torch.linspace(-4.4, 30.0, 2003), torch.tensor([79.0, 80.0, 81.0, 300.0, 1e6])]).to(dtype)
    wanted = np.array([exact_log_odds(name, float(value)) for value in q]).T
    found = np.stack([part.double().numpy() for part in activations.get(name).log_odds(q)])
    assert np.max(np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))) < tolerance


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_log_odds_are_the_difference_of_the_logarithms(name: str) -> None:
    activation = activations.get(name)
    q = torch.linspace(-3.9, 9.9, 500, dtype=torch.float64)
    (for_, rising), (against, falling) = activation.log_eta(q), activation.log_one_minus_eta(q)
    for found, wanted in zip(activation.log_odds(q), (for_ - against, rising - falling), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ONE_VS_ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_are_finite_at_large_logits_and_nan_at_nan(name: str, dtype: torch.dtype) -> None:
    values, slopes = activations.get(name).log_odds(torch.tensor([-1e6, -90.0, 90.0, 1e6, math.nan], dtype=dtype))
    assert values.isfinite().tolist() == [True] * 4 + [False]
    assert slopes[:4].isfinite().all()


@pytest.mark.parametrize("name", ["gumbel", "gumbel_published"])
def test_log_scores_are_those_of_the_scores_whatever_training_makes_of_them(name: str) -> None:
    q = torch.linspace(-6.5, 30.0, 400, dtype=torch.float64)
    wanted = [float(-mpmath.exp(-mpmath.mpf(float(value)))) for value in q]
    np.testing.assert_allclose(activations.get(name).log_scores(q), wanted, rtol=1e-12)
    assert torch.equal(activations.get("gumbel", q_min=-1.0).log_scores(q), activations.get("gumbel").log_scores(q))


@pytest.mark.parametrize("name", activations.names())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_log_scores_are_finite_at_large_logits(name: str, dtype: torch.dtype) -> None:
    q = torch.tensor([[6e4, -6e4, 0.0, -200.0]]).to(dtype)
    assert activations.get(name).log_scores(q).isfinite().all()


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_positive_cost_is_minus_log_eta(name: str) -> None:
    activation = activations.get(name)
    q = torch.linspace(-6.0, 20.0, 500)
    for found, wanted in zip(activation.positive_cost(q), activation.log_eta(q), strict=True):
        assert torch.equal(found, -wanted)


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_logarithms_of_nan_are_nan(name: str) -> None:
    """A training that diverges has to be seen by its loss."""
    nan = torch.tensor([math.nan])
    activation = activations.get(name)
    for value in (*activation.log_eta(nan), *activation.log_one_minus_eta(nan)):
        assert value.isnan().all()


@pytest.mark.parametrize("name", activations.names())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_at_large_logits_in_every_precision(name: str, dtype: torch.dtype) -> None:
    largest = 6e4 if dtype is torch.float16 else 1e6
    q = torch.tensor([[-largest, -1e4, -90.0, -4.0, 0.0, 11.0, 16.0, 100.0, 1e4, largest]], dtype=dtype)
    activation = activations.get(name)
    functions = [activation.log_prob, activation.log_complement] if activation.one_vs_all else [activation.log_prob]
    for function in functions:
        x = q.clone().requires_grad_(True)
        value = function(x)
        # A gradient of ordinary size: 1e6 summed would overflow float16 whatever the slope.
        value.sum().backward()
        assert value.isfinite().all()
        assert x.grad.isfinite().all()
        assert x.grad.dtype is dtype
        assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert activation.scores(q).isfinite().all()


@pytest.mark.parametrize("name", activations.names())
def test_half_precision_logits_under_autocast_are_raised_to_float32(name: str) -> None:
    x, weight = torch.randn(4, 8), torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = F.linear(x, weight)
        assert logits.dtype is torch.bfloat16
        value = activations.get(name).log_prob(logits)
    value.sum().backward()
    assert value.dtype is torch.float32
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["sigmoid", "gumbel"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    q = torch.linspace(-3.5, 8.0, 24, dtype=torch.float64, requires_grad=True)
    activation = activations.get(name)
    assert torch.autograd.gradcheck(activation.log_prob, (q,))
    assert torch.autograd.gradcheck(activation.log_complement, (q,))


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_log_prob_and_log_complement_are_logs_of_the_scores(name: str) -> None:
    q = torch.linspace(-2.5, 5.0, 50, dtype=torch.float64)
    activation = activations.get(name)
    scores = activation.scores(q)
    torch.testing.assert_close(activation.log_prob(q).exp(), scores)
    torch.testing.assert_close(activation.log_complement(q).exp(), 1.0 - scores)


@pytest.mark.parametrize("name", activations.names())
def test_scores_rank_as_logits_do(name: str) -> None:
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(activations.get(name).scores(logits).argmax(1), logits.argmax(1))


@pytest.mark.parametrize("name", ONE_VS_ALL)
@pytest.mark.parametrize("num_classes", [2, 10, 1203])
def test_prior_bias_scores_every_class_one_in_c(name: str, num_classes: int) -> None:
    activation = activations.get(name)
    bias = activation.prior_bias(num_classes)
    assert isinstance(bias, float)
    assert activation.scores(torch.tensor(bias, dtype=torch.float64)).item() == pytest.approx(1 / num_classes)


def test_prior_bias_of_gumbel_and_sigmoid_by_their_formulas() -> None:
    assert activations.get("gumbel").prior_bias(100) == pytest.approx(-math.log(math.log(100)))
    assert activations.get("sigmoid").prior_bias(100) == pytest.approx(-math.log(99))
    assert activations.get("softmax").prior_bias(100) == 0.0


def test_published_gumbel_equals_the_public_formula() -> None:
    """GOL's code: clamp to [-4, 10], eta = 1 / exp(exp(-q)), PyTorch's binary cross entropy, autograd."""
    q = torch.linspace(-6.01, 12.02, 721)  # misses -4 and 10, where PyTorch's versions differ
    for positive in (True, False):
        x = q.clone().requires_grad_(True)
        eta = 1.0 / torch.exp(torch.exp(-x.clamp(-4.0, 10.0)))
        target = torch.full_like(x, float(positive))
        expected = F.binary_cross_entropy(eta, target, reduction="none")
        expected.sum().backward()
        loss, gradient = loss_and_gradient(q, positive, "gumbel_published")
        np.testing.assert_allclose(loss, expected.detach(), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(gradient, x.grad, rtol=2e-3, atol=1e-7)


def test_published_gumbel_has_the_dead_zone_that_ours_has_not() -> None:
    q = torch.tensor([-3.0, -3.6, -4.5])
    _, published = loss_and_gradient(q, True, "gumbel_published")
    _, ours = loss_and_gradient(q, True)
    np.testing.assert_allclose(published, [-20.1, -0.0047, 0.0], rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(ours, [-20.1, -36.6, -54.6], rtol=0.01)


def test_unknown_names_and_parameters_say_what_there_is() -> None:
    with pytest.raises(InputError, match="unknown activation 'gumble'") as unknown_name:
        activations.get("gumble")
    assert "did you mean 'gumbel'" in (unknown_name.value.hint or "")
    with pytest.raises(InputError, match="activation 'sigmoid' has no parameter 'q_min'"):
        activations.get("sigmoid", q_min=-4.0)
    for q_min in (1.0, -1e300):
        with pytest.raises(InputError, match="must be at least -80.0 and below 0"):
            activations.get("gumbel", q_min=q_min)
    with pytest.raises(InputError, match="at least 2 classes, not 1"):
        activations.get("gumbel").prior_bias(1)
