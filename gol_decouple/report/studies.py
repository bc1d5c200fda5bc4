"""Two studies side by side: which results moved from A to B, by how much, and whether by more than the noise."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gol_decouple.class_stats import GROUPS
from gol_decouple.errors import InputError, few
from gol_decouple.report import noise
from gol_decouple.report.rows import Row, is_unbalanced
from gol_decouple.report.study_matching import RECIPE, SIZES, Setting, match, settings

# Of a method, which a later version of it may have changed.
_PARTS = ("activation", "loss", "sampler", "classifier", "started_from")


@dataclass(frozen=True)
class Move:
    """What one metric is in A and in B, in points.

    Attributes:
        a, b: mean over trainings, None for an empty group.
        deviation_a, deviation_b: over trainings, None of one.
        interval: None where nothing tells of the noise.
        is_beyond_all: also if all comparisons are allowed for (see `noise.beyond_all`).
    """

    metric: str
    a: float | None
    b: float | None
    deviation_a: float | None
    deviation_b: float | None
    interval: noise.Interval | None
    is_beyond_all: bool = False

    @property
    def difference(self) -> float | None:
        return None if self.a is None or self.b is None else round(self.b - self.a, 9)

    @property
    def is_more_than_noise(self) -> bool | None:
        """Whether the interval excludes 0; None where there is none."""
        return None if self.interval is None else self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True, eq=False)
class Pair:
    """One result in both studies, its metrics, and in words what else differs between the two."""

    a: Setting
    b: Setting
    moves: list[Move]
    differs: list[str]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All results of two studies, and those that only one of them has."""

    pairs: list[Pair]
    only_a: list[Setting]
    only_b: list[Setting]

    @property
    def moves(self) -> list[Move]:
        """Those whose noise is known."""
        return [move for pair in self.pairs for move in pair.moves if move.interval is not None]


def compare(a: Sequence[Row], b: Sequence[Row]) -> Comparison:
    """Match the rows of two studies by what they are, and compare their metrics.

    Rows are one result if dataset, imbalance factor, backbone, stage, method, changed settings, split and test settings
    are the same. Where a study has several such, features, the run's name or its stage one have to be the same too.

    The interval of a difference is that of the seeds where both have two trainings or more (`noise.of_seeds`), else
    that of the test samples alone (`noise.of_test_samples`), which AP has none of. Trainings are the seeds of stage two
    if both rest on the same features; otherwise those of stage one, of which each counts once, by the mean over stage
    two's seeds.

    Raises:
        InputError: they have no result in common.
    """
    pairs, only_a, only_b = match(settings(a), settings(b))
    if not pairs:
        told = "; ".join(
            f"{name}: {few(sorted({_what(one) for one in of}))}" for name, of in (("A", only_a), ("B", only_b))
        )
        hint = "results are matched by dataset, imbalance factor, backbone, stage, method, changed settings and split"
        raise InputError(f"the two have no result in common; {told}", hint)
    found = [Pair(one, other, _moves(one, other), _differs(one, other)) for one, other in pairs]
    return Comparison(_with_holm(found), only_a, only_b)


def _what(setting: Setting) -> str:
    row = setting.first
    return f"{row['dataset']} (imbalance factor {row['imbalance_factor']:g}, {row['backbone']}) {setting.name}"


def _with_holm(pairs: list[Pair]) -> list[Pair]:
    intervals = [move.interval for pair in pairs for move in pair.moves if move.interval is not None]
    beyond = iter(noise.beyond_all([interval.p_value for interval in intervals]))
    marked = []
    for pair in pairs:
        moves = [replace(move, is_beyond_all=next(beyond)) if move.interval else move for move in pair.moves]
        marked.append(replace(pair, moves=moves))
    return marked


def _moves(a: Setting, b: Setting) -> list[Move]:
    same_features = a.features == b.features and len(a.features) == 1
    found = []
    for name in _metrics(a, b):
        values = [one.trainings(name, same_features) for one in (a, b)]
        if not any(values):
            continue
        means = [statistics.fmean(of) if of else None for of in values]
        deviations = [statistics.stdev(of) if len(of) > 1 else None for of in values]
        interval = _interval(a, b, name, values)
        found.append(Move(name, means[0], means[1], deviations[0], deviations[1], interval))
    return found


def _interval(a: Setting, b: Setting, name: str, values: list[list[float]]) -> noise.Interval | None:
    if not all(values):
        return None
    if min(map(len, values)) > 1:
        return noise.of_seeds(*values)
    samples = [_samples(one.first, name) for one in (a, b)]
    if samples[0] is None or samples[1] is None:
        return None
    means = [statistics.fmean(of) for of in values]
    return noise.of_test_samples(means[0], samples[0], means[1], samples[1])


def _samples(row: Row, name: str) -> float | None:
    """Test samples behind an accuracy; None where the row does not tell.

    Of a group, its share of the classes: only of a test set that is balanced, where all accuracies over samples and
    over classes are one.
    """
    if row["samples"] is None or row["test_settings"] is not None:
        return None
    if name == "top1":
        return float(row["samples"])
    classes = [row[size] for size in SIZES]
    if name == "top1_balanced" or is_unbalanced(row) or None in classes or not sum(classes):
        return None
    return float(row["samples"] * row[name.replace("top1", "num")] / sum(classes))


def _metrics(a: Setting, b: Setting) -> Iterator[str]:
    if a.first["test_settings"] is not None:
        of = "" if any(row["ap"] is not None for row in (*a.rows, *b.rows)) else "_box"
        yield from (f"{name}{of}" for name in ("ap", "ap_r", "ap_c", "ap_f"))
        return
    yield "top1"
    if any(is_unbalanced(row) for row in (*a.rows, *b.rows)):
        yield "top1_balanced"
    yield from (f"top1_{group}" for group in GROUPS)


def _differs(a: Setting, b: Setting) -> list[str]:
    told = [
        f"{name} {_text(a.first[name])} and {_text(b.first[name])}"
        for name in (*RECIPE, *_PARTS)
        if a.first[name] != b.first[name]
    ]
    sizes = ["/".join(_text(one.first[size]) for size in SIZES) for one in (a, b)]
    if sizes[0] != sizes[1]:
        told.append(f"many/medium/few classes {sizes[0]} and {sizes[1]}")
    if (samples := [one.first["samples"] for one in (a, b)])[0] != samples[1] and None not in samples:
        told.append(f"test samples {samples[0]:,} and {samples[1]:,}")
    if a.features and b.features and a.features != b.features:
        told.append("other features")
    return told


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
