"""Intervals of gains: against a loop over the same draws, the normal approximation, and what must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gol_decouple import bootstrap
from gol_decouple.bootstrap import Gain, gains
from gol_decouple.metrics import ACCURACIES, top1_metrics

# Classes in another order than their groups, two of them (one many, one few) without a test sample.
TRAIN_COUNTS = np.array([5, 300, 50, 400, 7, 20, 9])
CLASSES = np.array([0, 1, 2, 4, 5])


def random_hits(stream: np.random.Generator, seeds: int, labels: np.ndarray, right: float) -> np.ndarray:
    """Seeds that are mostly right on the same samples, [S, N]."""
    shared = stream.random(len(labels)) < right
    return shared ^ (stream.random((seeds, len(labels))) < 0.1)


def metrics_of(hits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The accuracies of one classifier by the code that manifests are written with; None is NaN."""
    metrics = top1_metrics(np.where(hits, labels, -1), labels, TRAIN_COUNTS)
    return np.array([metrics[name] for name in ACCURACIES], dtype=float)


def as_array(found: dict[str, Gain | None]) -> np.ndarray:
    """Means and bounds, [5, 3]."""
    return np.array([[gain.mean, gain.low, gain.high] for gain in map(found.get, ACCURACIES) if gain])


def test_the_same_as_a_loop_over_the_drawn_samples_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(1)
    # In the order of groups (many, medium, few), so that draws are of samples in this order.
    labels = np.repeat([1, 2, 5, 0, 4], [9, 2, 6, 3, 1])
    hits = [random_hits(stream, seeds, labels, 0.6) for seeds in (3, 3, 2)]
    drawn: dict[tuple[Any, ...], list[np.ndarray]] = {}
    real = bootstrap._draws

    def recorded(generator: np.random.Generator, replicates: int, count: int) -> np.ndarray:
        counts = real(generator, replicates, count)
        drawn.setdefault((count, id(generator)), []).append(counts)
        return counts

    monkeypatch.setattr(bootstrap, "_draws", recorded)
    monkeypatch.setattr(bootstrap, "_CELLS", 50 * len(labels))
    found = gains(hits[1:], hits[0], labels, TRAIN_COUNTS, [True, False], replicates=120)
    samples, base_seeds, own_seeds = (np.concatenate(counts).astype(int) for counts in drawn.values())
    assert samples.shape == (120, 21)
    differences = np.empty((2, 120, 5))
    for replicate in range(120):
        chosen = np.repeat(np.arange(21), samples[replicate])

        def mean(method: int, seeds: np.ndarray, chosen: np.ndarray = chosen) -> np.ndarray:
            one_by_one = [metrics_of(hits[method][seed, chosen], labels[chosen]) for seed in seeds]
            return np.mean(one_by_one, axis=0)

        first = np.repeat(np.arange(3), base_seeds[replicate])
        second = np.repeat(np.arange(2), own_seeds[replicate])
        differences[0, replicate] = mean(1, first) - mean(0, first)
        differences[1, replicate] = mean(2, second) - mean(0, first)
    assert np.isnan(differences).any(), "a group of few samples is not in every draw"
    for method in range(2):
        low, high = np.nanpercentile(differences[method], [2.5, 97.5], axis=0)
        np.testing.assert_allclose(as_array(found[method])[:, 1:], np.stack([low, high], axis=1), atol=1e-8)


def test_a_draw_is_of_as_many_as_there_are_each_as_likely_as_another() -> None:
    counts = bootstrap._draws(np.random.default_rng(0), 20_000, 7)
    assert set(counts.sum(axis=1)) == {7}
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 6 / 7, atol=0.04)
    np.testing.assert_allclose(np.cov(counts[:, 0], counts[:, 1])[0, 1], -1 / 7, atol=0.03)


def test_the_mean_is_the_difference_of_the_metrics_on_the_test_samples() -> None:
    stream = np.random.default_rng(2)
    labels = stream.choice(CLASSES, 83)
    baseline, method = (random_hits(stream, seeds, labels, 0.5) for seeds in (2, 4))
    (found,) = gains([method], baseline, labels, TRAIN_COUNTS, [False], replicates=10)
    wanted = np.mean([metrics_of(one, labels) for one in method], axis=0)
    wanted -= np.mean([metrics_of(one, labels) for one in baseline], axis=0)
    np.testing.assert_allclose(as_array(found)[:, 0], wanted, atol=1e-8)


