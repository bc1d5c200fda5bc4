"""A report as text, in every format but that of a page."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console

from gol_decouple.progress import Progress
from gol_decouple.report import tables
from gol_decouple.report.collected import Collected
from gol_decouple.report.formats import Format
from gol_decouple.report.layout import TextTable

_LEAST_WIDTH = 80


def of_rows(found: Collected, format_: Format, paper: bool) -> str | list[tuple[int, TextTable]]:
    """The report on rows: text, or tables for a terminal.

    Args:
        paper: whether figures that papers print stand in it.
    """
    if format_ is Format.csv:
        return tables.to_csv(found.rows)
    if format_ is Format.json:
        return tables.to_json(found.rows)
    return _set(list(tables.leveled_tables(found.rows, paper)), format_)


def of_classes(
    found: Collected, format_: Format, baseline: str | None, progress: Progress
) -> str | list[tuple[int, TextTable]]:
    """The report on the classes of every row; damaged tables of classes are added to what was left out."""
    from gol_decouple.report import per_class_tables

    every = per_class_tables.classes_of(found.rows, found.of_runs, baseline, progress, found.left_out.append)
    if format_ is Format.csv:
        return per_class_tables.to_csv(every)
    if format_ is Format.json:
        return per_class_tables.to_json(every)
    return _set(list(per_class_tables.tables(every, in_full=format_ is Format.markdown)), format_)


def as_text(some: Iterable[tuple[int, TextTable]]) -> str:
    """Tables as a terminal shows them, for a file: without colours, as wide as the terminal, 80 columns at least."""
    width = max(Console().width, _LEAST_WIDTH)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        tables.print_leveled(some, console)
    return captured.get().rstrip("\n")


def _set(some: list[tuple[int, TextTable]], format_: Format) -> str | list[tuple[int, TextTable]]:
    if format_ is Format.markdown:
        from gol_decouple.report.markdown import markdown

        return "\n\n".join(markdown(table, level) for level, table in some)
    if format_ is Format.latex:
        from gol_decouple.report.latex import latex

        return latex(some)
    return some
