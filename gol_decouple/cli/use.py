"""The commands that use what was made: the report, and the methods there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gol_decouple import methods
from gol_decouple.cli.app import RUNS_DIR, Format, RunsDir, app, print_report


@app.command()
def report(
    run: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Run folders, features files or any folders above.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What gains are over: stage_one (unless given), or a method of stage two."),
    ] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print the accuracies of every finished run and classifier, and what is gained: all, many, medium, few classes."""
    print_report(run or [runs_dir], runs_dir, format_, baseline)


@app.command("methods")
def list_methods(
    method: Annotated[list[str] | None, typer.Argument(metavar="[METHOD]...", help="Names or patterns.")] = None,
) -> None:
    """List the methods of stage two: paper, parts and settings."""
    from gol_decouple.report.methods import to_text

    typer.echo(to_text([methods.get(name) for name in methods.select(method or ["all"], background=True)]))
