"""EQL, BEQL and DropLoss against their equations in float64 autograd, and their draws against binomial bounds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gol_decouple import losses
from gol_decouple.errors import InputError
from gol_decouple.losses import terms
from tests.losses.oracle import ETA, NAMES, check, run, weighted_negatives

LOSSES = ("eql", "beql", "drop")

# Of 1000 samples: shares 0.5, 0.02, 0.3, 0.05, 0.129 and 0.001, so 1, 3 and 5 are under LAMBDA.
COUNTS = np.array([500, 20, 300, 50, 129, 1])
LAMBDA = 0.06
TAIL = torch.tensor([0, 1, 0, 1, 0, 1], dtype=torch.float64)
C = len(COUNTS)

LVIS_IMAGES = 99_388


def make(name: str, activation: str = "sigmoid", background: bool = True, **params: Any) -> losses.Loss:
    params.setdefault("lambda_", LAMBDA)
    return losses.get(name, activation=activation, class_counts=COUNTS, background=background, **params)


def batch(labels: list[int], seed: int = 0, scale: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, C] in float64 above Gumbel's tangent, and labels."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(len(labels), C, generator=stream, dtype=torch.float64)
    return logits.clamp(min=-3.4), torch.tensor(labels)


def eql_weights(labels: torch.Tensor, tail: torch.Tensor = TAIL) -> torch.Tensor:
    """[N, C]: 1 - T(f) for foreground, 1 for background; what it is at the label does not matter."""
    foreground = (labels < C).to(torch.float64).unsqueeze(1)
    return 1.0 - foreground * tail


MIXED = [0, 1, C, 2, 3, C, 5, 4, C, 0, C, C]
FOREGROUND = [0, 1, 2, 3, 4, 5, 0, 3]


# EQL


@pytest.mark.parametrize("name", NAMES)
def test_eql_leaves_out_the_tail_as_negatives_of_foreground_alone(name: str) -> None:
    logits, labels = batch(MIXED)
    check(run(make("eql", name), logits, labels), weighted_negatives(name, logits, labels, eql_weights(labels)))


@pytest.mark.parametrize("name", NAMES)
def test_eql_without_background(name: str) -> None:
    logits, labels = batch(FOREGROUND)
    got = run(make("eql", name, background=False), logits, labels)
    check(got, weighted_negatives(name, logits, labels, (1.0 - TAIL).expand(len(labels), C)))


def test_eql_by_hand() -> None:
    # Sigmoid at q = 0: every term is log 2, with slope -1/2 for the positive and 1/2 for a negative. Class 2 is tail.
    # Label 0: itself and class 1. Label 2: itself and classes 0 and 1. Background: all three. 8 log 2 over 3 rows.
    loss = losses.get("eql", activation="sigmoid", class_counts=np.array([60, 30, 10]), background=True, lambda_=0.11)
    value, gradient = run(loss, torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0, 2, 3]))
    assert value.item() == pytest.approx(8.0 * math.log(2.0) / 3.0, rel=1e-12)
    wanted = [[-1 / 6, 1 / 6, 0.0], [1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 6, 1 / 6]]
    torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))


def test_a_class_whose_share_is_lambda_is_not_under_it() -> None:
    counts = np.array([2, 1, 1])  # shares 1/2, 1/4, 1/4, all exact
    for lambda_, tail in ((0.25, [0, 0, 0]), (0.5, [0, 1, 1]), (0.26, [0, 1, 1]), (1.0, [1, 1, 1])):
        loss = losses.get("eql", activation="sigmoid", class_counts=counts, lambda_=lambda_)
        assert loss.tail.tolist() == tail


# BEQL


@pytest.mark.parametrize("base", [1.5, 2.0, 4.0, 5.0])
@pytest.mark.parametrize("name", NAMES)
def test_beql_softens_the_tails_background_by_the_score(name: str, base: float) -> None:
    logits, labels = batch(MIXED)
    of_background = 1.0 - TAIL * torch.minimum(-torch.log(ETA[name](logits)) / math.log(base), torch.tensor(1.0))
    weights = torch.where((labels < C).unsqueeze(1), 1.0 - TAIL, of_background)
    # The case must have weights of every kind: 0, 1 and between.
    tail_weights = weights[labels == C][:, TAIL > 0]
    assert (tail_weights == 0).any()
    assert ((tail_weights > 0) & (tail_weights < 1)).any()
    check(run(make("beql", name, base=base), logits, labels), weighted_negatives(name, logits, labels, weights))


@pytest.mark.parametrize(
    ("name", "q", "base", "weight"),
    [
        ("sigmoid", 0.0, 4.0, 0.5),  # p = 1/2: -log_4(1/2) = 1/2
        ("sigmoid", 0.0, 2.0, 0.0),  # -log_2(1/2) = 1
        ("sigmoid", -3.0, 4.0, 0.0),  # p = 0.047 < 1/4: more than 1, cut there
        ("sigmoid", math.log(3.0), 4.0, 1.0 - math.log(4.0 / 3.0) / math.log(4.0)),  # p = 3/4
        ("gumbel", 0.0, math.exp(2.0), 0.5),  # p = 1/e: -log_b(1/e) = 1/2 with b = e^2
        ("gumbel", math.log(2.0), math.exp(2.0), 0.75),  # p = e^(-1/2)
    ],
)
def test_beqls_weight_by_hand(name: str, q: float, base: float, weight: float) -> None:
    # One background row, two classes of which the second is tail: its cost and its slope are `weight` of the first's.
    counts = np.array([99, 1])
    loss = losses.get("beql", activation=name, class_counts=counts, background=True, lambda_=0.02, base=base)
    value, gradient = run(loss, torch.full((1, 2), q, dtype=torch.float64), torch.tensor([2]))
    cost = -math.log(1.0 - ETA[name](torch.tensor(q, dtype=torch.float64)).item())
    assert value.item() == pytest.approx((1.0 + weight) * cost, rel=1e-12)
    assert gradient[0, 1].item() == pytest.approx(weight * gradient[0, 0].item(), rel=1e-12, abs=1e-15)


def test_beqls_default_base_is_4() -> None:
    logits, labels = batch(MIXED)
    check(run(make("beql"), logits, labels), run(make("beql", base=4.0), logits, labels))


@pytest.mark.parametrize("name", NAMES)
def test_beqls_weight_is_0_where_the_score_is_too_small_for_a_float(name: str) -> None:
    logits = torch.full((1, C), -200.0)
    value, gradient = run(make("beql", name), logits, torch.tensor([C]))
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient[0, TAIL > 0].eq(0).all()


# DropLoss


def keep_probabilities(labels: torch.Tensor, form: str) -> torch.Tensor:
    """[C]: equation 7 with n over the batch's foreground; the public code keeps the classes not in the tail."""
    foreground = labels[labels < C]
    share = TAIL[foreground].mean()
    return torch.where(TAIL > 0, share, 1.0 - share if form == "paper" else torch.tensor(1.0, dtype=torch.float64))


