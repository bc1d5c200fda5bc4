"""The command that reports what is finished, and the report that other commands end with."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gol_decouple import provenance
from gol_decouple.cli import completion
from gol_decouple.cli.app import RUNS_DIR, RunsDir, app, echo
from gol_decouple.errors import InputError
from gol_decouple.files import write_text
from gol_decouple.progress import to_stderr

if TYPE_CHECKING:
    from gol_decouple.report.rows import Row


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    html = "html"


@app.command()
def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run folders, features files or any folders above.",
            autocompletion=completion.run_folders,
        ),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What gains are over: stage_one (unless given), or a method of stage two."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also draw figures into this folder.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print the accuracies of every finished run and classifier, and what is gained: all, many, medium, few classes."""
    print_report(run or [runs_dir], runs_dir, format_, baseline, out, figures)


def print_report(
    paths: list[Path],
    runs_dir: Path,
    format_: Format,
    baseline: str | None = None,
    out: Path | None = None,
    figures: Path | None = None,
) -> None:
    """The report on all that is finished in `paths`, and its gains, to stdout.

    Raises:
        InputError: results are damaged. They hide no others, which are printed before; but what was asked for is not
            all there, and programs have to notice.
    """
    from gol_decouple.report import gains, rows, stale, steady, tables

    def read() -> tuple[list[rows.Row], list[InputError]]:
        left_out: list[InputError] = []
        everything = rows.collect_rows(paths, runs_dir, left_out.append)
        return gains.add_gains(stale.without_stale(everything, paths, runs_dir, to_stderr()), baseline), left_out

    found, left_out = steady.steadily(lambda: rows.finished_folders(paths, runs_dir), read)
    for error in left_out:
        to_stderr().warn(f"left out: {error.message}")
    if format_ is Format.table and out is None:
        tables.print_tables(found, Console())
    else:
        text = _write(found, format_)
        if out is None:
            echo(text)
        else:
            write_text(out, text + "\n")
    if figures is not None:
        from gol_decouple.report.figures.write import write_figures

        write_figures(found, figures, to_stderr())
    if left_out:
        told = "1 result is" if len(left_out) == 1 else f"{len(left_out)} results are"
        raise InputError(f"{told} damaged and left out", f"gol-decouple doctor {shlex.join(map(str, paths))}")


def _write(found: list[Row], format_: Format) -> str:
    from gol_decouple.report import tables

    if format_ is Format.html:
        from gol_decouple.report.page.write import to_html

        return to_html(found, to_stderr(), provenance.command())
    return {Format.markdown: tables.to_markdown, Format.csv: tables.to_csv, Format.json: tables.to_json}[format_](found)
