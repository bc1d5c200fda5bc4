"""A table of text, and how it looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gol_decouple.plain_text import plain_line

EMPTY = "–"
TEXT_COLUMNS = (
    *("run", "method", "recipe", "image", "class", "group", "metric"),
    *("stage", "what", "machine", "commit", "part", "value", "column"),
    *("activation", "loss", "sampler", "classifier", "start"),
)
WRAPPED = ("recipe", "image")
_LONGEST_CELL = 500  # characters
_LEAST_RECIPE = 24  # columns, below which it stands in a line of its own
_LEAST_NAME = 8
_GAP = 2
_INDENT = 3  # of a recipe in a line of its own
# How a table is set, from the way that takes most room to the one that takes least: whether recipes stand in lines of
# their own, and at what cells of figures are broken.
_WAYS: list[tuple[bool, tuple[str, ...]]] = [(False, ()), (True, ()), (True, ("±",))]
_WAYS_OF_INTERVALS: list[tuple[bool, tuple[str, ...]]] = [
    *((False, ()), (False, (" [",))),
    *((True, (" [",)), (True, (" [", ", "))),
]


@dataclass(frozen=True)
class TextTable:
    """A title, column headings, cells as text, and what stands below them.

    Attributes:
        has_intervals: whether cells are figures with an interval, "+1.8 [1.3, 2.3]", which may stand below the figure.
        best: the number of the row and the heading of every cell that is the best of its column.
        quoted: how many of the last rows are quoted from elsewhere.
    """

    title: str
    columns: list[str]
    cells: list[list[str]]
    notes: list[str]
    has_intervals: bool = False
    best: frozenset[tuple[int, str]] = frozenset()
    quoted: int = 0


def print_table(table: TextTable, console: Console) -> None:
    """In a narrow terminal recipes and paths wrap, or stand in lines of their own, intervals and deviations stand below
    their figures, and names are folded; numbers are never cut.
    """
    printed = Text("\n").join(_lines(plain_table(table), console))
    console.print(printed, soft_wrap=True, highlight=False)


def plain_table(table: TextTable) -> TextTable:
    """The table with names as they can be shown: they are what somebody called a class, a file or a run."""
    cells = [[_plain(cell) for cell in row] for row in table.cells]
    title, *columns = (_plain(text) for text in (table.title, *table.columns))
    return replace(
        table,
        title=title,
        columns=columns,
        cells=cells,
        notes=[plain_line(note).replace("\t", " ") for note in table.notes],
    )


def _plain(text: str) -> str:
    return plain_line(text, _LONGEST_CELL).replace("\t", " ")


@dataclass(frozen=True)
class _Grid:
    """What stands where: of each column its heading, and of each row its cells, all as lines.

    Attributes:
        names: the columns' headings as they were.
        below: of each row what stands below it in a line of its own, or nothing.
    """

    names: list[str]
    headings: list[list[str]]
    rows: list[list[list[str]]]
    below: list[str]

    def widths(self) -> list[int]:
        """Of each column, if nothing wraps."""
        columns = zip(self.headings, *self.rows, strict=True)
        return [max(cell_len(line) for cell in column for line in cell) for column in columns]


def _lines(table: TextTable, console: Console) -> Iterator[Text]:
    grid, widths = _fitted(table, console.width)
    for line in _wrapped(table.title, console.width, console):
        yield Text(line, "bold")
    yield Text()
    for parts in _across(grid.headings, widths, grid.names, bottom=True):
        yield Text(" ").append(Text("".join(parts).rstrip(), "bold"))
    yield Text(" " + "─" * _total(widths))
    for number, (cells, below) in enumerate(zip(grid.rows, grid.below, strict=True)):
        folded = [
            [part for line in cell for part in _wrapped(line, width, console)]
            for cell, width in zip(cells, widths, strict=True)
        ]
        for parts in _across(folded, widths, grid.names):
            set_ = Text(" ")
            for name, part in zip(grid.names, parts, strict=True):
                set_.append(part, "bold" if (number, name) in table.best else None)
            set_.rstrip()
            yield set_
        for part in _wrapped(below, console.width - _INDENT, console) if below else []:
            yield Text(" " * _INDENT + part)
    yield Text()
    for note in table.notes:
        yield from map(Text, _wrapped(note, console.width, console))


def _across(cells: list[list[str]], widths: list[int], names: list[str], bottom: bool = False) -> Iterator[list[str]]:
    """The lines of some cells side by side, each filled up to its column's width, with the gap before the next."""
    height = max(map(len, cells))
    for number in range(height):
        line = []
        for place, (cell, width, name) in enumerate(zip(cells, widths, names, strict=True)):
            at = number - (height - len(cell) if bottom else 0)
            part = cell[at] if 0 <= at < len(cell) else ""
            filling = " " * max(width - cell_len(part), 0)
            part = part + filling if name in TEXT_COLUMNS else filling + part
            line.append(" " * _GAP * (place > 0) + part)
        yield line


def _fitted(table: TextTable, width: int) -> tuple[_Grid, list[int]]:
    """The first of all ways to set a table that fits, or the narrowest, and the widths of its columns."""
    for recipe_below, breaks_at in _WAYS_OF_INTERVALS if table.has_intervals else _WAYS:
        grid = _set(table, recipe_below, breaks_at)
        widths = _narrowed(grid, width, (_LEAST_RECIPE, width // 3))
        if _total(widths) < width:
            return grid, widths
    return grid, _narrowed(grid, width, (_LEAST_NAME, _LEAST_NAME))


def _set(table: TextTable, recipe_below: bool, breaks_at: Sequence[str]) -> _Grid:
    at = table.columns.index("recipe") if recipe_below and "recipe" in table.columns else None
    names = [name for place, name in enumerate(table.columns) if place != at]
    # Group sizes stand below the group's name, so that the columns are as narrow as their numbers.
    headings = [name.replace(" (", "\n(").split("\n") for name in names]
    rows = [
        [
            [cell] if name in TEXT_COLUMNS else _broken(cell, breaks_at)
            for name, cell in zip(table.columns, cells, strict=True)
            if at is None or name != "recipe"
        ]
        for cells in table.cells
    ]
    return _Grid(names, headings, rows, ["" if at is None else cells[at] for cells in table.cells])


def _broken(cell: str, breaks_at: Sequence[str]) -> list[str]:
    for mark in breaks_at:
        before, after = (mark.rstrip(), "") if mark == ", " else ("", mark.lstrip())
        cell = cell.replace(mark, f"{before}\n{after}")
    return cell.split("\n")


def _narrowed(grid: _Grid, width: int, least: tuple[int, int]) -> list[int]:
    """Widths at which a grid fits, if those of its texts can be made so small, the widest first.

    Args:
        least: of recipes and paths, and of other texts.
    """
    widths = grid.widths()
    floors = [
        min(own, least[name not in WRAPPED]) if name in TEXT_COLUMNS else own
        for own, name in zip(widths, grid.names, strict=True)
    ]
    while (excess := _total(widths) - width + 1) > 0:
        room = [own - floor for own, floor in zip(widths, floors, strict=True)]
        if not any(room):
            break
        at = max(range(len(widths)), key=lambda place: (room[place] > 0) * widths[place])
        others = [own for place, own in enumerate(widths) if place != at and room[place] > 0]
        widths[at] -= min(excess, room[at], max(widths[at] - max(others, default=0), 1))
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _wrapped(text: str, width: int, console: Console) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(console, max(width, 1), overflow="fold")]
