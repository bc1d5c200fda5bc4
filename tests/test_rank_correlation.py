"""Rank correlations, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from gol_decouple.metrics import rank_correlation


def test_limits() -> None:
    counts = np.array([1, 5, 20, 400])
    assert rank_correlation(np.array([0.1, 0.2, 0.3, 9.0]), counts) == pytest.approx(1.0)
    assert rank_correlation(-counts, counts) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(np.ones(4), counts))


def test_equal_values_share_their_rank() -> None:
    stream = np.random.default_rng(0)
    for _ in range(5):
        values, others = stream.integers(0, 6, (2, 40))
        assert rank_correlation(values, others) == pytest.approx(float(spearmanr(values, others).statistic))
