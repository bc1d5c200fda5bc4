"""Balanced and logit-adjusted losses against the papers' equations, in float64 or with more digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gol_decouple import losses
from gol_decouple.errors import InputError
from gol_decouple.losses import terms

COUNTS = np.array([600, 90, 25, 4])
ONE_VS_ALL = ("sigmoid", "gumbel")
SHIFTS = ("exact", "link")


@pytest.fixture
def eight() -> tuple[torch.Tensor, torch.Tensor]:
    logits = 1.5 * torch.randn(8, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return logits.clamp(-2.5, 6.0), torch.tensor([0, 1, 2, 3, 0, 0, 1, 3])


def loss_and_gradient(loss: losses.Loss, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    logits = logits.clone().requires_grad_(True)
    value = loss(logits, labels)
    value.backward()
    return value.item(), logits.grad


def assert_is(loss: losses.Loss, wanted: torch.Tensor, at: torch.Tensor, labels: torch.Tensor) -> None:
    """Whether loss and gradient at the logits `at` are `wanted`, made from them by autograd."""
    value, gradient = loss_and_gradient(loss, at.detach(), labels)
    (expected,) = torch.autograd.grad(wanted, at)
    assert value == pytest.approx(wanted.item(), rel=1e-10)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-13)


def binary_cross_entropies(eta: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed over classes, averaged over samples; labels that are no column are background."""
    positive = F.one_hot(labels, eta.shape[1] + 1)[:, :-1]
    return -(positive * eta.log() + (1 - positive) * (1.0 - eta).log()).sum() / len(labels)


def odds_shifts(counts: np.ndarray) -> torch.Tensor:
    """s_j = log((n/k) / n_j (n - n_j) / (n - n/k)) of Balanced Activation."""
    n, k = float(counts.sum()), len(counts)
    shifts = [math.log((n / k) / n_j * (n - n_j) / (n - n / k)) for n_j in counts.tolist()]
    return torch.tensor(shifts, dtype=torch.float64)


def gumbel_link_shifts(counts: np.ndarray) -> torch.Tensor:
    """link(n_c / n) - link(1 / k), where exp(-exp(-link(p))) = p."""
    n, k = float(counts.sum()), len(counts)
    shifts = [-math.log(-math.log(n_c / n)) + math.log(-math.log(1.0 / k)) for n_c in counts.tolist()]
    return torch.tensor(shifts, dtype=torch.float64)


# Softmax


