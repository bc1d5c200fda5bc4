"""Tables of text as LaTeX: table environments with booktabs, to be read into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gol_decouple.report.latex_text import escaped
from gol_decouple.report.layout import TEXT_COLUMNS, TextTable, plain_table

HEADER = r"""% Made by gol-decouple report --format latex. Needs \usepackage{booktabs}.
% What pdflatex has no letters for, such as Chinese, stands as its code points: \texttt{U+4E2D}."""
_FIGURE = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(\*?)(?:±([\d.]+)| \[([^\]]*)\])?")
# Above so many characters a table is wider than the text of LaTeX's article class, and recipes are told below it.
_WIDEST = 66
_LONGEST_LABEL = 60


def latex(tables: Iterable[tuple[int, TextTable]]) -> str:
    """One float a table, with a caption and a label of its own.

    Args:
        tables: each with the level of its heading; one of level 4 belongs to the last of level 3 before it.
    """
    parts, labels, above = [HEADER], set[str](), ""
    for level, table in ((level, plain_table(table)) for level, table in tables):
        title = f"{above}: {table.title}" if level > 3 and above else table.title
        above = table.title if level == 3 else above
        parts.append("\n".join(_float(_with_recipes_below(table), title, _label(title, labels))))
    return "\n\n".join(parts)


def _float(table: TextTable, title: str, label: str) -> Iterator[str]:
    kinds = "".join("l" if name in TEXT_COLUMNS else "r" for name in table.columns)
    yield from (r"\begin{table}[htbp]", r"\centering", rf"\caption{{{escaped(title)}}}", rf"\label{{{label}}}")
    yield from (r"\small", r"\setlength{\tabcolsep}{4pt}", rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}", r"\toprule")
    headings = [re.split(r"(?= \(\d+\)$)", name) for name in table.columns]
    yield _line([escaped(parts[0]) for parts in headings])
    if any(len(parts) > 1 for parts in headings):
        yield _line([escaped(parts[1].strip()) if len(parts) > 1 else "" for parts in headings])
    yield r"\midrule"
    for number, cells in enumerate(table.cells):
        if table.quoted and number == len(table.cells) - table.quoted:
            yield r"\midrule"
        bold = [(number, name) in table.best for name in table.columns]
        yield from _row(table, cells, bold)
    yield from (r"\bottomrule", r"\end{tabular}")
    if table.notes:
        yield ""
        yield r"\smallskip"
        notes = r" \\ ".join(map(escaped, table.notes))
        yield rf"\parbox{{\linewidth}}{{\footnotesize\raggedright {notes}}}"
    yield r"\end{table}"


def _row(table: TextTable, cells: list[str], bold: list[bool]) -> Iterator[str]:
    """A line of figures and, where they have intervals, one of these below it."""
    set_, below = [], []
    for name, cell, best in zip(table.columns, cells, bold, strict=True):
        text, interval = (escaped(cell), "") if name in TEXT_COLUMNS else _figure(cell)
        set_.append(rf"\textbf{{{text}}}" if best else text)
        below.append(rf"{{\scriptsize [{interval}]}}" if interval else "")
    yield _line(set_)
    if any(below):
        yield _line(below)


def _figure(cell: str) -> tuple[str, str]:
    """A figure, and its interval if it has one."""
    found = _FIGURE.fullmatch(cell)
    if found is None:
        return escaped(cell), ""
    sign, number, star, deviation, interval = found.groups()
    text = f"${sign}${number}" if sign else number
    text += "$^{*}$" if star else ""
    text += rf"{{\scriptsize\,$\pm$\,{deviation}}}" if deviation else ""
    return text, re.sub("-", "$-$", interval or "")


def _with_recipes_below(table: TextTable) -> TextTable:
    """The table with a letter for each recipe, which is told below it, where it would be wider than the text."""
    widths = [max(map(len, column)) + 2 for column in zip(table.columns, *table.cells, strict=True)]
    if "recipe" not in table.columns or sum(widths) <= _WIDEST:
        return table
    at = table.columns.index("recipe")
    letters: dict[str, str] = {}
    for row in table.cells:
        letters.setdefault(row[at], _letter(len(letters)))
    cells = [[*row[:at], letters[row[at]], *row[at + 1 :]] for row in table.cells]
    told = "; ".join(f"{letter}: {recipe}" for recipe, letter in letters.items())
    notes = [f"recipes: {told}", *table.notes]
    return TextTable(table.title, table.columns, cells, notes, table.has_intervals, table.best, table.quoted)


def _letter(number: int) -> str:
    """a to z, then aa, ab and so on."""
    before, last = divmod(number, 26)
    return ("" if before == 0 else _letter(before - 1)) + chr(ord("a") + last)


def _label(title: str, taken: set[str]) -> str:
    """A label that no other table of this text has."""
    own = "tab:" + re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")[:_LONGEST_LABEL].strip("-")
    label, number = own, 1
    while label in taken:
        number += 1
        label = f"{own}-{number}"
    taken.add(label)
    return label


def _line(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"
