"""Cells that tables of accuracies and of detections share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gol_decouple.methods import NEAREST_MEAN
from gol_decouple.report import choices
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.rows import Row

_STARTS = {"fresh": "fresh", "paper": "fresh, weights 0.001, biases -2"}


def recipe(row: Row) -> str:
    """Where the classifier comes from and how long it trained; every changed setting is named."""
    mean = f"mean of {len(row['cascade'])} stages, " if row["cascade"] else ""
    if row["stage"] == 1 and row["epochs"] == 0:
        return f"{mean}stage one, {'random weights' if row['started_from'] == 'random' else 'loaded'}"
    begin = "stage one" if row["stage"] == 1 else _STARTS.get(row["start"], "from stage one")
    if row["stage"] == 2 and row["started_from"] not in (None, "fresh", "stage_one"):
        begin = "from a Softmax classifier trained on the features"
    if row["classifier"] == NEAREST_MEAN:
        begin = "class means"
    begin = f"{mean}{begin}"
    told = ("start", "lr", "epochs", "views")
    others = {name: value for name, value in row["changed_settings"].items() if name not in told}
    changed = [f"{row['views']} views"] if row["views"] > 1 else []
    changed += [f"{name} {value}" for name, value in sorted(others.items())]
    changed += [] if row["trained_on"] == "train" else [f"trained on {row['trained_on']}"]
    changed += choices.in_recipe(row)
    if row["epochs"] == 0:
        return ", ".join([begin, "not trained", *changed])
    return ", ".join([begin, f"{row['epochs']} epochs", f"lr {row['lr']:g}", *changed])


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Of seeds, in one decimal; None, where nothing was measured, is left out."""
    present = [value for value in values if value is not None]
    if not present:
        return EMPTY
    mean = f"{statistics.fmean(present):.1f}"
    return f"{mean}±{statistics.stdev(present):.1f}" if len(present) > 1 else mean
