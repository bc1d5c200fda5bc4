"""Rows to tables: seeds averaged, one table for each dataset, for the terminal, markdown, csv or json."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from gol_decouple.report.paper import SOURCE
from gol_decouple.report.rows import FIELDS, Row

EMPTY = "–"
# Below this difference, in points, accuracy over samples and over classes is one figure: the test set is balanced.
SAME_POINTS = 0.05
TEXT_COLUMNS = ("run", "method", "recipe")
_GROUPS = ("many", "medium", "few")
_GROUPING = (
    *("run", "dataset", "imbalance_factor", "backbone", "features", "stage", "method", "split"),
    *("start", "lr", "epochs", "views", "num_many", "num_medium", "num_few"),
)


@dataclass(frozen=True)
class DatasetTable:
    """One table: a title, column headings, and cells as text."""

    title: str
    columns: list[str]
    cells: list[list[str]]


def to_json(rows: Sequence[Row]) -> str:
    """A list of objects, one a run and seed."""
    return json.dumps(list(rows), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Row]) -> str:
    """One line a run and seed; empty where a value is None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"changed_settings": _settings(row)})
    return text.getvalue().rstrip("\n")


def to_markdown(rows: Sequence[Row]) -> str:
    """A section a dataset, each with a table."""
    parts = []
    for table in dataset_tables(rows):
        lines = [f"### {table.title}", "", _markdown_line(table.columns)]
        lines.append(_markdown_line(["---" if name in TEXT_COLUMNS else "---:" for name in table.columns]))
        lines += [_markdown_line(cells) for cells in table.cells]
        parts.append("\n".join([*lines, "", *_footnotes(table)]).rstrip())
    return "\n\n".join(parts)


def print_tables(rows: Sequence[Row], console: Console) -> None:
    """Tables for a person to read; in a narrow terminal the recipe wraps, numbers never do."""
    for table in dataset_tables(rows):
        grid = Table(
            box=SIMPLE_HEAD, title=Text(table.title), title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
        )
        for column in table.columns:
            # Group sizes stand below the group's name, so that the columns are as narrow as their numbers.
            heading = Text(column.replace(" (", "\n("))
            justify: JustifyMethod = "left" if column in TEXT_COLUMNS else "right"
            grid.add_column(heading, justify=justify, no_wrap=column != "recipe", overflow="fold")
        for cells in table.cells:
            grid.add_row(*map(Text, cells))
        console.print(grid)
        for note in _footnotes(table):
            console.print(note, markup=False, highlight=False)


def dataset_tables(rows: Sequence[Row]) -> list[DatasetTable]:
    """Rows that can be compared, those with the same data, backbone and group sizes, as one table each."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sizes = tuple(row[f"num_{group}"] for group in _GROUPS)
        key = (row["dataset"], row["imbalance_factor"], row["backbone"], row["split"], *sizes)
        groups.setdefault(key, []).append(row)
    return [_table(members) for members in groups.values()]


def _table(rows: list[Row]) -> DatasetTable:
    """Columns that would say the same in every row are left out."""
    first, groups = rows[0], _by_setting(rows)
    several_runs = len({row["run"] for row in rows}) > 1
    has_paper = any(row["paper_top1"] is not None for row in rows)
    metrics = {"top-1": "top1"}
    if any(_differs(row) for row in rows):
        metrics["balanced"] = "top1_balanced"
    metrics |= {f"{group} ({first[f'num_{group}']})": f"top1_{group}" for group in _GROUPS}
    columns = [*(["run"] if several_runs else []), "method", "recipe", "seeds", *metrics]
    columns += ["paper"] if has_paper else []
    cells = []
    for seeds in groups:
        row = seeds[0]
        texts = [*([str(row["run"])] if several_runs else []), row["method"], _recipe(row), str(len(seeds))]
        texts += [_mean_and_deviation([seed[name] for seed in seeds]) for name in metrics.values()]
        texts += [EMPTY if row["paper_top1"] is None else f"{row['paper_top1']:.1f}"] if has_paper else []
        cells.append(texts)
    run = "" if several_runs else f"{first['run']}: "
    backbone = first["backbone"] or "unknown backbone"
    title = f"{run}{first['dataset']}, imbalance factor {first['imbalance_factor']:g}, {backbone}, {first['split']} (%)"
    return DatasetTable(title, columns, cells)


def _by_setting(rows: list[Row]) -> list[list[Row]]:
    """Rows that differ in the seed alone, together."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (*(row[name] for name in _GROUPING), json.dumps(row["changed_settings"], sort_keys=True))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _recipe(row: Row) -> str:
    """Where the classifier comes from and how long it trained; every changed setting is named."""
    begin = "stage one" if row["stage"] == 1 else "fresh" if row["start"] == "fresh" else "from stage one"
    if row["started_from"] not in (None, "fresh", "stage_one"):
        begin = "from a Softmax classifier trained on the features"
    told = ("start", "lr", "epochs", "views")
    others = {name: value for name, value in row["changed_settings"].items() if name not in told}
    changed = [f"{row['views']} views"] if row["views"] > 1 else []
    changed += [f"{name} {value}" for name, value in sorted(others.items())]
    if row["epochs"] == 0:
        return f"{begin}, loaded" if row["stage"] == 1 else ", ".join([begin, "not trained", *changed])
    return ", ".join([begin, f"{row['epochs']} epochs", f"lr {row['lr']:g}", *changed])


def _settings(row: Row) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(row["changed_settings"].items()))


def _differs(row: Row) -> bool:
    balanced = row["top1_balanced"]
    return balanced is not None and abs(row["top1"] - balanced) > SAME_POINTS


def _mean_and_deviation(values: list[float | None]) -> str:
    present = [value for value in values if value is not None]
    if not present:
        return EMPTY
    mean = f"{statistics.fmean(present):.1f}"
    return f"{mean}±{statistics.stdev(present):.1f}" if len(present) > 1 else mean


def _footnotes(table: DatasetTable) -> list[str]:
    notes = ["many: > 100 train images, medium: 20 to 100, few: < 20 (number of classes); mean ± deviation over seeds"]
    if "paper" in table.columns:
        notes.append(f"paper: {SOURCE}; quoted, not measured here")
    return notes


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
