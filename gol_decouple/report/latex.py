"""Tables of text as LaTeX: table environments with booktabs, to be read into a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gol_decouple.report.latex_size import Setting, fitted, is_too_wide
from gol_decouple.report.latex_text import escaped
from gol_decouple.report.layout import TEXT_COLUMNS, TextTable, plain_table

HEADER = r"""% Made by gol-decouple report --format latex. Needs \usepackage{booktabs}.
% What pdflatex has no letters for, such as Chinese, stands as its code points: \texttt{U+4E2D}."""
_FIGURE = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(\*?)(?:±([\d.]+)| \[([^\]]*)\])?")
_LONGEST_LABEL = 60


def latex(tables: Iterable[tuple[int, TextTable]]) -> str:
    """One float a table, with a caption and a label of its own; of a table that is longer than a page several.

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
        parts = []
        for number, (part, setting) in enumerate(fitted(*_with_letters(table, title))):
            label = _label(f"{title} continued" if number else title, labels)
            parts.append("\n".join(_float(part, setting, title, label, is_continued=number > 0)))
        yield "\n\n".join(parts)


def _float(table: TextTable, setting: Setting, title: str, label: str, is_continued: bool) -> Iterator[str]:
    kinds = "".join("l" if name in TEXT_COLUMNS else "r" for name in table.columns)
    two_lines = setting.two_lines
    yield from (r"\begin{table}[htbp]", r"\centering")
    if is_continued:
        yield r"\addtocounter{table}{-1}"
    yield from (rf"\caption{{{escaped(title)}{' (continued)' if is_continued else ''}}}", rf"\label{{{label}}}")
    yield from (r"\smallskip", setting.size, r"\setlength{\tabcolsep}{4pt}", rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}")
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


def _with_letters(table: TextTable, title: str) -> tuple[TextTable, str, dict[str, str]]:
    """The table with a letter for each recipe where it would be wider than the text, and what the letters stand for."""
    if "recipe" not in table.columns or not is_too_wide(table):
        return table, title, {}
    at = table.columns.index("recipe")
    letters: dict[str, str] = {}
    for row in table.cells:
        letters.setdefault(row[at], _letter(len(letters)))
    cells = [[*row[:at], letters[row[at]], *row[at + 1 :]] for row in table.cells]
    return replace(table, cells=cells), title, {letter: recipe for recipe, letter in letters.items()}


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
