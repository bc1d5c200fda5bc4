"""What a study tells of itself beside its figures: command, machine, time, and the model that it is of."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from gol_decouple.bootstrap import Gain
from gol_decouple.report.layout import TextTable
from gol_decouple.report.markdown import markdown
from gol_decouple.reproduction.records import Made, Record, made, made_stage1, stage1_of
from gol_decouple.reproduction.tables import what_was_run
from gol_decouple.stages.manifest import environment

NOTES = ["training time: on the wall, whatever ran beside; of a study with its evaluation"]


def record(run: Path, began: float, what: str) -> Record:
    """Of a study of one run that ends now; began: `time.monotonic()` when it did; what: it trained."""
    return {
        "run": run.name,
        "stage1": stage1_of(run),
        "study": {
            "command": ["python", "-m", "benchmarks", *sys.argv[1:]],
            "what": what,
            "environment": environment(torch.device("cpu")),
            "seconds": round(time.monotonic() - began, 1),
        },
    }


def rounded(gain: Gain) -> list[float]:
    """A gain and its bounds as they are written: thousandths of a point."""
    return [round(value, 3) for value in (gain.mean, gain.low, gain.high)]


def table(title: str, records: list[Record]) -> TextTable:
    """What was run for some studies, each model's stage one once."""
    commands: list[Made] = []
    for one in records:
        model, study = made_stage1(one["run"], one["stage1"]), one["study"]
        commands += [] if model in commands else [model]
        commands.append(made(one["run"], " ".join(study["command"][3:5]), study["what"], study))
    return what_was_run(title, commands, NOTES)


def show(tables: list[TextTable]) -> None:
    """Print a study's tables as markdown."""
    print("\n\n".join(markdown(table, 4) for table in tables))
