"""How a table is set in LaTeX so that it fits the text of the article class: in what size, and in how many parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gol_decouple.report.latex_text import escaped
from gol_decouple.report.layout import TEXT_COLUMNS, TextTable

# The text of LaTeX's article class, about what a character takes of its width, and a column's gap, in points.
_TEXT_WIDTH, _CHARACTER, _SMALL_CHARACTER, _GAP = 345.0, 4.7, 3.9, 8.0
# Sizes of the letters, how wide these are beside those of the first, and the height of a line, in points.
_SIZES = {r"\small": (1.0, 11.0), r"\footnotesize": (0.89, 9.5), r"\scriptsize": (0.78, 8.0)}
# In points: of a page (550) with some to spare, of a line of a caption or of notes, and of what is between lines.
_PAGE, _CAPTION_LINE, _NOTE_LINE, _BETWEEN = 520.0, 12.0, 9.5, 2.0
_SPARE = 0.92  # of the width, since brackets and signs in small letters are wider than others
_FRAME = 35.0  # rules, and what is above and below a caption and notes
_CAPTION_CHARACTERS, _NOTE_CHARACTERS = 65, 75  # of a line


@dataclass(frozen=True)
class Setting:
    """The command for the size of the letters, and whether intervals and deviations stand in a second line."""

    size: str
    two_lines: bool


def is_too_wide(table: TextTable) -> bool:
    """Whether it is wider than the text in the largest size, intervals below their figures."""
    return _width(table, table.has_intervals) > _TEXT_WIDTH


def fitted(table: TextTable, title: str, recipes: dict[str, str]) -> Iterator[tuple[TextTable, Setting]]:
    """The parts of a table, each of a page at most, and how they are set; the notes stand below the last.

    Args:
        recipes: told below the part that has them, by the letter that stands for them in the table.
    """
    settings = list(_settings(table))
    whole = _part(table, 0, len(table.cells), recipes)
    for setting in settings:
        if _height(whole, title, setting) <= _PAGE:
            yield whole, setting
            return
    setting, start = settings[-1], 0
    while start < len(table.cells):
        end = start + 1
        while end < len(table.cells) and _height(_part(table, start, end + 1, recipes), title, setting) <= _PAGE:
            end += 1
        yield _part(table, start, end, recipes), setting
        start = end


def _settings(table: TextTable) -> Iterator[Setting]:
    """How a table can be set: as it is read best and, where it is as wide as that, with the most lines on a page."""
    two_lines = table.has_intervals or _width(table, two_lines=False) > _TEXT_WIDTH
    width, smallest = _width(table, two_lines), list(_SIZES)[-1]
    sizes = (name for name, (factor, _) in _SIZES.items() if width * factor <= _TEXT_WIDTH)
    yield Setting(next(sizes, smallest), two_lines)
    if two_lines and _width(table, two_lines=False) * _SIZES[smallest][0] <= _SPARE * _TEXT_WIDTH:
        yield Setting(smallest, two_lines=False)


def _part(table: TextTable, start: int, end: int, recipes: dict[str, str]) -> TextTable:
    cells, last = table.cells[start:end], end == len(table.cells)
    used = {cell for row in cells for name, cell in zip(table.columns, row, strict=True) if name == "recipe"}
    told = [f"{letter}: {recipe}" for letter, recipe in recipes.items() if letter in used]
    notes = [*([f"recipes: {'; '.join(told)}"] if told else []), *(table.notes if last else [])]
    best = frozenset((row - start, name) for row, name in table.best if start <= row < end)
    quoted = max(end - max(start, len(table.cells) - table.quoted), 0)
    return replace(table, cells=cells, notes=notes, best=best, quoted=quoted)


def _height(table: TextTable, title: str, setting: Setting) -> float:
    """About what a float takes in points."""
    _, line = _SIZES[setting.size]
    row = 2 * line + _BETWEEN if setting.two_lines else line
    notes = sum(_NOTE_LINE * _lines(note, _NOTE_CHARACTERS) for note in table.notes)
    caption = _CAPTION_LINE * _lines(f"{title} (continued)", _CAPTION_CHARACTERS)
    return _FRAME + caption + 2 * line + row * len(table.cells) + notes


def _lines(text: str, characters: int) -> int:
    return 1 + len(escaped(text)) // characters


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
