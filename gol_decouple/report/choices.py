"""How a classifier's settings were chosen, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gol_decouple.errors import few
from gol_decouple.report.rows import Row
from gol_decouple.runs import setting_text

# Above this, a table's notes would be longer than the table.
_MOST_NOTES = 5
_MOST_TRIED = 8


def in_recipe(row: Row) -> list[str]:
    """What a recipe says of the choice, if there was one."""
    return [f"best of {len(row['tried'])} on {row['chosen_on']}"] if _was_chosen(row) else []


def notes(rows: Sequence[Row]) -> list[str]:
    """What was tried, a line for each row that was chosen among several; where these are many, where to read it."""
    chosen = list(filter(_was_chosen, rows))
    if len(chosen) > _MOST_NOTES:
        return [
            "best on what was held out, by the mean over classes; choice.json beside a classifier has what was tried"
        ]
    return [f"{row['method']}, {row['chosen_on']}, mean over classes: {_tried(row['tried'])}" for row in chosen]


def settings_in_words(settings: dict[str, Any]) -> str:
    """Settings that differ from their method's own."""
    return ", ".join(f"{name} {setting_text(value)}" for name, value in sorted(settings.items())) or "defaults"


def _was_chosen(row: Row) -> bool:
    return row["tried"] is not None and len(row["tried"]) > 1


def _tried(tried: list[dict[str, Any]]) -> str:
    """Every setting and its value, without what all have in common, the best first."""
    common = set.intersection(*({(name, str(value)) for name, value in one["settings"].items()} for one in tried))
    told = []
    for one in sorted(tried, key=lambda one: -(one["value"] if one["value"] is not None else -1.0)):
        own = {name: value for name, value in one["settings"].items() if (name, str(value)) not in common}
        told.append(f"{'failed' if one['value'] is None else format(one['value'], '.1f')} ({settings_in_words(own)})")
    return few(told, _MOST_TRIED)
