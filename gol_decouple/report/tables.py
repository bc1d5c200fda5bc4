"""Rows to tables: seeds averaged, one table for each dataset, for the terminal, markdown, csv or json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from gol_decouple.class_stats import GROUPS
from gol_decouple.report import choices
from gol_decouple.report.cells import mean_and_deviation, recipe
from gol_decouple.report.detection_tables import detection_tables
from gol_decouple.report.gain_tables import gain_tables
from gol_decouple.report.layout import EMPTY, TextTable, markdown, print_table
from gol_decouple.report.paper import SOURCE
from gol_decouple.report.rows import FIELDS, Row, by_setting, settings_text, tested_with

# Below this difference, in points, accuracy over samples and over classes is one figure: the test set is balanced.
SAME_POINTS = 0.05


def to_json(rows: Sequence[Row]) -> str:
    """A list of objects, one a run and seed."""
    return json.dumps(list(rows), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Row]) -> str:
    """One line a run and seed; empty where a value is None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        tried = None if row["tried"] is None else json.dumps(row["tried"])
        settings = tested_with(row) if row["test_settings"] else None
        texts = {"changed_settings": settings_text(row), "tried": tried, "test_settings": settings}
        texts["cascade"] = " ".join(row["cascade"]) if row["cascade"] else None
        writer.writerow(row | texts)
    return text.getvalue().rstrip("\n")


def to_markdown(rows: Sequence[Row]) -> str:
    """A section a dataset, each with a table, and one of gains where rows have them."""
    return "\n\n".join(markdown(table, level) for level, table in _all_tables(rows))


def print_tables(rows: Sequence[Row], console: Console) -> None:
    """Tables for a person to read; in a narrow terminal the recipe wraps, numbers never do."""
    for place, (_, table) in enumerate(_all_tables(rows)):
        if place:
            console.print()
        print_table(table, console)


def dataset_tables(rows: Sequence[Row]) -> list[TextTable]:
    """Rows that can be compared, those with the same data, backbone and group sizes, as one table each.

    Rows of detections have tables of their own (see `detection_tables`).
    """
    return [_table(members) for members in _comparable(rows)] + [table for _, table in detection_tables(rows)]


def _all_tables(rows: Sequence[Row]) -> Iterator[tuple[int, TextTable]]:
    """The table of each dataset and, a level below, those of gains."""
    for members in _comparable(rows):
        yield 3, _table(members)
        yield from ((4, table) for table in gain_tables(members, _metrics(members)))
    yield from detection_tables(rows)


def _comparable(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["test_settings"] is not None:
            continue
        sizes = tuple(row[f"num_{group}"] for group in GROUPS)
        key = (row["dataset"], row["imbalance_factor"], row["backbone"], row["split"], *sizes)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _table(rows: list[Row]) -> TextTable:
    """Columns that would say the same in every row are left out."""
    first, metrics = rows[0], _metrics(rows)
    several_runs = len({row["run"] for row in rows}) > 1
    has_paper = any(row["paper_top1"] is not None for row in rows)
    columns = [*(["run"] if several_runs else []), "method", "recipe", "seeds", *metrics]
    columns += ["paper"] if has_paper else []
    cells = []
    for seeds in by_setting(rows):
        row = seeds[0]
        texts = [*([str(row["run"])] if several_runs else []), row["method"], recipe(row), str(len(seeds))]
        texts += [mean_and_deviation([seed[name] for seed in seeds]) for name in metrics.values()]
        texts += [EMPTY if row["paper_top1"] is None else f"{row['paper_top1']:.1f}"] if has_paper else []
        cells.append(texts)
    run = "" if several_runs else f"{first['run']}: "
    backbone = first["backbone"] or "unknown backbone"
    title = f"{run}{first['dataset']}, imbalance factor {first['imbalance_factor']:g}, {backbone}, {first['split']} (%)"
    notes = ["many: > 100 train images, medium: 20 to 100, few: < 20 (number of classes); mean ± deviation over seeds"]
    notes += choices.notes([seeds[0] for seeds in by_setting(rows)])
    notes += [f"paper: {SOURCE}; quoted, not measured here"] if has_paper else []
    return TextTable(title, columns, cells, notes)


def _metrics(rows: Sequence[Row]) -> dict[str, str]:
    """Column headings and the accuracies below them; where the test set is balanced, one of all classes is enough."""
    metrics = {"top-1": "top1"}
    if any(_differs(row) for row in rows):
        metrics["balanced"] = "top1_balanced"
    return metrics | {f"{group} ({rows[0][f'num_{group}']})": f"top1_{group}" for group in GROUPS}


def _differs(row: Row) -> bool:
    balanced = row["top1_balanced"]
    return balanced is not None and abs(row["top1"] - balanced) > SAME_POINTS