def test_intervals_of_many_samples_are_those_of_the_normal_approximation() -> None:
    stream = np.random.default_rng(3)
    labels = stream.choice(CLASSES, 6000, p=[0.1, 0.4, 0.2, 0.1, 0.2])
    baseline, method = random_hits(stream, 2, labels, 0.5)
    (found,) = gains([method[None]], baseline[None], labels, TRAIN_COUNTS, [True], replicates=4000)
    difference = 100.0 * (method.astype(float) - baseline)
    assert found["top1"]
    spread = difference.std() / np.sqrt(len(labels))
    assert found["top1"].low == pytest.approx(difference.mean() - 1.96 * spread, abs=0.1 * spread)
    assert found["top1"].high == pytest.approx(difference.mean() + 1.96 * spread, abs=0.1 * spread)
    for name, classes in {"top1_balanced": CLASSES, "top1_few": [0, 4], "top1_medium": [2, 5]}.items():
        of_class = [difference[labels == label] for label in classes]
        mean = np.mean([values.mean() for values in of_class])
        spread = np.sqrt(sum(values.var() / len(values) for values in of_class)) / len(classes)
        gain = found[name]
        assert gain
        assert gain.low == pytest.approx(mean - 1.96 * spread, abs=0.1 * spread), name
        assert gain.high == pytest.approx(mean + 1.96 * spread, abs=0.1 * spread), name


def test_about_95_percent_of_intervals_hold_no_difference_where_there_is_none() -> None:
    stream = np.random.default_rng(4)
    labels, counts = np.repeat([0, 1, 2], 60), np.array([500, 50, 5])
    holding = dict.fromkeys(ACCURACIES, 0)
    for _ in range(400):
        shared = stream.random(180) < 0.5
        own = stream.random((2, 180)) < 0.5
        # Both are right where they agree, and else one of them is: which one is chance.
        baseline, method = np.where(shared, own[0], own)
        (found,) = gains([method[None]], baseline[None], labels, counts, [True], replicates=300)
        for name, gain in found.items():
            assert gain
            holding[name] += not gain.is_more_than_chance
    for name, count in holding.items():
        assert 0.92 <= count / 400 <= 0.98, name


def test_the_same_predictions_are_no_gain_at_all() -> None:
    stream = np.random.default_rng(5)
    labels = stream.choice(CLASSES, 400)
    baseline = random_hits(stream, 3, labels, 0.4)
    others = [random_hits(stream, 3, labels, 0.4) for _ in range(4)]
    for found in gains([*others, baseline], baseline, labels, TRAIN_COUNTS, [True] * 5, replicates=200)[-1].values():
        assert found == Gain(0, 0, 0)
        assert not found.is_more_than_chance


def test_all_right_against_all_wrong_is_100_points() -> None:
    labels = np.tile(CLASSES, 20)
    right = np.ones((2, 100), dtype=bool)
    better, worse = (
        gains([one], ~one, labels, TRAIN_COUNTS, [True], replicates=100)[0].values() for one in (right, ~right)
    )
    assert set(better) == {Gain(100, 100, 100)}
    assert set(worse) == {Gain(-100, -100, -100)}


@pytest.mark.parametrize(
    ("gain", "more"),
    [(Gain(1, 0.1, 2), True), (Gain(-1, -2, -0.1), True), (Gain(1, 0, 2), False), (Gain(0.1, -1, 1.2), False)],
)
def test_a_gain_is_more_than_chance_if_its_interval_excludes_0(gain: Gain, more: bool) -> None:
    assert gain.is_more_than_chance == more


def width(gain: Gain | None) -> float:
    assert gain
    return gain.high - gain.low


def test_pairing_samples_narrows_the_interval_of_methods_that_are_right_on_the_same() -> None:
    stream = np.random.default_rng(6)
    labels = stream.choice(CLASSES, 1000)
    baseline, alike = random_hits(stream, 2, labels, 0.5)
    unlike = stream.random(1000) < alike.mean()
    paired, apart = gains([alike[None], unlike[None]], baseline[None], labels, TRAIN_COUNTS, [True, True])
    for name in ACCURACIES:
        assert width(paired[name]) < 0.75 * width(apart[name])


