"""What `tune` found, as a table and in words."""

from __future__ import annotations

from typing import Any

from gol_decouple.report.choices import settings_in_words
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.points import bounds, signed

STAGE_ONE = "stage_one"


def table(tuning: dict[str, Any]) -> TextTable:
    """A line for each method, the best first, and below them which one to ship, and why."""
    has_baseline = tuning[STAGE_ONE] is not None
    columns = ["method", "recipe", "tried", "top-1", *(["gain"] if has_baseline else []), "to the best"]
    cells = []
    for row in tuning["methods"]:
        tried, left = len(row["tried"]), row["left"]
        texts = [row["method"], settings_in_words(row["settings"]), f"{tried} of {tried + left}"]
        texts.append(f"{row['value']:.1f}")
        texts += [_interval(row["gain"])] if has_baseline else []
        cells.append([*texts, _interval(row["over_best"])])
    title = f"what was tried on {tuning['held_out']}, {tuning['samples']:,} samples, mean over classes (%)"
    return TextTable(title, columns, cells, [*_notes(tuning), "", *_decision(tuning)], has_intervals=True)


def _notes(tuning: dict[str, Any]) -> list[str]:
    notes = ["differences in points, with 95 % intervals; the best of many is always a little lucky on what chose it"]
    if tuning["untried"]:
        notes.append(f"no time for, or failed: {', '.join(tuning['untried'])}")
    return notes


def _decision(tuning: dict[str, Any]) -> list[str]:
    best, baseline = tuning["methods"][0], tuning[STAGE_ONE]
    equal = f" Not worse by more than chance: {', '.join(tuning['equals'])}." if tuning["equals"] else ""
    if tuning["ship"] == STAGE_ONE:
        return [
            f"Keep the stage-one classifier ({baseline:.1f}): the best method, {best['method']} ({best['value']:.1f}), "
            "gains no more than chance."
        ]
    over = f", {_interval(best['gain'])} over stage one's {baseline:.1f}" if baseline is not None else ""
    return [f"Ship {best['method']}: it has the best mean over classes, {best['value']:.1f}{over}.{equal}"]


def _interval(values: list[float] | None) -> str:
    if values is None:
        return EMPTY
    mean, *interval = values
    return f"{signed(mean)} {bounds(*interval)}"
