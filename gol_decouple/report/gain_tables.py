"""Rows with gains to tables: one line for each stage-two setting, one table for each baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gol_decouple.bootstrap import REPLICATES, Gain
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.names import setting_names, shown_baseline
from gol_decouple.report.points import bounds, signed
from gol_decouple.report.rows import Row, by_setting


def gain_tables(rows: Sequence[Row], metrics: Mapping[str, str]) -> list[TextTable]:
    """Tables of the rows that have gains (see `gains.add_gains`), none if there are no such rows.

    Args:
        metrics: column headings, and the accuracies whose gains stand below them.
    """
    baselines = dict.fromkeys(row["baseline"] for row in rows if row["baseline"] is not None)
    every = by_setting(rows)
    return [_table([row for row in rows if row["baseline"] == name], every, metrics) for name in baselines]


def _table(rows: list[Row], every: list[list[Row]], metrics: Mapping[str, str]) -> TextTable:
    settings = by_setting(rows)
    several_runs = len({row["run"] for row in rows}) > 1
    recipes = [_recipe(setting[0], settings) for setting in settings]
    has_recipe = any(recipes)
    cells = []
    for setting, recipe in zip(settings, recipes, strict=True):
        row = setting[0]
        texts = [*([str(row["run"])] if several_runs else []), row["method"], *([recipe] if has_recipe else [])]
        cells.append([*texts, *(_gain(row, name) for name in metrics.values())])
    columns = [*(["run"] if several_runs else []), "method", *(["recipe"] if has_recipe else []), *metrics]
    baseline = shown_baseline(rows[0]["baseline"])
    title = f"gain over {baseline}, points, 95 % intervals"
    notes = [*_notes(settings, baseline), *_without_predictions(settings, every)]
    return TextTable(title, columns, cells, notes, has_intervals=True)


def _recipe(row: Row, settings: list[list[Row]]) -> str:
    """What tells a method's settings of one run apart; nothing where there is one."""
    same = [one[0] for one in settings if (one[0]["run"], one[0]["method"]) == (row["run"], row["method"])]
    if len(same) == 1:
        return ""
    changes = row["changed_settings"]
    return ", ".join(f"{name} {value}" for name, value in sorted(changes.items())) or "defaults"


def _gain(row: Row, name: str) -> str:
    mean, low, high = (row[f"gain_{name}{part}"] for part in ("", "_low", "_high"))
    if mean is None:
        return EMPTY
    mark = "*" if Gain(mean, low, high).is_more_than_chance else ""
    return f"{signed(mean)}{mark} {bounds(low, high)}"


def _notes(settings: list[list[Row]], baseline: str) -> list[str]:
    notes = [
        f"baseline: {baseline}, on the same test samples; intervals of {REPLICATES:,} draws of test samples and of "
        "stage two's seeds",
        "an interval that includes 0 may be chance; of 20 comparisons about one excludes 0 (*) by chance",
    ]
    if any(len(setting) == 1 for setting in settings):
        notes.append("where there is one seed, chance of the training is not in the interval")
    return notes


def _without_predictions(settings: list[list[Row]], every: list[list[Row]]) -> list[str]:
    """A note for each setting that has fewer rows here than in the report.

    Args:
        every: all settings of the report, their rows with and without gains.
    """
    seeds = {row["path"]: len(setting) for setting in every for row in setting}
    fewer = [
        (name, len(setting), seeds[setting[0]["path"]])
        for setting, name in zip(settings, setting_names(settings), strict=True)
        if len(setting) < seeds[setting[0]["path"]]
    ]
    return [
        f"{name}: {own} of {most} seeds {'has' if own == 1 else 'have'} predictions of the same test samples"
        for name, own, most in fewer
    ]
