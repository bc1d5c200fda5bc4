"""The program's commands are registered here, and what they share: options, how they talk and print results."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import gol_decouple
from gol_decouple.cli import completion
from gol_decouple.cli.help import Group
from gol_decouple.config_files import config_names
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain
from gol_decouple.progress import Progress, speak, to_stderr

app = typer.Typer(
    help="Decoupled training for long-tailed recognition: keep the Softmax backbone, retrain only the classifier.",
    cls=Group,
    pretty_exceptions_enable=False,
)

ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help=f"{', '.join(config_names())}, or a path to a TOML file.",
        autocompletion=completion.configs,
    ),
]
DataRoot = Annotated[Path | None, typer.Option(help="Where the data lies; the same as data.path.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting; repeatable.", autocompletion=completion.settings
    ),
]
RunsDir = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Equal bits each time, on a GPU too; slower there.")
]
Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, or the folder of one classifier in it.",
        autocompletion=completion.run_folders,
    ),
]
OfMethod = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="A retrained classifier of RUN; stage one's unless given.",
        autocompletion=completion.method_names,
    ),
]
OfSeed = Annotated[int | None, typer.Option("--seed", min=0, help="Which seed of the method, if there are several.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but warnings and errors; results are printed.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document, and what is said as JSON, a line each.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is finished instead of keeping it.")]


RUNS_DIR = completion.RUNS_DIR


class DataFormat(StrEnum):
    """How predictions and figures are printed, for people or for programs."""

    table = "table"
    csv = "csv"
    json = "json"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(gol_decouple.__version__)
        raise typer.Exit


def talk(quiet: bool, as_json: bool) -> Progress:
    """What a command says of its work, in the form that its options ask for, as does all that it calls."""
    speak(quiet, as_json)
    return to_stderr()


def overrides(set_: list[str] | None, data_root: Path | None) -> list[str]:
    """What --set and --data-root change of a config."""
    return [*(set_ or []), *([f"data.path={data_root}"] if data_root else [])]


def result_console() -> Console:
    """The console of results. Rich takes FORCE_COLOR, which CI sets, for a terminal, where stdout is a file."""
    return Console(force_terminal=sys.stdout.isatty())


def echo_json(result: object) -> None:
    """Print a result, of plain values, as a JSON document."""
    typer.echo(json.dumps(result, indent=2, allow_nan=False))


def check_out(out: Path | None) -> None:
    """Raise an InputError before anything is computed, unless a file can be written there; None is stdout."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = "is a folder" if out.is_dir() else f"is in {out.parent}, which is no folder"
        raise InputError(f"--out {out} {what}", "name a file in a folder that is there")


def echo(text: str) -> None:
    """Print results: as they are for programs, in a terminal with what is not seen written out."""
    typer.echo(plain(text, len(text)) if sys.stdout.isatty() else text)
