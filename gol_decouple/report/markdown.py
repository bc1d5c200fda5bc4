"""How a table of text looks in markdown."""

from __future__ import annotations

import re

from gol_decouple.report.layout import TEXT_COLUMNS, TextTable, plain_table

# What begins something in markdown or HTML. Underscores within words begin nothing, and are in most methods' names; nor
# does the star of the notes, (*).
_MARKS = re.compile(r"[\\`\[\]~]|<(?=[A-Za-z/!?])|(?<!\()\*|\*(?!\))|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")


def markdown(table: TextTable, level: int) -> str:
    """A heading of a level, the table and its notes, several as a list; the best of a column in bold."""
    table = plain_table(table)
    lines = [f"{'#' * level} {escaped(table.title)}", "", _line([_cell(name) for name in table.columns])]
    lines.append(_line(["---" if name in TEXT_COLUMNS else "---:" for name in table.columns]))
    for number, cells in enumerate(table.cells):
        texts = [_cell(cell) if name in TEXT_COLUMNS else cell for name, cell in _named(table, cells)]
        bold = [(number, name) in table.best for name in table.columns]
        lines.append(_line([f"**{text}**" if best else text for text, best in zip(texts, bold, strict=True)]))
    mark = "- " if len(table.notes) > 1 else ""  # lines would run on where the page is shown
    return "\n".join([*lines, "", *(f"{mark}{escaped(note)}" for note in table.notes)]).rstrip()


def _named(table: TextTable, cells: list[str]) -> list[tuple[str, str]]:
    return list(zip(table.columns, cells, strict=True))


def _cell(text: str) -> str:
    return escaped(text).replace("|", "\\|")


def escaped(text: str) -> str:
    """A text in which nothing is an element of HTML, a link or a picture, or changes how others look."""
    return _MARKS.sub(lambda found: {"<": "&lt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}"), text)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
