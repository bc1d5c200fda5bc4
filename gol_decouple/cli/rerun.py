"""The command that repeats a run and compares what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gol_decouple.cli.app import Device, Run, app
from gol_decouple.cli.train import refuse_several_processes
from gol_decouple.progress import to_stderr


@app.command("rerun")
def repeat(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the repeated run; RUN.rerun, or RUN.rerun_stage2, unless given."),
    ] = None,
    device: Device = None,
) -> None:
    """Repeat a run from what it recorded, in another folder, and tell whether it comes out the same, bit by bit.

    Of the folder of one classifier, that one on RUN's own features.
    """
    refuse_several_processes("rerun")
    from gol_decouple.report.compared import table
    from gol_decouple.report.layout import print_table
    from gol_decouple.stages.rerun import rerun

    progress = to_stderr()
    outcome = rerun(run, out, device, progress)
    print_table(table(outcome.told()), Console())
    progress.say(f"the repeated run is in {outcome.out}")
    failure = outcome.failure()
    if failure is not None:
        raise failure
