"""Rows to tables: seeds averaged, one table for each dataset, for the terminal, markdown, csv or json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console

from gol_decouple.class_stats import GROUPS
from gol_decouple.report import choices
from gol_decouple.report.cells import best_cells, setting_cells
from gol_decouple.report.detection_tables import detection_tables
from gol_decouple.report.gain_tables import gain_tables
from gol_decouple.report.layout import EMPTY, TextTable, print_table
from gol_decouple.report.paper import SOURCE
from gol_decouple.report.rows import FIELDS, Row, by_setting, is_unbalanced, settings_text, tested_with


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


def print_leveled(tables: Iterable[tuple[int, TextTable]], console: Console) -> None:
    """Tables one below the other, with an empty line between them."""
    for place, (_, table) in enumerate(tables):
        if place:
            console.print()
        print_table(table, console)


def leveled_tables(rows: Sequence[Row], paper: bool = False) -> Iterator[tuple[int, TextTable]]:
    """The table of each dataset and, a level below, those of gains, each with the level of its heading.

    Args:
        paper: whether figures that papers print stand there too, where what was done is the same.
    """
    for members in _comparable(rows):
        yield 3, _table(members, paper)
        yield from ((4, table) for table in gain_tables(members, _metrics(members)))
    yield from detection_tables(rows, paper)


def _comparable(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["test_settings"] is not None:
            continue
        sizes = tuple(row[f"num_{group}"] for group in GROUPS)
        key = (row["dataset"], row["imbalance_factor"], row["backbone"], row["split"], *sizes)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _table(rows: list[Row], paper: bool) -> TextTable:
    """Columns that would say the same in every row are left out."""
    first, metrics, settings = rows[0], _metrics(rows), by_setting(rows)
    several_runs = len({row["run"] for row in rows}) > 1
    columns = [*(["run"] if several_runs else []), "method", "recipe", "seeds", *metrics]
    cells = setting_cells(settings, metrics, several_runs)
    quoted = _quoted(rows, columns) if paper else []
    run = "" if several_runs else f"{first['run']}: "
    backbone = first["backbone"] or "unknown backbone"
    title = f"{run}{first['dataset']}, imbalance factor {first['imbalance_factor']:g}, {backbone}, {first['split']} (%)"
    notes = ["many: > 100 train images, medium: 20 to 100, few: < 20 (number of classes); mean ± deviation over seeds"]
    notes += choices.notes([seeds[0] for seeds in settings])
    notes += [f"paper: {SOURCE}; quoted, not measured here"] if quoted else []
    best = best_cells(settings, metrics)
    return TextTable(title, columns, cells + quoted, notes, best=best, quoted=len(quoted))


def _quoted(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """A line for each figure that the paper has of what some rows did."""
    figures = {(str(row["activation"]), row["paper_top1"]): None for row in rows if row["paper_top1"] is not None}
    known = [{"method": f"paper: {name}", "recipe": SOURCE, "top-1": f"{top1:.1f}"} for name, top1 in figures]
    return [[one.get(column, EMPTY) for column in columns] for one in known]


def _metrics(rows: Sequence[Row]) -> dict[str, str]:
    """Column headings and the accuracies below them; where the test set is balanced, one of all classes is enough."""
    metrics = {"top-1": "top1"}
    if any(is_unbalanced(row) for row in rows):
        metrics["balanced"] = "top1_balanced"
    return metrics | {f"{group} ({rows[0][f'num_{group}']})": f"top1_{group}" for group in GROUPS}
