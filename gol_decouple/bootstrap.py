"""Whether a gain over a baseline is more than chance: paired bootstrap over test samples and seeds. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import GROUPS, group_masks
from gol_decouple.metrics import ACCURACIES

REPLICATES = 2000
_BOUNDS = (0.025, 0.975)
# Sums of the same shares in another order differ by about 1e-13: that is no difference of two classifiers.
_DECIMALS = 9
# Samples times replicates that are worked on at a time; 32 MiB an array.
_CELLS = 2**22
# Samples times classifiers, and classifiers, that are; 128 MiB an array.
_RIGHT, _CLASSIFIERS = 2**24, 2**10


@dataclass(frozen=True)
class Gain:
    """A difference of two accuracies in points, and the 95 % interval of what it would be on other test samples."""

    mean: float
    low: float
    high: float

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


Gains = dict[str, Gain | None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Some methods and what they are compared with, on the same N test samples.

    Attributes:
        baseline: whether each of its S_b seeds is right on each sample, [S_b, N].
        hits: of each method the same, [S, N].
        paired: for each method whether its seeds are those of the baseline, in the same order, and drawn as them.
    """

    baseline: NDArray[np.bool_]
    hits: Sequence[NDArray[np.bool_]]
    paired: Sequence[bool]

    @property
    def classifiers(self) -> int:
        """How many seeds there are of the baseline and of all methods."""
        return len(self.baseline) + sum(map(len, self.hits))


def gains(
    hits: Sequence[NDArray[np.bool_]],
    baseline: NDArray[np.bool_],
    labels: NDArray[np.int64],
    train_counts: NDArray[np.int64],
    paired: Sequence[bool],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Gains]:
    """How much better each method is than the baseline, by the accuracies of `metrics.top1_metrics`.

    A replicate draws N of the N test samples with replacement, the same for all methods and the baseline, and of each
    method's seeds as many as it has: the pigeonhole bootstrap (Owen, Annals of Applied Statistics 1(2), 2007), whose
    intervals are rather too wide than too narrow, but for few seeds: where seeds differ by more than samples explain,
    those of two seeds are too narrow by far and those of five somewhat. A class that was not drawn is left out of the
    replicate's means. The bounds are percentiles of the replicates. What a method gets does not depend on the methods
    beside it.

    Args:
        hits: for each method whether each of its S seeds is right on each sample, [S, N].
        baseline: the same of the baseline, [S_b, N].
        labels: true class of each sample, [N].
        train_counts: train samples of each class, [C]; they decide the groups.
        paired: for each method whether its seeds are those of the baseline, in the same order, and drawn as them.

    Returns:
        For each method a gain for each of `metrics.ACCURACIES`, None for a group without a sample.
    """
    comparison = Comparison(baseline, hits, paired)
    return gains_of_all([comparison], labels, train_counts, replicates, seed)[0]


