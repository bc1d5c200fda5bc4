"""The command that compares two studies."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple.cli import completion
from gol_decouple.cli.app import RUNS_DIR, RunsDir, app, check_out, echo, result_console
from gol_decouple.files import write_text
from gol_decouple.progress import to_stderr

MOVED = 4  # exit code of --fail-on-change


class Format(StrEnum):
    """How a comparison is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


@app.command()
def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="A report's JSON, a run, or a folder of runs.",
            autocompletion=completion.run_folders,
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(metavar="B", help="The same; differences are B - A.", autocompletion=completion.run_folders),
    ],
    format_: Annotated[
        Format, typer.Option("--format", metavar="FORMAT", help="table, markdown, csv or json.")
    ] = Format.table,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    fail_on_change: Annotated[
        bool,
        typer.Option("--fail-on-change", help="Exit with 4 if a result moved, all comparisons allowed for (**)."),
    ] = False,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Compare two studies, yours and a colleague's: which results moved, by how much, beyond the noise or not."""
    from gol_decouple.report import studies, study_rows, study_tables

    check_out(out)
    found = studies.compare(*(study_rows.read_study(path, runs_dir, to_stderr()) for path in (a, b)))
    names = [str(a), str(b)]
    if format_ is Format.table and out is None:
        study_tables.print_tables(found, names, result_console())
    else:
        write = {Format.markdown: study_tables.to_markdown, Format.csv: study_tables.to_csv}
        write |= {Format.json: study_tables.to_json, Format.table: study_tables.to_text}
        text = write[format_](found, names)
        if out is None:
            echo(text)
        else:
            write_text(out, text + "\n")
    if fail_on_change and any(move.is_beyond_all for move in found.moves):
        raise typer.Exit(MOVED)
