"""Which of a run's classifiers a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gol_decouple.analyses.sources import OfSetting, by_setting

# So many classifiers can be told apart in a figure.
DRAWN = 6

T = TypeVar("T", bound=OfSetting)


def drawn(found: Sequence[T]) -> list[T]:
    """Those that a figure shows: all if there is room, else the first of each setting, as far as there is."""
    if len(found) > DRAWN:
        found = [members[0] for members in by_setting(found).values()]
    return list(found[:DRAWN])
