"""Activation and gradient curves against the papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gol_decouple.analyses.curves import SOFTMAX, Curve, curves


@pytest.fixture(scope="module")
def by_name() -> dict[str, Curve]:
    return {curve.name: curve for curve in curves()}


def test_they_cover_six_logits_to_both_sides(by_name: dict[str, Curve]) -> None:
    assert list(by_name) == ["sigmoid", "gumbel", "gumbel_published", SOFTMAX]
    for curve in by_name.values():
        assert (curve.q[0], curve.q[-1], len(curve.q)) == (-6.0, 6.0, 241)
        assert (curve.positive <= 0).all()
        assert (curve.negative >= 0).all()
        assert (np.diff(curve.eta) >= 0).all()


def test_sigmoid(by_name: dict[str, Curve]) -> None:
    curve = by_name["sigmoid"]
    eta = 1 / (1 + np.exp(-curve.q))
    for found, wanted in ((curve.eta, eta), (curve.positive, eta - 1), (curve.negative, eta)):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_gumbel(by_name: dict[str, Curve]) -> None:
    """GOL: eta = exp(-exp(-q)), gradients -exp(-q) and exp(-q) / (exp(exp(-q)) - 1); below -4 ours has a tangent."""
    curve = by_name["gumbel"]
    u = np.exp(-curve.q)
    np.testing.assert_allclose(curve.eta, np.exp(-u), rtol=1e-12)
    np.testing.assert_allclose(curve.positive, -np.minimum(u, np.exp(4.0)), rtol=1e-12)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(curve.negative, u / np.expm1(u), rtol=1e-9, atol=1e-30)


def test_the_published_gumbel_has_no_gradient_for_hard_positives(by_name: dict[str, Curve]) -> None:
    curve, own = by_name["gumbel_published"], by_name["gumbel"]
    np.testing.assert_allclose(curve.positive[curve.q > -3], own.positive[curve.q > -3], rtol=1e-5)
    assert not curve.positive[curve.q < -4].any()


def test_softmax_of_two_classes_is_what_autograd_says(by_name: dict[str, Curve]) -> None:
    curve = by_name[SOFTMAX]
    for label, found in ((0, curve.positive), (1, curve.negative)):
        q = torch.tensor(curve.q, requires_grad=True)
        logits = torch.stack([q, torch.zeros_like(q)], dim=1)
        loss = torch.nn.functional.cross_entropy(logits, torch.full((len(q),), label), reduction="sum")
        (slope,) = torch.autograd.grad(loss, q)
        np.testing.assert_allclose(found, slope.numpy(), rtol=1e-9)
    np.testing.assert_allclose(curve.eta, by_name["sigmoid"].eta, rtol=1e-12)