def draws_of(seed: int, rows: list[int]) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.cat([torch.rand(n, C, generator=stream, dtype=torch.float64) for n in rows])


@pytest.mark.parametrize(("at_once", "rows"), [(10**6, [12]), (5 * C, [5, 5, 2]), (1, [1] * 12)])
@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_drop_with_its_draws_drawn_again(
    monkeypatch: pytest.MonkeyPatch, name: str, form: str, at_once: int, rows: list[int]
) -> None:
    monkeypatch.setattr(terms, "AT_ONCE", at_once)
    logits, labels = batch(MIXED)
    kept = (draws_of(7, rows) < keep_probabilities(labels, form)).to(torch.float64)
    background = kept[labels == C][:, TAIL > 0]
    assert 0 < background.mean() < 1
    weights = torch.where((labels < C).unsqueeze(1), 1.0 - TAIL, kept)
    check(run(make("drop", name, form=form), logits, labels, seed=7), weighted_negatives(name, logits, labels, weights))


def kept_terms(loss: losses.Loss, foreground: list[int], num_background: int, calls: int) -> torch.Tensor:
    """Which negatives of background have a gradient, [calls, num_background, C]."""
    labels = torch.tensor([*foreground, *[C] * num_background])
    logits = torch.zeros(len(labels), C, dtype=torch.float64)
    generator = torch.Generator().manual_seed(11)
    kept = []
    for _ in range(calls):
        q = logits.clone().requires_grad_(True)
        loss(q, labels, generator=generator).backward()
        assert q.grad is not None
        kept.append(q.grad[len(foreground) :] != 0)
    return torch.stack(kept)


