"""Tables of text as LaTeX: table environments with booktabs, to be read into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gol_decouple.report.latex_text import escaped
from gol_decouple.report.layout import TEXT_COLUMNS, TextTable, plain_table

HEADER = r"""% Made by gol-decouple report --format latex. Needs \usepackage{booktabs}.
% What pdflatex has no letters for, such as Chinese, stands as its code points: \texttt{U+4E2D}."""
_FIGURE = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(\*?)(?:±([\d.]+)| \[([^\]]*)\])?")
# The width of the text in LaTeX's article class, and about what a character takes of it, and a column's gap, in points.
_TEXT_WIDTH, _CHARACTER, _SMALL_CHARACTER, _GAP = 345.0, 4.7, 3.9, 8.0
# Sizes of the letters, and how wide these are beside those of the first.
_SIZES = {r"\small": 1.0, r"\footnotesize": 0.89, r"\scriptsize": 0.78}
_LONGEST_LABEL = 60


def latex(tables: Iterable[tuple[int, TextTable]]) -> str:
    """One float a table, with a caption and a label of its own.

    Args:
        tables: each with the level of its heading; one of level 4 belongs to the last of level 3 before it.
    """
    return "\n\n".join([HEADER, *floats(tables)])


def floats(tables: Iterable[tuple[int, TextTable]]) -> Iterator[str]:
    """The same table by table, without HEADER."""
    labels, above = set[str](), ""
    for level, table in ((level, plain_table(table)) for level, table in tables):
        title = f"{above}: {table.title}" if level > 3 and above else table.title
        above = table.title if level == 3 else above
        yield "\n".join(_float(_with_recipes_below(table), title, _label(title, labels)))


def _float(table: TextTable, title: str, label: str) -> Iterator[str]:
    kinds = "".join("l" if name in TEXT_COLUMNS else "r" for name in table.columns)
    two_lines = table.has_intervals or _width(table, two_lines=False) > _TEXT_WIDTH
    width = _width(table, two_lines)
    size = next((name for name, factor in _SIZES.items() if width * factor <= _TEXT_WIDTH), list(_SIZES)[-1])
    yield from (r"\begin{table}[htbp]", r"\centering", rf"\caption{{{escaped(title)}}}", rf"\label{{{label}}}")
    yield from (r"\smallskip", size, r"\setlength{\tabcolsep}{4pt}", rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}")
    yield r"\toprule"
    headings = [re.split(r"(?= \([^()]*\)$)", name) for name in table.columns]
    yield _line([escaped(parts[0]) for parts in headings])
    if any(len(parts) > 1 for parts in headings):
        yield _line([escaped(parts[1].strip()) if len(parts) > 1 else "" for parts in headings])
    yield r"\midrule"
    for number, cells in enumerate(table.cells):
        if table.quoted and number == len(table.cells) - table.quoted:
            yield r"\midrule"
        elif number and two_lines:
            yield r"\addlinespace[2pt]"
        yield from _row(table, cells, [(number, name) in table.best for name in table.columns], two_lines)
    yield from (r"\bottomrule", r"\end{tabular}")
    if table.notes:
        notes = r" \\ ".join(map(escaped, table.notes))
        yield from ("", r"\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize\raggedright {notes}}}")
    yield r"\end{table}"


def _row(table: TextTable, cells: list[str], bold: list[bool], two_lines: bool) -> Iterator[str]:
    """A line of figures; their intervals or deviations stand beside them, or in a second line."""
    figures, below = [], []
    for name, cell, best in zip(table.columns, cells, bold, strict=True):
        text, small = (escaped(cell), "") if name in TEXT_COLUMNS else _figure(cell)
        text = rf"\textbf{{{text}}}" if best else text
        figures.append(text if two_lines or not small else rf"{text}\,{small}")
        below.append(small)
    yield _line(figures)
    if two_lines and any(below):
        yield _line(below)


def _figure(cell: str) -> tuple[str, str]:
    """A figure, and its interval or deviation if it has one, in small letters."""
    found = _FIGURE.fullmatch(cell)
    if found is None:
        return escaped(cell), ""
    sign, number, star, deviation, interval = found.groups()
    text = (f"${sign}$" if sign else "") + number + ("$^{*}$" if star else "")
    if deviation:
        return text, rf"{{\scriptsize$\pm$\,{deviation}}}"
    return text, rf"{{\scriptsize [{interval.replace('-', '$-$')}]}}" if interval else ""


def _width(table: TextTable, two_lines: bool) -> float:
    """About what a table takes in points, in the largest of its sizes."""
    total = 0.0
    for name, *cells in zip(table.columns, *table.cells, strict=True):
        widths = [_CHARACTER * max(map(len, name.split(" (")))]
        for cell in cells:
            figure, mark, small = cell.replace(" [", "±").partition("±") if name not in TEXT_COLUMNS else (cell, "", "")
            own, extra = _CHARACTER * len(figure), _SMALL_CHARACTER * len(mark + small)
            widths.append(max(own, extra) if two_lines else own + extra)
        total += max(widths) + _GAP
    return total


def _with_recipes_below(table: TextTable) -> TextTable:
    """The table with a letter for each recipe, which is told below it, where it would be wider than the text."""
    if "recipe" not in table.columns or _width(table, table.has_intervals) <= _TEXT_WIDTH:
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
