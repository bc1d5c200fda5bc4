"""The command that reports what is finished, and the report that other commands end with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gol_decouple import provenance
from gol_decouple.cli import completion
from gol_decouple.cli.app import RUNS_DIR, RunsDir, app, check_out, echo, result_console
from gol_decouple.errors import InputError
from gol_decouple.files import write_text
from gol_decouple.progress import to_stderr
from gol_decouple.report.formats import Format

if TYPE_CHECKING:
    from gol_decouple.report.collected import Collected
    from gol_decouple.report.figures.drawn import Drawn
    from gol_decouple.report.layout import TextTable
    from gol_decouple.report.selection import Selection


@dataclass(frozen=True)
class Wanted:
    """What a report is asked for beyond its runs.

    Attributes:
        selected: None: everything.
        paper: with the figures that papers print.
        per_class: of classes, instead of rows.
        out: where it goes instead of stdout.
        figures: the folder that figures are drawn into, if any are.
    """

    format: Format = Format.table
    selected: Selection | None = None
    baseline: str | None = None
    paper: bool = False
    per_class: bool = False
    out: Path | None = None
    figures: Path | None = None


@app.command()
def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run folders, features files, any folders above, or patterns of them.",
            autocompletion=completion.run_folders,
        ),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", metavar="FORMAT", help="table, markdown, latex, csv, json or html.")
    ] = Format.table,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this dataset, or 'cifar*'; repeatable.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Only these methods, such as 'gumbel*' or stage_one; repeatable.",
            autocompletion=completion.rows,
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="KEY", help="The best first by top1, few, gain, ap_r, ece, method, ...")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What gains are over: stage_one (unless given), or a method of stage two.",
            autocompletion=completion.rows,
        ),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="With the papers' figures, marked as theirs.")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Every class of every method instead.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also draw figures into this folder.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print the accuracies of every finished run and classifier, and what is gained: all, many, medium, few classes."""
    from gol_decouple.report.selection import Selection, check_sort, expanded

    check_sort(sort)
    if per_class and format_ is Format.html:
        raise InputError("--per-class is no part of --format html", "leave it out: the page has every class")
    check_out(out)
    selected = Selection(tuple(dataset or ()), tuple(method or ()), sort)
    wanted = Wanted(format_, selected, baseline, paper, per_class, out, figures)
    print_report(expanded(run or [runs_dir]), runs_dir, wanted)


def print_report(paths: list[Path], runs_dir: Path, wanted: Wanted | None = None) -> None:
    """The report on all that is finished in `paths`, and its gains, to stdout.

    Raises:
        InputError: results are damaged. They hide no others, which are printed before; but what was asked for is not
            all there, and programs have to notice.
    """
    from gol_decouple.report import collected, rows, steady

    wanted, progress = wanted or Wanted(), to_stderr()

    def made() -> tuple[Collected, str | list[tuple[int, TextTable]]]:
        # Inside, since files can be written anew while they are read: for rows as for classes, pages and figures.
        found = collected.collect(
            paths, runs_dir, progress, wanted.selected, wanted.baseline, needs_gains=not wanted.per_class
        )
        return found, _rendered(found, wanted, _drawn(found, wanted))

    found, told = steady.steadily(lambda: rows.finished_folders(paths, runs_dir), made)
    for error in found.left_out:
        progress.warn("; ".join(filter(None, (f"left out: {error.message}", error.hint))))
    _put(told, wanted.out)
    if found.left_out:
        many = len(found.left_out)
        told = "1 result is" if many == 1 else f"{many} results are"
        raise InputError(f"{told} damaged and left out", f"gol-decouple doctor {shlex.join(map(str, paths))}")


def _rendered(found: Collected, wanted: Wanted, drawn: Sequence[Drawn]) -> str | list[tuple[int, TextTable]]:
    if wanted.format is Format.html:
        from gol_decouple.report.page.write import to_html

        return to_html(found.rows, to_stderr(), provenance.command(), wanted.paper, found.of_runs, drawn)
    from gol_decouple.report import written

    if wanted.per_class:
        return written.of_classes(found, wanted.format, wanted.baseline, to_stderr())
    return written.of_rows(found, wanted.format, wanted.paper)


def _drawn(found: Collected, wanted: Wanted) -> Sequence[Drawn]:
    """The figures, drawn once for the page and for the folder, which they are written into."""
    if wanted.figures is None and wanted.format is not Format.html:
        return ()
    from gol_decouple.report.figures.write import figures, write_figures

    drawn = figures(found.rows, to_stderr())
    if wanted.figures is not None:
        write_figures(drawn, wanted.figures, to_stderr())
    return drawn


def _put(told: str | list[tuple[int, TextTable]], out: Path | None) -> None:
    """To stdout, or whole into a file; tables of text as they are in a terminal."""
    from gol_decouple.report import tables, written

    if out is not None:
        write_text(out, (told if isinstance(told, str) else written.as_text(told)) + "\n")
    elif isinstance(told, str):
        echo(told)
    else:
        tables.print_leveled(told, result_console())