def assert_share(kept: torch.Tensor, probability: float) -> None:
    """Within five standard deviations of the binomial distribution."""
    deviation = math.sqrt(probability * (1.0 - probability) / kept.numel())
    assert abs(kept.double().mean().item() - probability) <= 5.0 * deviation


@pytest.mark.parametrize(("form", "of_others"), [("code", 1.0), ("paper", 0.7)])
def test_drop_keeps_each_background_term_with_the_stated_probability(form: str, of_others: float) -> None:
    # 3 of the 10 foreground samples (labels 1, 3 and 5) are of the tail; background rows do not count in the share.
    foreground = [0, 0, 0, 2, 2, 4, 4, 1, 3, 5]
    kept = kept_terms(make("drop", form=form), foreground, num_background=200, calls=25)
    for column in range(C):
        assert_share(kept[..., column], 0.3 if TAIL[column] else of_others)
    # Each by itself, neither whole rows nor whole columns: two classes both with the product of their probabilities.
    assert_share(kept[..., 1] & kept[..., 3], 0.3 * 0.3)
    assert_share(kept[:, :-1, 1] & kept[:, 1:, 1], 0.3 * 0.3)
    assert_share(kept[:-1, :, 5] & kept[1:, :, 5], 0.3 * 0.3)
    assert_share(kept[..., 0] & kept[..., 1], 0.3 * of_others)


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_drop_leaves_nothing_out_of_a_batch_without_foreground(name: str, form: str) -> None:
    logits, labels = batch([C] * 40)
    check(
        run(make("drop", name, form=form), logits, labels), weighted_negatives(name, logits, labels, torch.ones(40, C))
    )


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_drop_leaves_all_the_tail_out_where_no_foreground_is_of_it(name: str, form: str) -> None:
    logits, labels = batch([0, 2, 4, *[C] * 30])
    weights = (1.0 - TAIL).expand(len(labels), C)  # of the other classes, 1 - 0 in both forms
    check(run(make("drop", name, form=form), logits, labels), weighted_negatives(name, logits, labels, weights))


@pytest.mark.parametrize(("form", "others"), [("code", 1.0), ("paper", 0.0)])
def test_drop_where_all_foreground_is_of_the_tail(form: str, others: float) -> None:
    logits, labels = batch([1, 3, 5, *[C] * 30])
    of_background = torch.where(TAIL > 0, 1.0, others)
    weights = torch.where((labels < C).unsqueeze(1), 1.0 - TAIL, of_background)
    check(run(make("drop", form=form), logits, labels), weighted_negatives("sigmoid", logits, labels, weights))


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_drop_without_background_is_eql(name: str, form: str) -> None:
    logits, labels = batch(FOREGROUND)
    got = run(make("drop", name, background=False, form=form), logits, labels)
    check(got, weighted_negatives(name, logits, labels, (1.0 - TAIL).expand(len(labels), C)))


def test_drops_default_is_the_public_code() -> None:
    logits, labels = batch(MIXED * 5)
    code, paper = (run(make("drop", form=form), logits, labels, seed=3) for form in ("code", "paper"))
    check(run(make("drop"), logits, labels, seed=3), code)
    assert (code[0] - paper[0]).abs() > 1e-3


