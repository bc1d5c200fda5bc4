"""What the values of a report's row can be: a run folder can be anybody's, and its manifest say anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gol_decouple.class_stats import GROUPS
from gol_decouple.metrics import ACCURACIES, CALIBRATION
from gol_decouple.reported_ap import FREQUENCIES, REPORTED

# What `gains.add_gains` fills in, in points: the gain and the bounds of its interval.
_OF_GAIN = {name: [f"gain_{name}{part}" for part in ("", "_low", "_high")] for name in ACCURACIES}
GAINS = tuple(name for names in _OF_GAIN.values() for name in names)

Kind = tuple[str, Callable[[Any], bool]]

_ROUNDING = 1e-6


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_percent(value: Any) -> bool:
    """Means of many are off by what floats cannot say."""
    return _is_number(value) and -_ROUNDING <= value <= 100 + _ROUNDING


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_settings(value: Any) -> bool:
    return isinstance(value, dict)


def _is_tried(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("settings"), dict)
        and (one.get("value") is None or _is_number(one["value"]))
        for one in value
    )


def _is_cascade(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_tested(value: Any) -> bool:
    numbers = ("score_threshold", "nms_threshold", "max_detections", "images")
    return isinstance(value, dict) and all(_is_number(value.get(name)) for name in numbers)


_TEXT: Kind = ("text", _is_text)
_NUMBER: Kind = ("a number", _is_number)
_PERCENT: Kind = ("a number from 0 to 100", _is_percent)
_WHOLE: Kind = ("a whole number", _is_whole)
_NEEDED: dict[str, Kind] = {
    **dict.fromkeys(("run", "dataset", "method", "split", "trained_on", "features"), _TEXT),
    "imbalance_factor": _NUMBER,
    "stage": ("1 or 2", lambda value: value in (1, 2)),
    "epochs": _NUMBER,
    "views": _WHOLE,
    "changed_settings": ("an object", _is_settings),
}
_OR_NONE: dict[str, Kind] = {
    **dict.fromkeys(
        ("backbone", "activation", "loss", "sampler", "classifier", "start", "started_from", "chosen_on"), _TEXT
    ),
    **dict.fromkeys(("lr", "temperature", "seconds", *CALIBRATION), _NUMBER),
    **dict.fromkeys((*ACCURACIES, "paper_top1"), _PERCENT),
    **dict.fromkeys(GAINS, _NUMBER),
    **dict.fromkeys((*REPORTED, *(f"{name}_box" for name in REPORTED)), _NUMBER),
    **dict.fromkeys((*(f"num_{group}" for group in GROUPS), *(f"num_{letter}" for letter in FREQUENCIES)), _WHOLE),
    "seed": _WHOLE,
    "samples": ("a whole number above 0", lambda value: _is_whole(value) and value > 0),
    "tried": ("a list of settings and values", _is_tried),
    "cascade": ("a list of texts", _is_cascade),
    "test_settings": ("the settings of a test", _is_tested),
}


def check_kinds(row: Mapping[str, Any]) -> None:
    """Refuse a row that a report cannot print.

    Raises:
        TypeError: a value of another kind, in words.
    """
    for name, (told, fits) in _NEEDED.items():
        if not fits(row[name]):
            raise TypeError(f"{name} is {row[name]!r:.50}, expected {told}")
    if row["test_settings"] is None and row["top1"] is None and any(row[name] is not None for name in ACCURACIES):
        raise TypeError("it has accuracies of classes and no top1")
    for names in _OF_GAIN.values():
        gain = [row[name] for name in names]
        if None in gain and gain != [None] * 3:
            raise TypeError(f"{names[0]} has no interval, or there is one of no gain")
    for name, (told, fits) in _OR_NONE.items():
        if row[name] is not None and not fits(row[name]):
            raise TypeError(f"{name} is {row[name]!r:.50}, expected {told}")