def gains_of_all(
    comparisons: Sequence[Comparison],
    labels: NDArray[np.int64],
    train_counts: NDArray[np.int64],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[list[Gains]]:
    """What `gains` finds of each comparison: they share the draws, which cost more than what is made of them.

    Args:
        labels: true class of each sample, [N].
        train_counts: train samples of each class, [C].
    """
    return [
        found
        for some in _batches(comparisons, len(labels))
        for found in _gains(some, labels, train_counts, replicates, seed)
    ]


def _batches(comparisons: Sequence[Comparison], samples: int) -> Iterator[list[Comparison]]:
    """The comparisons in their order, as many at a time as there is room for."""
    most = min(_CLASSIFIERS, _RIGHT // samples)
    batch: list[Comparison] = []
    for comparison in comparisons:
        if batch and sum(one.classifiers for one in batch) + comparison.classifiers > most:
            yield batch
            batch = []
        batch.append(comparison)
    if batch:
        yield batch


def _gains(
    comparisons: Sequence[Comparison],
    labels: NDArray[np.int64],
    train_counts: NDArray[np.int64],
    replicates: int,
    seed: int,
) -> list[list[Gains]]:
    every = [hits for one in comparisons for hits in (one.baseline, *one.hits)]
    samples = _Samples.sort(np.concatenate(every), labels, train_counts)
    observed = samples.accuracies(np.ones((1, len(labels))))
    bounds = iter(pairwise(np.cumsum([0, *map(len, every)]).tolist()))
    columns = [[slice(*next(bounds)) for _ in (one.baseline, *one.hits)] for one in comparisons]
    draws = np.random.default_rng([seed, 0])
    streams = [[np.random.default_rng([seed, part]) for part in (1, *[2] * len(one.hits))] for one in comparisons]
    drawn = [np.empty((len(one.hits), len(ACCURACIES), replicates)) for one in comparisons]
    at_once = max(_CELLS // len(labels), 1)
    for start in range(0, replicates, at_once):
        stop = min(start + at_once, replicates)
        accuracies = samples.accuracies(_draws(draws, stop - start, len(labels)))
        for one, places, own_streams, differences in zip(comparisons, columns, streams, drawn, strict=True):
            base_seeds = _draws(own_streams[0], stop - start, len(one.baseline))
            base = _mean(accuracies[:, :, places[0]], base_seeds)
            for method, (own, stream) in enumerate(zip(places[1:], own_streams[1:], strict=True)):
                seeds = base_seeds if one.paired[method] else _draws(stream, stop - start, len(one.hits[method]))
                differences[method, :, start:stop] = _mean(accuracies[:, :, own], seeds) - base
    return [_of_methods(observed[:, 0], *parts) for parts in zip(columns, drawn, strict=True)]


def _of_methods(observed: NDArray[np.float64], places: list[slice], drawn: NDArray[np.float64]) -> list[Gains]:
    """The gains of a comparison's methods, from the accuracies that were observed, [5, K], and drawn, [M, 5, R]."""
    base, *own = (observed[:, place].mean(axis=1) for place in places)
    return [
        {name: _gain(mean, values) for name, mean, values in zip(ACCURACIES, method - base, replicates, strict=True)}
        for method, replicates in zip(own, drawn, strict=True)
    ]


@dataclass(frozen=True)
class _Samples:
    """N samples in the order of group and class, so that what belongs together is a slice.

    Attributes:
        right: whether each of K classifiers is right, 0 or 1, [N, K].
        firsts: the first sample of each of the P classes that have one, [P].
        sizes: samples of each of these classes, [P].
        classes: for each group the slice of P that it is.
        spans: for each group the slice of N that it is.
    """

    right: NDArray[np.float64]
    firsts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    classes: list[slice]
    spans: list[slice]

    @classmethod
    def sort(cls, hits: NDArray[np.bool_], labels: NDArray[np.int64], train_counts: NDArray[np.int64]) -> _Samples:
        """From hits [K, N] and labels [N] in any order."""
        masks = group_masks(train_counts)
        group = np.argmax([masks[name] for name in GROUPS], axis=0)
        order = np.lexsort((labels, group[labels]))
        ordered = labels[order]
        firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
        right = np.ascontiguousarray(hits[:, order].T, dtype=np.float64)
        bounds = np.arange(len(GROUPS) + 1)
        return cls(
            right,
            firsts,
            np.diff(firsts, append=len(labels)),
            _slices(np.searchsorted(group[ordered[firsts]], bounds)),
            _slices(np.searchsorted(group[ordered], bounds)),
        )

    def accuracies(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracies in percent, [5, R, K] in the order of ACCURACIES, of samples drawn `counts` times, [R, N].

        NaN where no sample of a group was drawn.
        """
        drawn = np.add.reduceat(counts, self.firsts, axis=1)
        shares = counts / np.repeat(np.maximum(drawn, 1), self.sizes, axis=1)  # those of a class sum to 1
        sums = np.stack([shares[:, span] @ self.right[span] for span in self.spans])
        present = np.stack([(drawn[:, some] > 0).sum(axis=1) for some in self.classes])[:, :, None]
        top1 = counts @ self.right / len(self.right)
        with np.errstate(invalid="ignore"):
            groups = sums / present
        return 100 * np.concatenate([[top1, sums.sum(axis=0) / present.sum(axis=0)], groups])


def _slices(bounds: NDArray[np.intp]) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _draws(stream: np.random.Generator, replicates: int, count: int) -> NDArray[np.float64]:
    """How often each of `count` comes up in `count` draws with replacement, [replicates, count]."""
    counts = np.empty((replicates, count))
    for row, drawn in zip(counts, stream.integers(count, size=(replicates, count), dtype=np.int32), strict=True):
        row[:] = np.bincount(drawn, minlength=count)
    return counts


def _mean(accuracies: NDArray[np.float64], seeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracies [5, R, S] averaged over seeds drawn `seeds` times, [R, S]."""
    mean: NDArray[np.float64] = (accuracies * seeds).sum(axis=2) / seeds.shape[1]
    return mean


def _gain(mean: float, replicates: NDArray[np.float64]) -> Gain | None:
    if np.isnan(mean):
        return None
    low, high = np.quantile(replicates[~np.isnan(replicates)], _BOUNDS)
    return Gain(*(round(float(value), _DECIMALS) for value in (mean, low, high)))
