"""The commands that train nothing: the check of images, the report, and the methods there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple import methods
from gol_decouple.cli.app import RUNS_DIR, ConfigName, DataRoot, Format, RunsDir, Set, app, overrides, print_report
from gol_decouple.config import load_config
from gol_decouple.progress import to_stderr


@app.command()
def check(config: ConfigName, set_: Set = None, data_root: DataRoot = None) -> None:
    """Decode every image before any training, and print those that are missing or damaged: path, tab, reason."""
    resolved = load_config(config, overrides(set_, data_root))
    from gol_decouple.backbones.resolving import resolve
    from gol_decouple.data.checking import check_images

    lines, failure = check_images(resolve(resolved), to_stderr())
    for line in lines:
        typer.echo(os.fsencode(line))  # a path need not be UTF-8
    if failure is not None:
        raise failure


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
