"""Cross entropy on every activation against sums written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gol_decouple import activations, losses
from gol_decouple.errors import InputError
from gol_decouple.losses import terms

ETA = {
    "sigmoid": lambda q: 1.0 / (1.0 + math.exp(-q)),
    "gumbel": lambda q: math.exp(-math.exp(-q)),
}


def by_hand(logits: list[list[float]], labels: list[int], name: str) -> float:
    """Equation 9 of GOL: summed over classes, averaged over samples."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        for column, q in enumerate(row):
            eta = ETA[name](q)
            total -= math.log(eta) if column == label else math.log(1.0 - eta)
    return total / len(labels)


@pytest.mark.parametrize("name", list(ETA))
def test_one_vs_all_is_summed_over_classes_and_averaged_over_samples(name: str) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 2])
    loss = losses.get("cross_entropy", activation=name)(logits, labels)
    assert loss.item() == pytest.approx(by_hand(logits.tolist(), labels.tolist(), name), rel=1e-12)


def test_a_case_small_enough_for_a_pocket_calculator() -> None:
    # q = 0: eta = 1/e, so the positive costs 1 and the negative -log(1 - 1/e).
    loss = losses.get("cross_entropy", activation="gumbel")(torch.zeros(1, 2), torch.tensor([0]))
    assert loss.item() == pytest.approx(1.0 + 0.458675145, abs=1e-6)