def test_balanced_softmax_is_equation_3(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    weighted = torch.tensor(COUNTS, dtype=torch.float64) * logits.exp()
    wanted = -(weighted.gather(1, labels.unsqueeze(1)).squeeze(1) / weighted.sum(1)).log().mean()
    assert_is(losses.get("balanced", activation="softmax", class_counts=COUNTS), wanted, logits, labels)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjusted_is_equation_10(eight: tuple[torch.Tensor, torch.Tensor], tau: float) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    prior = torch.tensor(COUNTS, dtype=torch.float64) / float(COUNTS.sum())
    own = labels.unsqueeze(1)
    # log(1 + sum over c != y of (pi_c / pi_y)^tau e^(q_c - q_y)), and the 1 is the term of c = y.
    ratios = (prior / prior[own]) ** tau * torch.exp(logits - logits.gather(1, own))
    loss = losses.get("logit_adjusted", activation="softmax", class_counts=COUNTS, tau=tau)
    assert_is(loss, ratios.sum(1).log().mean(), logits, labels)


@pytest.mark.parametrize(
    ("loss_name", "params", "label", "wanted"),
    [
        ("balanced", {}, 0, 0.2876821),  # n = 3, 1 and q = 0: -log(3/4)
        ("balanced", {}, 1, 1.3862944),  # -log(1/4)
        ("logit_adjusted", {"tau": 2.0}, 0, 0.1053605),  # odds 9 to 1: -log(9/10)
        ("logit_adjusted", {"tau": 2.0}, 1, 2.3025851),  # -log(1/10)
        ("logit_adjusted", {"tau": 0.5}, 1, 1.0050525),  # odds 1.732051 to 1: log 2.732051
    ],
)
def test_softmax_cases_small_enough_for_a_pocket_calculator(
    loss_name: str, params: dict[str, float], label: int, wanted: float
) -> None:
    loss = losses.get(loss_name, activation="softmax", class_counts=np.array([3, 1]), **params)
    assert loss(torch.zeros(1, 2), torch.tensor([label])).item() == pytest.approx(wanted, abs=1e-6)


def test_logit_adjusted_by_one_is_balanced_softmax_and_the_default(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    value, gradient = loss_and_gradient(losses.get("balanced", activation="softmax", class_counts=COUNTS), *eight)
    for params in ({"tau": 1.0}, {}):
        loss = losses.get("logit_adjusted", activation="softmax", class_counts=COUNTS, **params)
        adjusted, its_gradient = loss_and_gradient(loss, *eight)
        assert adjusted == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(its_gradient, gradient, rtol=1e-10, atol=1e-15)


def test_logit_adjusted_by_nothing_is_cross_entropy(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    loss = losses.get("logit_adjusted", activation="softmax", class_counts=COUNTS, tau=0.0)
    assert_is(loss, F.cross_entropy(logits, labels), logits, labels)


def test_shifted_logits_are_for_training_and_scores_are_of_the_plain_ones() -> None:
    logits = torch.tensor([[0.5, 0.0, -1.0, 2.0]])
    for name, wanted in (("softmax", logits.exp() / logits.exp().sum()), ("gumbel", torch.exp(-torch.exp(-logits)))):
        loss = losses.get("balanced", activation=name, class_counts=COUNTS)
        torch.testing.assert_close(loss.scores(logits), wanted)
        assert torch.equal(loss.ranking(logits), logits)


# One-vs-all


def test_balanced_sigmoid_is_that_of_balanced_activation(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    eta = 1.0 / (1.0 + torch.exp(-(logits - odds_shifts(COUNTS))))
    loss = losses.get("balanced", activation="sigmoid", class_counts=COUNTS)
    assert_is(loss, binary_cross_entropies(eta, labels), logits, labels)


def test_balanced_gumbel_shifts_the_log_odds(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    eta = torch.exp(-torch.exp(-logits))
    log_odds = eta.log() - (1.0 - eta).log() - odds_shifts(COUNTS)
    loss = losses.get("balanced", activation="gumbel", class_counts=COUNTS)
    assert_is(loss, binary_cross_entropies(1.0 / (1.0 + torch.exp(-log_odds)), labels), logits, labels)


def test_balanced_gumbel_by_link_shifts_the_logits(eight: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    eta = torch.exp(-torch.exp(-(logits + gumbel_link_shifts(COUNTS))))
    loss = losses.get("balanced", activation="gumbel", class_counts=COUNTS, shift="link")
    assert_is(loss, binary_cross_entropies(eta, labels), logits, labels)


def with_enough_digits(q: float, shift: float, positive: bool) -> tuple[float, float]:
    """One class's share of the exact loss for Gumbel, and its derivative: that of the sum of logs by definition."""
    with mpmath.workdps(150):

        def cost(at: mpmath.mpf) -> mpmath.mpf:
            eta = mpmath.exp(-mpmath.exp(-at))
            log_odds = mpmath.log(eta) - mpmath.log(1 - eta) - mpmath.mpf(shift)
            return mpmath.log(1 + mpmath.exp(-log_odds if positive else log_odds))

        return float(cost(mpmath.mpf(q))), float(mpmath.diff(cost, mpmath.mpf(q)))


@pytest.mark.parametrize("q", [-3.9, -3.0, -1.0, 0.0, 0.7, 3.0, 8.0, 18.0, 30.0, 79.5, 90.0])
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_balanced_gumbel_keeps_its_digits(q: float, dtype: torch.dtype, rel: float) -> None:
    shifts = odds_shifts(COUNTS).tolist()
    loss = losses.get("balanced", activation="gumbel", class_counts=COUNTS)
    for label in range(4):
        logits = torch.full((1, 4), q, dtype=dtype)
        parts = [with_enough_digits(logits[0, c].item(), shifts[c], c == label) for c in range(4)]
        value, gradient = loss_and_gradient(loss, logits, torch.tensor([label]))
        assert value == pytest.approx(sum(cost for cost, _ in parts), rel=rel)
        assert gradient[0].tolist() == pytest.approx([slope for _, slope in parts], rel=rel, abs=1e-30)


@pytest.mark.parametrize(
    ("name", "shift", "label", "wanted"),
    [
        # n = 3, 1 and q = 0. s_0 = log(2/3 * 1/2) = -log 3 and s_1 = log(2 * 3/2) = log 3: sigmoid 3/4 and 1/4.
        ("sigmoid", "exact", 0, 0.5753641),  # -log(3/4) - log(1 - 1/4)
        ("sigmoid", "exact", 1, 2.7725887),  # -log(1/4) - log(1 - 3/4)
        # eta / (1 - eta) = 1 / (e - 1) = 0.581977, times 3 and 1/3: 1.745930 and 0.193992.
        ("gumbel", "exact", 0, 0.6301353),  # log(2.745930 / 1.745930) + log 1.193992
        ("gumbel", "exact", 1, 2.8273598),  # log(1.193992 / 0.193992) + log 2.745930
        # link(3/4) = 1.245899, link(1/2) = 0.366513, link(1/4) = -0.326634: q is 0.879386 and -0.693147, and
        # e^-q 0.415037 and 2.
        ("gumbel", "link", 0, 0.5604505),  # 0.415037 - log(1 - e^-2)
        ("gumbel", "link", 1, 3.0797392),  # 2 - log(1 - e^-0.415037) = 2 - log 0.339684
    ],
)
def test_one_vs_all_cases_small_enough_for_a_pocket_calculator(
    name: str, shift: str, label: int, wanted: float
) -> None:
    loss = losses.get("balanced", activation=name, class_counts=np.array([3, 1]), shift=shift)
    assert loss(torch.zeros(1, 2), torch.tensor([label])).item() == pytest.approx(wanted, abs=2e-6)


def test_exact_and_link_are_the_same_for_sigmoid_and_for_softmax_but_not_for_gumbel(
    eight: tuple[torch.Tensor, torch.Tensor],
) -> None:
    for name, same in (("softmax", True), ("sigmoid", True), ("gumbel", False)):
        exact, link = (
            loss_and_gradient(losses.get("balanced", activation=name, class_counts=COUNTS, shift=shift), *eight)
            for shift in SHIFTS
        )
        assert (link[0] == pytest.approx(exact[0], rel=1e-10)) is same
        assert torch.allclose(link[1], exact[1], rtol=1e-8, atol=1e-13) is same


@pytest.mark.parametrize("name", ["softmax", *ONE_VS_ALL])
def test_exact_is_what_it_does_unless_told(eight: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    default = losses.get("balanced", activation=name, class_counts=COUNTS)
    exact = losses.get("balanced", activation=name, class_counts=COUNTS, shift="exact")
    assert default(*eight).item() == exact(*eight).item()


def test_the_largest_class_must_score_more_to_cost_the_same() -> None:
    """The direction of the shift, without any formula."""
    for name in ("softmax", *ONE_VS_ALL):
        loss = losses.get("balanced", activation=name, class_counts=COUNTS)
        of_each = [loss(torch.zeros(1, 4), torch.tensor([label])).item() for label in range(4)]
        assert of_each == sorted(of_each)
        assert of_each[0] < of_each[3] - 1.0


@pytest.mark.parametrize("low", [-4.5, -10.0, -1e4])
def test_a_gumbel_positive_below_q_min_still_rises_as_its_tangent(low: float) -> None:
    logits = torch.tensor([[low, 0.0, 0.0, 0.0]], dtype=torch.float64)
    _, gradient = loss_and_gradient(
        losses.get("balanced", activation="gumbel", class_counts=COUNTS), logits, torch.tensor([0])
    )
    assert gradient[0, 0].item() == pytest.approx(-math.exp(4.0), rel=1e-9)


# Limits


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
    if name == "softmax":
        return F.cross_entropy(logits, labels)
    eta = 1.0 / (1.0 + torch.exp(-logits)) if name == "sigmoid" else torch.exp(-torch.exp(-logits))
    return binary_cross_entropies(eta, labels)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", ["softmax", *ONE_VS_ALL, "gumbel_published"])
def test_equal_classes_leave_cross_entropy(eight: tuple[torch.Tensor, torch.Tensor], name: str, shift: str) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    loss = losses.get("balanced", activation=name, class_counts=np.full(4, 123), shift=shift)
    assert_is(loss, cross_entropy(logits, labels, name), logits, labels)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_equal_classes_leave_cross_entropy_of_logit_adjusted(
    eight: tuple[torch.Tensor, torch.Tensor], tau: float
) -> None:
    logits, labels = eight[0].requires_grad_(True), eight[1]
    loss = losses.get("logit_adjusted", activation="softmax", class_counts=np.full(4, 123), tau=tau)
    assert_is(loss, F.cross_entropy(logits, labels), logits, labels)


@pytest.mark.parametrize(
    ("loss_name", "name", "params"),
    [
        ("balanced", "softmax", {}),
        ("balanced", "sigmoid", {}),
        ("balanced", "gumbel", {}),
        ("balanced", "gumbel", {"shift": "link"}),
        ("logit_adjusted", "softmax", {}),
    ],
)
def test_a_class_without_samples_counts_as_if_it_had_one(
    eight: tuple[torch.Tensor, torch.Tensor], loss_name: str, name: str, params: dict[str, str]
) -> None:
    without, with_one = (
        loss_and_gradient(
            losses.get(loss_name, activation=name, class_counts=np.array([600, 90, 25, n]), **params), *eight
        )
        for n in (0, 1)
    )
    assert math.isfinite(without[0])
    assert without[0] == with_one[0]
    assert torch.equal(without[1], with_one[1])


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float32, 1e6), (torch.float64, 1e6), (torch.float16, 6e4), (torch.bfloat16, 1e6)]
)
@pytest.mark.parametrize("name", ["softmax", *ONE_VS_ALL, "gumbel_published"])
def test_extreme_logits_leave_loss_and_gradient_finite(name: str, dtype: torch.dtype, large: float, shift: str) -> None:
    loss = losses.get("balanced", activation=name, class_counts=np.array([10**6, 500, 1]), shift=shift)
    assert_finite(loss, dtype, large)


@pytest.mark.parametrize(
    ("dtype", "large"), [(torch.float32, 1e6), (torch.float64, 1e6), (torch.float16, 6e4), (torch.bfloat16, 1e6)]
)
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_extreme_logits_leave_logit_adjusted_finite(tau: float, dtype: torch.dtype, large: float) -> None:
    counts = np.array([10**6, 500, 1])
    assert_finite(losses.get("logit_adjusted", activation="softmax", class_counts=counts, tau=tau), dtype, large)


def assert_finite(loss: losses.Loss, dtype: torch.dtype, large: float) -> None:
    rows = [[large, -large, 0.0], [-large, large, 0.0], [0.0, -large, large], [-large] * 3, [large] * 3]
    logits = torch.tensor([row for row in rows for _ in range(3)], dtype=dtype, requires_grad=True)
    value = loss(logits, torch.arange(3).repeat(len(rows)))
    value.backward()
    assert value.isfinite()
    assert value.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype is dtype
    assert logits.grad.abs().max() > 0.0


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", ["softmax", *ONE_VS_ALL])
def test_gradient_agrees_with_finite_differences(
    eight: tuple[torch.Tensor, torch.Tensor], name: str, shift: str
) -> None:
    loss = losses.get("balanced", activation=name, class_counts=COUNTS, shift=shift)
    assert torch.autograd.gradcheck(lambda q: loss(q, eight[1]), (eight[0].requires_grad_(True),))


@pytest.mark.parametrize("loss_name", ["balanced", "logit_adjusted"])
def test_the_logits_given_are_left_as_they_are(eight: tuple[torch.Tensor, torch.Tensor], loss_name: str) -> None:
    before = eight[0].clone()
    losses.get(loss_name, activation="softmax", class_counts=COUNTS)(*eight)
    assert torch.equal(eight[0], before)


# Background


def one_vs_all_shifted(logits: torch.Tensor, name: str, shift: str, is_class: torch.Tensor) -> torch.Tensor:
    """Scores whose prior is shifted in the rows `is_class` [N, 1] alone."""
    if name == "sigmoid":
        return 1.0 / (1.0 + torch.exp(-(logits - is_class * odds_shifts(COUNTS))))
    if shift == "link":
        return torch.exp(-torch.exp(-(logits + is_class * gumbel_link_shifts(COUNTS))))
    eta = torch.exp(-torch.exp(-logits))
    odds = eta / (1.0 - eta) * torch.exp(-is_class * odds_shifts(COUNTS))
    return odds / (1.0 + odds)


@pytest.mark.parametrize("at_once", [8, 131072])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_background_rows_are_not_shifted(
    monkeypatch: pytest.MonkeyPatch, eight: tuple[torch.Tensor, torch.Tensor], name: str, shift: str, at_once: int
) -> None:
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    logits, labels = eight[0].requires_grad_(True), torch.tensor([0, 4, 2, 3, 4, 4, 1, 3])
    eta = one_vs_all_shifted(logits, name, shift, (labels < 4).double().unsqueeze(1))
    loss = losses.get("balanced", activation=name, class_counts=COUNTS, shift=shift, background=True)
    assert loss.num_columns(4) == 4
    assert_is(loss, binary_cross_entropies(eta, labels), logits, labels)


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_a_batch_of_background_alone_is_cross_entropy(eight: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    logits, labels = eight[0].requires_grad_(True), torch.full((8,), 4)
    loss = losses.get("balanced", activation=name, class_counts=COUNTS, background=True)
    assert_is(loss, cross_entropy(logits, labels, name), logits, labels)


# Mistakes


def test_balanced_softmax_does_not_take_background() -> None:
    with pytest.raises(InputError, match="'balanced' on softmax does not take background") as error:
        losses.get("balanced", activation="softmax", class_counts=COUNTS, background=True)
    assert "sigmoid, gumbel" in (error.value.hint or "")


def test_logit_adjusted_does_not_take_background() -> None:
    with pytest.raises(InputError, match="'logit_adjusted' on softmax does not take background"):
        losses.get("logit_adjusted", activation="softmax", class_counts=COUNTS, background=True)


@pytest.mark.parametrize("name", ["softmax", *ONE_VS_ALL])
def test_a_shift_that_is_none(name: str) -> None:
    with pytest.raises(InputError) as error:
        losses.get("balanced", activation=name, class_counts=COUNTS, shift="odds")
    for named in ("'balanced'", "shift", "'odds'", "exact or link"):
        assert named in str(error.value)


@pytest.mark.parametrize("tau", [math.nan, math.inf, -math.inf])
def test_a_tau_that_is_no_number(tau: float) -> None:
    with pytest.raises(InputError, match="loss 'logit_adjusted': tau = "):
        losses.get("logit_adjusted", activation="softmax", class_counts=COUNTS, tau=tau)


@pytest.mark.parametrize("name", ONE_VS_ALL)
def test_logit_adjusted_goes_with_softmax_alone(name: str) -> None:
    with pytest.raises(InputError, match=f"'logit_adjusted' does not go with activation '{name}'") as error:
        losses.get("logit_adjusted", activation=name, class_counts=COUNTS)
    assert "logit_adjusted goes with softmax;" in (error.value.hint or "")
    assert "balanced" in (error.value.hint or "")


@pytest.mark.parametrize(("loss_name", "takes"), [("balanced", "shift"), ("logit_adjusted", "tau")])
def test_other_parameters_are_answered_with_those_there_are(loss_name: str, takes: str) -> None:
    with pytest.raises(InputError, match=f"loss '{loss_name}' has no parameter 'gamma'") as error:
        losses.get(loss_name, activation="softmax", class_counts=COUNTS, gamma=1.0)
    assert error.value.hint == f"it takes: {takes}"


@pytest.mark.parametrize("loss_name", ["balanced", "logit_adjusted"])
def test_missing_counts_are_named(loss_name: str) -> None:
    with pytest.raises(InputError, match=f"loss '{loss_name}' needs class_counts"):
        losses.get(loss_name, activation="softmax", class_counts=None)
