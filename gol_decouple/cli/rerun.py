"""The command that repeats a run and compares what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gol_decouple.cli.app import AsJson, Device, Quiet, Run, app, echo_json, result_console, talk
from gol_decouple.cli.train import refuse_several_processes


@app.command("rerun")
def repeat(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the repeated run; RUN.rerun, or RUN.rerun_stage2, unless given."),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Repeat a run from what it recorded, in another folder, and tell whether it comes out the same, bit by bit.

    Of the folder of one classifier, that one on RUN's own features.
    """
    progress = talk(quiet, as_json)
    refuse_several_processes("rerun")
    from gol_decouple.report.compared import table
    from gol_decouple.report.layout import print_table
    from gol_decouple.stages.rerun import rerun

    outcome = rerun(run, out, device, progress)
    if as_json:
        echo_json({**outcome.told(), "out": str(outcome.out)})
    else:
        print_table(table(outcome.told()), result_console())
    progress.say(f"the repeated run is in {outcome.out}")
    failure = outcome.failure()
    if failure is not None:
        raise failure
