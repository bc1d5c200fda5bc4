"""What a rerun found, as a table."""

from __future__ import annotations

from typing import Any

from gol_decouple.report.choices import settings_in_words
from gol_decouple.report.layout import EMPTY, TextTable


def table(outcome: dict[str, Any]) -> TextTable:
    """A line for everything that was repeated, and below them in what the environments differ."""
    cells = []
    for one in outcome["compared"]:
        recipe = "" if one["settings"] is None else settings_in_words(one["settings"])
        seed = "" if one["seed"] is None else f"seed {one['seed']}"
        told = ", ".join(part for part in (recipe, seed) if part)
        cells.append([one["what"], told, _weights(one), _percent(one["before"]), _percent(one["after"])])
    notes = ["equal: bit by bit; otherwise the largest difference of weights or features; top-1, or AP of detections"]
    if outcome["environment"]:
        notes.append(f"environment: {'; '.join(outcome['environment'])}")
    notes += [f"left out: {told}" for told in outcome["left_out"]]
    return TextTable(
        f"rerun of {outcome['of']}", ["method", "recipe", "again", "before (%)", "after (%)"], cells, notes
    )


def _weights(one: dict[str, Any]) -> str:
    if one["equal"]:
        return "equal"
    if one["difference"] is None:
        return "other"
    return f"{one['difference']:.2g} apart" if one["difference"] else "other figures"


def _percent(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.1f}"