def test_drop_draws_anew_each_time_and_alike_from_the_same_seed() -> None:
    logits, labels = batch(MIXED * 5)
    loss = make("drop")
    first, again, other = (run(loss, logits, labels, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        by_default = logits.clone().requires_grad_(True)
        loss(by_default, labels).backward()
    assert by_default.grad is not None
    assert torch.equal(by_default.grad, first)


# All three


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize("name", NAMES)
def test_no_class_under_lambda_is_plain_cross_entropy(name: str, form: str) -> None:
    logits, labels = batch(MIXED)
    loss = make(form, name, lambda_=0.0)
    assert loss.tail.sum() == 0
    check(run(loss, logits, labels), weighted_negatives(name, logits, labels, torch.ones(len(labels), C)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_background_rows_is_eqls(name: str) -> None:
    logits, labels = batch(FOREGROUND)
    check(run(make(name), logits, labels), weighted_negatives("sigmoid", logits, labels, eql_weights(labels)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_background_row_has_no_column_and_scores_are_eta(name: str) -> None:
    loss = make(name, "gumbel")
    logits, _ = batch([0, 1, 2])
    assert loss.num_columns(C) == C
    torch.testing.assert_close(loss.scores(logits), ETA["gumbel"](logits))


# Which classes are of the tail


@pytest.fixture
def lvis(real_data: Path) -> tuple[np.ndarray, list[str]]:
    """Train images of each LVIS v1 class [1203], and whether it is rare, common or frequent."""
    path = real_data / "lvis" / "lvis_v1_train_cat_info.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    classes = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda entry: entry["id"])
    return np.array([entry["image_count"] for entry in classes]), [entry["frequency"] for entry in classes]


@pytest.mark.parametrize("name", LOSSES)
def test_lambda_on_lvis(lvis: tuple[np.ndarray, list[str]], name: str) -> None:
    images, groups = lvis
    facts: dict[str, Any] = {"activation": "sigmoid", "image_frequency": images / LVIS_IMAGES, "background": True}
    assert losses.get(name, **facts, lambda_=0.0010062).tail.sum() == 798  # DropLoss's config for v1
    assert losses.get(name, **facts, lambda_=0.0011).tail.sum() == 815  # GOL's
    assert losses.get(name, **facts, lambda_=0.00177).tail.sum() == 876  # of v0.5, copied
    default = losses.get(name, **facts, num_images=LVIS_IMAGES)
    assert default.tail.tolist() == [float(group in "rc") for group in groups]
    assert default.tail.sum() == 337 + 461


@pytest.mark.parametrize("name", LOSSES)
def test_lambda_in_classification_is_a_share_of_the_samples_and_unset_100_samples(name: str) -> None:
    counts = np.array([101, 100, 5000, 99, 1, 0])
    unset = losses.get(name, activation="gumbel", class_counts=counts)
    assert unset.tail.tolist() == [0, 1, 0, 1, 1, 1]
    given = losses.get(name, activation="gumbel", class_counts=counts, lambda_=100 / counts.sum())
    assert given.tail.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", LOSSES)
def test_images_go_before_samples(name: str) -> None:
    facts: dict[str, Any] = {"activation": "sigmoid", "class_counts": np.array([1000, 10, 500])}
    frequency = np.array([0.01, 0.02, 0.5])
    assert losses.get(name, **facts, image_frequency=frequency, lambda_=0.015).tail.tolist() == [1, 0, 0]
    unset = losses.get(name, **facts, image_frequency=frequency, num_images=6000)  # 60, 120 and 3000 images
    assert unset.tail.tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", LOSSES)
def test_frequencies_without_lambda_or_their_images_say_what_to_give(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss {name!r}")) as error:
        losses.get(name, activation="sigmoid", image_frequency=np.array([0.5, 0.001]))
    assert "num_images" in error.value.message
    assert "num_images" in (error.value.hint or "")
    assert "lambda_" in (error.value.hint or "")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("params", [{}, {"lambda_": 0.1}])
def test_no_counts_at_all_is_an_error(name: str, params: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"loss '{name}' needs class_counts"):
        losses.get(name, activation="sigmoid", **params)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        *[(name, "lambda_", value) for name in LOSSES for value in (-1e-9, -1.0, math.nan)],
        *[("beql", "base", value) for value in (1.0, 0.5, 0.0, -4.0, math.nan)],
        *[("drop", "form", value) for value in ("", "Code", "eq7")],
    ],
)
def test_a_parameter_out_of_its_range_is_named(name: str, parameter: str, value: float | str) -> None:
    with pytest.raises(InputError, match=re.escape(f"loss {name!r}: {parameter} = {value!r}")):
        make(name, **{parameter: value})
