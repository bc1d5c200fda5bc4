"""Differences in percentage points, and their intervals, as every table shows them."""

from __future__ import annotations


def signed(points: float) -> str:
    """`+1.8`, `-0.3`; what rounds to nothing is `+0.0`."""
    return f"{_rounded(points):+.1f}"


def bounds(low: float, high: float) -> str:
    """`[1.3, 2.3]`."""
    return f"[{_rounded(low):.1f}, {_rounded(high):.1f}]"


def _rounded(points: float) -> float:
    return round(points, 1) + 0.0  # 0.0 instead of -0.0
