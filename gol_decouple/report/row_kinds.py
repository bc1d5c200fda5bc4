"""What the values of a report's row can be: manifests are files, and files can hold anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gol_decouple.class_stats import GROUPS
from gol_decouple.metrics import ACCURACIES, CALIBRATION

_TEXTS = ("run", "dataset", "method", "activation", "loss", "classifier", "trained_on", "split", "features")
_TEXTS_OR_NOTHING = ("backbone", "sampler", "start", "started_from", "chosen_on")
_INTEGERS = ("stage", "seed", "epochs", "views")
_NUMBERS = ("imbalance_factor", "seconds")
_NUMBERS_OR_NOTHING = ("lr", "temperature", *ACCURACIES, *(f"num_{group}" for group in GROUPS), *CALIBRATION)


def wrong_value(row: Mapping[str, Any], also_numbers: tuple[str, ...]) -> str | None:
    """What is wrong with the first value that is of no kind which tables can show, or None.

    Args:
        also_numbers: names of more values that are numbers or None.
    """
    for names, fits, kind in (
        (_TEXTS, _is_text, "a text"),
        (_TEXTS_OR_NOTHING, _or_nothing(_is_text), "a text"),
        (_INTEGERS, _is_integer, "an integer"),
        (_NUMBERS, _is_number, "a number"),
        ((*_NUMBERS_OR_NOTHING, *also_numbers), _or_nothing(_is_number), "a number"),
        (("changed_settings",), lambda value: isinstance(value, dict), "an object"),
    ):
        for name in names:
            if not fits(row[name]):
                return f"{name} is {row[name]!r:.60}, expected {kind}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _or_nothing(fits: Any) -> Any:
    return lambda value: value is None or fits(value)
