"""The report's tables as a page shows them, with the texts that its buttons copy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gol_decouple.report.layout import TEXT_COLUMNS, TextTable, markdown
from gol_decouple.report.rows import Row
from gol_decouple.report.tables import all_tables

_NOT_COMPARED = ("seeds", "paper")
_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")
_TOP = 3


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and what it is: `kind` text or number; `is_name`: it says what its row is of."""

    text: str
    kind: str
    is_name: bool
    is_recipe: bool
    is_best: bool


@dataclass(frozen=True)
class PageRow:
    """Cells, the method and recipe that they are of, if the table has them, and whether somebody else measured them."""

    method: str | None
    recipe: str | None
    cells: list[Cell]
    is_quoted: bool


@dataclass(frozen=True)
class PageTable:
    """A table.

    Attributes:
        level: of its heading.
        label: names it among all of the page.
        columns: headings, and whether below them stand texts or numbers.
        rows: below the headings.
        has_methods: whether its rows are of methods.
        markdown, latex: what is copied.
    """

    level: int
    title: str
    label: str
    columns: list[tuple[str, str]]
    rows: list[PageRow]
    has_methods: bool
    notes: list[str]
    markdown: str
    latex: str


def page_tables(rows: Sequence[Row]) -> list[PageTable]:
    """The tables of each dataset and, a level below, those of gains and of papers."""
    shown: list[PageTable] = []
    above = ""
    for level, table in all_tables(rows):
        above = table.title if level == _TOP else above
        label = table.title if level == _TOP else f"{above}: {table.title}"
        repeated = sum(other.label.startswith(label) for other in shown)
        shown.append(_page_table(level, f"{label} ({repeated + 1})" if repeated else label, table))
    return shown


def _page_table(level: int, label: str, table: TextTable) -> PageTable:
    columns = [(name, "text" if name in TEXT_COLUMNS else "number") for name in table.columns]
    best = _best(table)
    method, recipe = (table.columns.index(name) if name in table.columns else None for name in ("method", "recipe"))
    rows = []
    for number, cells in enumerate(table.cells):
        shown = [
            Cell(text, kind, column == (method or 0), name == "recipe", (number, column) in best)
            for column, (text, (name, kind)) in enumerate(zip(cells, columns, strict=True))
        ]
        told = (None if column is None else cells[column] for column in (method, recipe))
        rows.append(PageRow(*told, shown, False))
    texts = markdown(table, _TOP), _latex(table)
    return PageTable(level, table.title, label, columns, rows, method is not None, table.notes, *texts)


def _latex(table: TextTable) -> str:
    return "latex"


def _best(table: TextTable) -> set[tuple[int, int]]:
    """Row and column of the largest number of each column, also where several rows have it."""
    found: set[tuple[int, int]] = set()
    for column, name in enumerate(table.columns):
        if name in TEXT_COLUMNS or name in _NOT_COMPARED or table.has_intervals or len(table.cells) < 2:
            continue
        values = {
            row: float(match[0].replace(",", ""))
            for row, cells in enumerate(table.cells)
            if (match := _NUMBER.match(cells[column]))
        }
        if len(set(values.values())) > 1:
            found |= {(row, column) for row, value in values.items() if value == max(values.values())}
    return found
