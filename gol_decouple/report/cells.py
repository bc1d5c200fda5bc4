"""Cells that tables of accuracies and of detections share."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

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


def setting_cells(settings: Sequence[Sequence[Row]], metrics: Mapping[str, str], with_run: bool) -> list[list[str]]:
    """A line of a table for each of some settings: run, method, recipe, seeds, and its figures.

    Args:
        settings: rows that differ in the seed alone, together.
        metrics: column headings, and the fields whose figures stand below them.
    """
    lines = []
    for seeds in settings:
        row = seeds[0]
        names = [*([str(row["run"])] if with_run else []), str(row["method"]), recipe(row), str(len(seeds))]
        lines.append(names + [mean_and_deviation([seed[name] for seed in seeds]) for name in metrics.values()])
    return lines


def best_cells(settings: Sequence[Sequence[Row]], metrics: Mapping[str, str]) -> frozenset[tuple[int, str]]:
    """The number of the setting and the heading of what is best of its column, as printed; all that are equally good.

    A column with one figure has no best one.
    """
    best: set[tuple[int, str]] = set()
    for heading, name in metrics.items():
        means = {place: _printed_mean([seed[name] for seed in seeds]) for place, seeds in enumerate(settings)}
        present = {place: mean for place, mean in means.items() if mean is not None}
        if len(present) > 1:
            best |= {(place, heading) for place, mean in present.items() if mean == max(present.values())}
    return frozenset(best)


def _printed_mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(f"{statistics.fmean(present):.1f}") if present else None