def with_accuracies(shares: list[float], labels: np.ndarray) -> np.ndarray:
    """A seed for each share of samples that is right, the same in every class; every seed is right where a worse is."""
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = labels == label
        rank[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    return rank < np.array(shares)[:, None]


def test_pairing_seeds_narrows_the_interval_where_the_same_seeds_are_good() -> None:
    labels = np.tile(CLASSES, 200)
    baseline = with_accuracies([0.2, 0.4, 0.6], labels)
    method = with_accuracies([0.3, 0.5, 0.7], labels)
    paired, apart = gains([method, method], baseline, labels, TRAIN_COUNTS, [True, False])
    for name in ACCURACIES:
        assert width(paired[name]) < 0.5 * width(apart[name])


def test_seeds_that_differ_more_widen_the_interval() -> None:
    labels = np.tile(CLASSES, 200)
    baseline = with_accuracies([0.3], labels)
    alike, unlike = with_accuracies([0.5] * 4, labels), with_accuracies([0.3, 0.4, 0.6, 0.7], labels)
    one, other = gains([alike, unlike], baseline, labels, TRAIN_COUNTS, [False, False])
    for name in ACCURACIES:
        assert one[name].mean == pytest.approx(other[name].mean, abs=1)
        assert width(other[name]) > 1.5 * width(one[name])


def test_an_empty_group_has_no_gain() -> None:
    labels = np.array([1, 1, 2, 2, 3])
    hits = np.ones((1, 5), dtype=bool)
    (found,) = gains([hits], ~hits, labels, TRAIN_COUNTS, [True], replicates=50)
    assert found["top1_few"] is None
    assert found["top1_many"] == Gain(100, 100, 100)
    assert list(found) == list(ACCURACIES)
    (no_medium,) = gains([hits], ~hits, np.array([0, 0, 0, 1, 1]), np.array([3, 200]), [True], replicates=50)
    assert [name for name, gain in no_medium.items() if gain is None] == ["top1_medium"]


def test_replicates_without_a_sample_of_a_group_say_nothing_of_it() -> None:
    """The one sample of few is in about 63 % of draws."""
    labels = np.array([1] * 10 + [0])
    hits = labels[None] == 0
    (found,) = gains([hits], np.zeros_like(hits), labels, TRAIN_COUNTS, [True])
    assert found["top1_few"] == Gain(100, 100, 100)
    assert found["top1_many"] == Gain(0, 0, 0)
    assert found["top1_balanced"] == Gain(50, 0, 50)


def test_results_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(7)
    labels = stream.choice(CLASSES, 150)
    baseline, *hits = (random_hits(stream, seeds, labels, 0.5) for seeds in (3, 3, 2, 5))
    paired = [True, False, False]
    first = gains(hits, baseline, labels, TRAIN_COUNTS, paired, replicates=100)
    assert gains(hits, baseline, labels, TRAIN_COUNTS, paired, replicates=100) == first
    assert gains(hits, baseline, labels, TRAIN_COUNTS, paired, replicates=100, seed=1) != first
    (alone,) = gains(hits[2:], baseline, labels, TRAIN_COUNTS, [False], replicates=100)
    np.testing.assert_allclose(as_array(alone), as_array(first[2]), atol=1e-8)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * 150)
    for one, other in zip(gains(hits, baseline, labels, TRAIN_COUNTS, paired, replicates=100), first, strict=True):
        np.testing.assert_allclose(as_array(one), as_array(other), atol=1e-8)


@pytest.mark.parametrize("classifiers", [2**10, 4, 1])
def test_comparisons_beside_each_other_get_what_each_gets_alone(
    monkeypatch: pytest.MonkeyPatch, classifiers: int
) -> None:
    """However many are worked on at a time."""
    monkeypatch.setattr(bootstrap, "_CLASSIFIERS", classifiers)
    stream = np.random.default_rng(3)
    labels, counts = np.repeat([0, 1, 2], 20), np.array([500, 50, 5])
    comparisons = [
        bootstrap.Comparison(
            stream.random((seeds, 60)) < 0.5,
            [stream.random((own, 60)) < 0.6 for own in (seeds, 3)],
            [True, False],
        )
        for seeds in (1, 2, 3)
    ]
    together = bootstrap.gains_of_all(comparisons, labels, counts, replicates=200)
    for one, found in zip(comparisons, together, strict=True):
        assert found == gains(one.hits, one.baseline, labels, counts, one.paired, replicates=200)
    assert bootstrap.gains_of_all([], labels, counts) == []
