"""How a table of text looks in a terminal and in markdown."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from gol_decouple.plain_text import plain_line

EMPTY = "–"
TEXT_COLUMNS = ("run", "method", "recipe", "image", "class", "metric")
WRAPPED = ("recipe", "image")
_UNBOUNDED = 10_000
_LONGEST_CELL = 500  # characters
_LEAST_RECIPE = 16  # characters, below which it stands below the method's name


@dataclass(frozen=True)
class TextTable:
    """A title, column headings, cells as text, and what stands below them.

    Attributes:
        has_intervals: whether cells are figures with an interval, "+1.8 [1.3, 2.3]", which may stand below the figure.
    """

    title: str
    columns: list[str]
    cells: list[list[str]]
    notes: list[str]
    has_intervals: bool = False


def markdown(table: TextTable, level: int) -> str:
    """A heading of a level, the table and its notes."""
    table = _plain(table)
    lines = [f"{'#' * level} {table.title}", "", _markdown_line(table.columns)]
    lines.append(_markdown_line(["---" if name in TEXT_COLUMNS else "---:" for name in table.columns]))
    lines += [_markdown_line(cells) for cells in table.cells]
    return "\n".join([*lines, "", *table.notes]).rstrip()


def print_table(table: TextTable, console: Console) -> None:
    """In a narrow terminal recipes and paths wrap, or stand below the method's name, and intervals and deviations below
    their figures; numbers are never cut.
    """
    table = _plain(table)
    console.print(_grid(_fitted(table, console)))
    for note in table.notes:
        console.print(note, markup=False, emoji=False, highlight=False)


def _plain(table: TextTable) -> TextTable:
    """The table with names as they can be shown: they are what somebody called a class, a file or a run."""
    cells = [[plain_line(cell, _LONGEST_CELL) for cell in row] for row in table.cells]
    title, *columns = (plain_line(text, _LONGEST_CELL) for text in (table.title, *table.columns))
    return replace(table, title=title, columns=columns, cells=cells, notes=list(map(plain_line, table.notes)))


def _fitted(table: TextTable, console: Console) -> TextTable:
    too_wide = _width(table, console) - console.width
    if too_wide <= 0 or (not table.has_intervals and _recipe_width(table) - too_wide >= _LEAST_RECIPE):
        return table
    stacked = _stacked(table)
    if table.has_intervals or _width(stacked, console) <= console.width:
        return stacked
    return replace(stacked, cells=[[cell.replace("±", "\n±") for cell in row] for row in stacked.cells])


def _width(table: TextTable, console: Console) -> int:
    """What a table takes if nothing wraps."""
    return console.measure(_grid(table), options=console.options.update(width=_UNBOUNDED)).maximum


def _recipe_width(table: TextTable) -> int:
    """Of a recipe, or a path, that does not wrap; so much more room as there is none, where a table has neither."""
    widths = [
        len(cell) for row in table.cells for name, cell in zip(table.columns, row, strict=True) if name in WRAPPED
    ]
    return max(widths, default=_UNBOUNDED)


def _grid(table: TextTable) -> Table:
    grid = Table(
        box=SIMPLE_HEAD, title=Text(table.title), title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
    )
    for column in table.columns:
        # Group sizes stand below the group's name, so that the columns are as narrow as their numbers.
        heading = Text(column.replace(" (", "\n("))
        is_text = column in TEXT_COLUMNS
        justify: JustifyMethod = "left" if is_text else "right"
        wraps = column in WRAPPED or (table.has_intervals and not is_text)
        grid.add_column(heading, justify=justify, no_wrap=not wraps, overflow="fold")
    for cells in table.cells:
        grid.add_row(*map(Text, cells))
    return grid


def _stacked(table: TextTable) -> TextTable:
    """Each row in two lines or more: intervals below their figures, the recipe below the method's name."""
    cells = [[cell.replace(" [", "\n[") for cell in row] for row in table.cells]
    columns = list(table.columns)
    if "recipe" in columns:
        method, recipe = columns.index("method"), columns.index("recipe")
        width = max(len(word) for row in cells for word in (row[method], *row[recipe].split()))
        width = max(width, 0 if table.has_intervals else _LEAST_RECIPE)
        for row in cells:
            row[method] = "\n".join([row[method], *textwrap.wrap(row.pop(recipe), width)])
        columns.remove("recipe")
    return TextTable(table.title, columns, cells, table.notes, table.has_intervals)


def _markdown_line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
