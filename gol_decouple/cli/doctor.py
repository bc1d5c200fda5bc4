"""The command that says what is wrong with files, and what to do."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gol_decouple.cli.app import app
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.progress import to_stderr

if TYPE_CHECKING:
    from gol_decouple.doctor.findings import Finding


class DoctorFormat(StrEnum):
    """How findings are printed, for people or for programs."""

    lines = "lines"
    json = "json"


@app.command()
def doctor(
    path: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Features files, checkpoints, runs, folders of these.")
    ],
    format_: Annotated[DoctorFormat, typer.Option("--format", help="How to print it.")] = DoctorFormat.lines,
) -> None:
    """Say of files what each is, whether it is in order, and if not what is wrong and what to do. Changes nothing."""
    from gol_decouple.doctor.findings import State
    from gol_decouple.doctor.folders import examine

    found = []
    for one in examine(path, to_stderr()):
        found.append(one)
        if format_ is DoctorFormat.lines:
            _print(one)
    counts = Counter(one.state for one in found)
    if format_ is DoctorFormat.json:
        typer.echo(_to_json(found, {state.value: counts[state] for state in State}))
    else:
        typer.echo(", ".join(f"{counts[state]:,} {state.value}" for state in State if counts[state]))
    if damaged := counts[State.damaged]:
        told = f"{damaged:,} of {len(found):,} {'is' if damaged == 1 else 'are'} damaged"
        raise InputError(told, "the hint below each says what helps; nothing was changed")
    if failed := counts[State.not_examined]:
        raise EnvironmentFailure(f"{failed:,} of {len(found):,} could not be examined")


def _print(one: Finding) -> None:
    from gol_decouple.doctor.findings import State

    in_order = one.state is State.in_order
    told = f"{one.kind}, {one.told}" if in_order else f"{one.kind}: {one.told}"
    told = told if not in_order and str(one.path) in one.told else f"{one.path}: {told}"
    typer.echo(os.fsencode(f"{one.state.value}: {told}"))  # a path need not be UTF-8
    if one.hint:
        typer.echo(os.fsencode(f"  hint: {one.hint}"))


def _to_json(found: Sequence[Finding], counts: dict[str, int]) -> str:
    findings = [asdict(one) | {"path": str(one.path), "state": one.state.value} for one in found]
    return json.dumps({"counts": counts, "findings": findings}, indent=2)
