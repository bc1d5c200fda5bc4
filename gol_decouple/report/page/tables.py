"""The report's tables as a page shows them, with the texts that its buttons copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gol_decouple.report.latex import HEADER, floats
from gol_decouple.report.layout import TEXT_COLUMNS, TextTable
from gol_decouple.report.markdown import markdown
from gol_decouple.report.rows import Row
from gol_decouple.report.tables import leveled_tables

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


def page_tables(rows: Sequence[Row], paper: bool) -> list[PageTable]:
    """The tables of each dataset and, a level below, those of gains and, if wanted, of papers."""
    shown: list[PageTable] = []
    above = ""
    tables = list(leveled_tables(rows, paper))
    for (level, table), latex in zip(tables, floats(tables), strict=True):
        above = table.title if level == _TOP else above
        label = table.title if level == _TOP else f"{above}: {table.title}"
        repeated = sum(other.label.startswith(label) for other in shown)
        label = f"{label} ({repeated + 1})" if repeated else label
        shown.append(_page_table(level, label, table, f"{HEADER}\n\n{latex}"))
    return shown


def _page_table(level: int, label: str, table: TextTable, latex: str) -> PageTable:
    columns = [(name, "text" if name in TEXT_COLUMNS else "number") for name in table.columns]
    method, recipe = (table.columns.index(name) if name in table.columns else None for name in ("method", "recipe"))
    rows = []
    for number, cells in enumerate(table.cells):
        shown = [
            Cell(text, kind, column == (method or 0), name == "recipe", (number, name) in table.best)
            for column, (text, (name, kind)) in enumerate(zip(cells, columns, strict=True))
        ]
        of_method, of_recipe = (None if column is None else cells[column] for column in (method, recipe))
        rows.append(PageRow(of_method, of_recipe, shown, number >= len(table.cells) - table.quoted))
    texts = markdown(table, level), latex
    return PageTable(level, table.title, label, columns, rows, method is not None, table.notes, *texts)
