"""The command that makes the papers' analyses of finished runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple.cli import completion
from gol_decouple.cli.app import RUNS_DIR, Device, RunsDir, app, result_console
from gol_decouple.progress import to_stderr


class What(StrEnum):
    """Which analysis."""

    objects = "objects"
    norms = "norms"
    curves = "curves"
    gradients = "gradients"
    all = "all"


@app.command()
def analyze(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run folders or features files; curves need none.",
            autocompletion=completion.run_folders,
        ),
    ] = None,
    what: Annotated[
        list[What] | None,
        typer.Option(
            metavar="WHAT", help="objects, norms, curves or gradients; repeatable; all that the run has unless given."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to; RUN/analyses unless given.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A classifier, 'balanced_*', or stage_one; repeatable; all unless given.")
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|ID", help="Of objects: whose maps to draw; repeatable; one a frequency if unset."),
    ] = None,
    grid: Annotated[int, typer.Option(min=1, max=64, help="Of objects: cells of the grid in each direction.")] = 32,
    annotations: Annotated[
        Path | None, typer.Option(help="Of objects: val annotations in LVIS's format; unset: the run's.")
    ] = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Draw the papers' analyses, with their numbers: object distributions, weight norms, activations, gradients."""
    from gol_decouple.analyses.command import Wanted, analyze
    from gol_decouple.report.layout import print_table

    chosen = None if not what or What.all in what else tuple(dict.fromkeys(one.value for one in what))
    wanted = Wanted(chosen, tuple(method or ()), tuple(category or ()), grid, annotations, device)
    made = analyze(run or [], runs_dir, out, wanted, to_stderr())
    console = result_console()
    for table in made.tables:
        print_table(table, console)
        console.print()
    typer.echo("written:")
    for path in made.files:
        typer.echo(f"  {path}")