def test_softmax_is_pytorchs_cross_entropy() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    loss = losses.get("cross_entropy", activation="softmax")(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("name", [name for name in activations.names() if activations.get(name).one_vs_all])
def test_gradient_equals_that_of_the_separate_logarithms(name: str) -> None:
    """The fused pass against autograd through log_prob and log_complement."""
    activation = activations.get(name)
    values = torch.randn(9, 6, generator=torch.Generator().manual_seed(2)) * 4
    labels = torch.arange(9) % 6
    fused, separate = values.clone().requires_grad_(True), values.clone().requires_grad_(True)
    one_hot = F.one_hot(labels, 6)
    terms = one_hot * activation.log_prob(separate) + (1 - one_hot) * activation.log_complement(separate)
    expected = -terms.sum() / 9
    loss = losses.get("cross_entropy", activation=activation)(fused, labels)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(fused.grad, separate.grad)


# Each sample's loss, and its gradient in the place of the logits


def losses_and_gradients(
    name: str, logits: torch.Tensor, labels: torch.Tensor, **params: float
) -> tuple[torch.Tensor, torch.Tensor]:
    gradients = logits.clone()
    activation = activations.get(name, **params)
    per_sample = losses.get("cross_entropy", activation=activation).per_sample_(gradients, labels)
    return per_sample, gradients


@pytest.fixture
def seven() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [7, 5], and labels among which each class comes up."""
    logits = 1.5 * torch.randn(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 4, 0, 2])


# A row; two rows and a bit; three; six, and one that is left; all, and more.
@pytest.mark.parametrize("at_once", [1, 5, 12, 15, 30, 35, 1000])
@pytest.mark.parametrize("name", list(ETA))
def test_per_sample_is_each_samples_loss_however_many_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, seven: tuple[torch.Tensor, torch.Tensor], name: str, at_once: int
) -> None:
    logits, labels = seven
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    per_sample, gradients = losses_and_gradients(name, logits, labels)
    wanted = [by_hand([row], [label], name) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert per_sample.tolist() == pytest.approx(wanted, rel=1e-12)
    step = 1e-6
    for row, label, gradient in zip(logits.tolist(), labels.tolist(), gradients.tolist(), strict=True):
        for column in range(5):
            above, below = (
                by_hand([[*row[:column], row[column] + shift, *row[column + 1 :]]], [label], name)
                for shift in (step, -step)
            )
            assert gradient[column] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("at_once", [1, 12, 30])
@pytest.mark.parametrize("name", activations.names())
def test_per_sample_does_not_depend_on_how_many_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch, seven: tuple[torch.Tensor, torch.Tensor], name: str, at_once: int
) -> None:
    logits, labels = seven[0].float(), seven[1]
    whole = losses_and_gradients(name, logits, labels)
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    for part, wanted in zip(losses_and_gradients(name, logits, labels), whole, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-6, atol=1e-7)


def test_per_sample_of_softmax_is_pytorchs(seven: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = seven[0].requires_grad_(True), seven[1]
    per_sample, gradients = losses_and_gradients("softmax", logits.detach(), labels)
    wanted = F.cross_entropy(logits, labels, reduction="none")
    wanted.sum().backward()
    torch.testing.assert_close(per_sample, wanted.detach())
    torch.testing.assert_close(gradients, logits.grad)


def test_a_positive_below_q_min_costs_its_tangent() -> None:
    logits = torch.tensor([[-6.0, 0.5], [0.5, -6.0]], dtype=torch.float64)
    per_sample, gradients = losses_and_gradients("gumbel", logits, torch.tensor([0, 0]), q_min=-2.0)
    slope = math.exp(2.0)
    assert per_sample[0].item() == pytest.approx(slope + 4.0 * slope - math.log(1.0 - ETA["gumbel"](0.5)))
    assert gradients[0, 0].item() == pytest.approx(-slope)
    assert per_sample[1].item() == pytest.approx(-math.log(ETA["gumbel"](0.5)))
    assert gradients[1].tolist() == pytest.approx([-math.exp(-0.5), 0.0])


@pytest.mark.parametrize("name", activations.names())
def test_a_nan_is_seen_in_its_samples_loss_alone(seven: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    logits, labels = seven[0].float(), seven[1]
    logits[1, 1] = logits[4, 0] = math.nan  # of a label, and of another class
    per_sample, gradients = losses_and_gradients(name, logits, labels)
    assert per_sample.isnan().tolist() == [row in (1, 4) for row in range(7)]
    assert gradients[1, 1].isnan()
    assert gradients[4, 0].isnan()


@pytest.mark.parametrize("name", activations.names())
class TestContract:
    """What holds for the loss on every activation; a new activation is covered by being listed."""

    def test_gradient_agrees_with_finite_differences(self, name: str) -> None:
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_(True)
        labels = torch.tensor([0, 3, 1, 1, 2])
        loss = losses.get("cross_entropy", activation=name)
        assert torch.autograd.gradcheck(lambda q: loss(q, labels), (logits,))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_finite_at_large_logits_and_gradient_in_the_logits_dtype(self, name: str, dtype: torch.dtype) -> None:
        logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, -5.0]], dtype=dtype, requires_grad=True)
        loss = losses.get("cross_entropy", activation=name)(logits, torch.tensor([1, 0]))
        loss.backward()
        assert loss.isfinite()
        assert loss.dtype is torch.float32
        assert logits.grad.isfinite().all()
        assert logits.grad.dtype is dtype

    def test_order_of_the_samples_does_not_matter(self, name: str) -> None:
        logits, labels = torch.randn(8, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
        order = torch.randperm(8)
        loss = losses.get("cross_entropy", activation=name)
        torch.testing.assert_close(loss(logits, labels), loss(logits[order], labels[order]))

    def test_thirty_steps_lower_the_loss(self, name: str) -> None:
        draws = torch.Generator().manual_seed(0)
        logits = torch.randn(16, 5, generator=draws).requires_grad_(True)
        labels = torch.randint(0, 5, (16,), generator=draws)
        loss = losses.get("cross_entropy", activation=name)
        before = loss(logits, labels).item()
        optimizer = torch.optim.SGD([logits], lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            loss(logits, labels).backward()
            optimizer.step()
        assert loss(logits, labels).item() < before

    def test_columns_and_scores(self, name: str) -> None:
        loss = losses.get("cross_entropy", activation=name)
        logits = torch.randn(4, 7)
        assert loss.num_columns(7) == 7
        assert loss.scores(logits).shape == (4, 7)


def test_unknown_names_and_parameters_say_what_there_is() -> None:
    with pytest.raises(InputError, match="unknown loss 'crossentropy'") as error:
        losses.get("crossentropy", activation="gumbel")
    assert "did you mean 'cross_entropy'" in (error.value.hint or "")
    with pytest.raises(InputError, match="loss 'cross_entropy' has no parameter 'gamma'"):
        losses.get("cross_entropy", activation="gumbel", gamma=2.0)
