"""Whether two means differ by more than the noise: of seeds where both have several, else of the test samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SEEDS = "seeds"
TEST_SAMPLES = "test samples"
LEVEL = 0.95
_TWO_SIDED = 1 - (1 - LEVEL) / 2
# Sums of the same figures in another order differ by about 1e-13: that is no difference.
_DECIMALS = 9


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a difference in points.

    Attributes:
        low, high: its bounds.
        p_value: of no difference, two-sided.
        noise: what the interval knows of: SEEDS, or TEST_SAMPLES.
    """

    low: float
    high: float
    p_value: float
    noise: str


def of_seeds(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Of mean(b) - mean(a), from two values or more each, by Welch's t (Biometrika 34, 1947).

    The two may vary by different amounts. The degrees of freedom are Welch's and Satterthwaite's. Where no value varies
    nothing is left to chance, and the interval is the difference itself.
    """
    from scipy.special import stdtr, stdtrit  # a third of a second, for those who compare

    shares = [statistics.variance(values) / len(values) for values in (a, b)]
    difference = round(statistics.fmean(b) - statistics.fmean(a), _DECIMALS)
    variance = sum(shares)
    if math.sqrt(variance) < 10.0**-_DECIMALS:
        return Interval(difference, difference, 0.0 if difference else 1.0, SEEDS)
    # As shares of the whole, whose squares cannot vanish.
    freedom = 1 / sum((share / variance) ** 2 / (len(values) - 1) for share, values in zip(shares, (a, b), strict=True))
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, _TWO_SIDED)) * error
    p_value = 2 * float(stdtr(freedom, -abs(difference) / error))
    return Interval(difference - half, difference + half, p_value, SEEDS)


def of_mean(values: Sequence[float]) -> Interval:
    """Of the mean of two values or more, each of another seed, by Student's t (Biometrika 6, 1908)."""
    from scipy.special import stdtr, stdtrit

    mean = round(statistics.fmean(values), _DECIMALS)
    error = statistics.stdev(values) / math.sqrt(len(values))
    if error < 10.0**-_DECIMALS:
        return Interval(mean, mean, 0.0 if mean else 1.0, SEEDS)
    half = float(stdtrit(len(values) - 1, _TWO_SIDED)) * error
    return Interval(mean - half, mean + half, 2 * float(stdtr(len(values) - 1, -abs(mean) / error)), SEEDS)


def of_test_samples(a: float, samples_a: float, b: float, samples_b: float) -> Interval:
    """Of b - a, two accuracies in percent of so many test samples each, by Agresti and Caffo (American Statistician
    54, 2000): two proportions, each with one more sample that is right and one that is wrong.

    Too wide where both were tested on the same samples, which are as hard for both, and for a mean over classes with
    equally many samples, whose variance is below that of all samples in one. Chance of the training is not in it.
    """
    sizes = (samples_a + 2, samples_b + 2)
    percents = [min(max(percent, 0.0), 100.0) for percent in (a, b)]  # means are off by what floats cannot say
    shares = [(percent / 100 * (size - 2) + 1) / size for percent, size in zip(percents, sizes, strict=True)]
    error = math.sqrt(sum(share * (1 - share) / size for share, size in zip(shares, sizes, strict=True)))
    middle = shares[1] - shares[0]
    half = statistics.NormalDist().inv_cdf(_TWO_SIDED) * error
    p_value = math.erfc(abs(middle) / error / math.sqrt(2))
    return Interval(100 * (middle - half), 100 * (middle + half), p_value, TEST_SAMPLES)


def beyond_all(p_values: Sequence[float]) -> list[bool]:
    """Which differences are beyond chance however many were looked at, by Holm (Scandinavian Journal of Statistics 6,
    1979): with probability 0.95 none of them is chance, whether or not they depend on each other.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    beyond = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > (1 - LEVEL) / (len(p_values) - rank):
            break
        beyond[place] = True
    return beyond
