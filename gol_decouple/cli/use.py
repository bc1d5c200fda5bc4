"""The commands that use what is there: data to check and convert, exports."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple.cli import completion
from gol_decouple.cli.app import (
    OfMethod,
    OfSeed,
    Run,
    Set,
    app,
    echo,
    overrides,
)
from gol_decouple.config_files import config_names
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import to_stderr


class ExportFormat(StrEnum):
    """What an exported model is written as."""

    safetensors = "safetensors"
    checkpoint = "checkpoint"
    onnx = "onnx"


@app.command()
def check(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|ANNOTATIONS.json",
            help=f"{', '.join(config_names())}, a path to a TOML file, or to annotations like LVIS's or COCO's.",
            autocompletion=completion.configs,
        ),
    ],
    set_: Set = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the data lies, the same as data.path; of annotations, the images.")
    ] = None,
) -> None:
    """Decode every image before any training, and print what is missing or damaged: path, tab, reason.

    Of a file of annotations, bad boxes and masks too.
    """
    if config.lower().endswith(".json"):
        if set_:
            raise InputError(f"--set {set_[0]} changes a config, and {config} is a file of annotations", "leave it out")
        from gol_decouple.data.lvis_checking import check_annotations

        lines, failure = check_annotations(Path(config), data_root, to_stderr())
    else:
        from gol_decouple.config import load_config

        resolved = load_config(config, overrides(set_, data_root))
        from gol_decouple.backbones.resolving import resolve
        from gol_decouple.data.checking import check_images

        lines, failure = check_images(resolve(resolved), to_stderr())
    for line in lines:
        # A path need not be UTF-8.
        typer.echo(plain_line(line) if sys.stdout.isatty() else os.fsencode(line))
    if failure is not None:
        raise failure


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A file of annotations in COCO's format.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write, in LVIS's format.")],
    frequencies_from: Annotated[
        Path | None,
        typer.Option(metavar="TRAIN_JSON", help="Train annotations, which say what is rare; INPUT unless given."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if there is one.")] = False,
) -> None:
    """Write COCO-format annotations in LVIS's format, with frequencies by LVIS's rule, and say what is in them."""
    from gol_decouple.data.lvis_convert import convert as convert_annotations

    echo(convert_annotations(source, target, frequencies_from, overwrite, to_stderr()))


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    method: OfMethod = None,
    seed: OfSeed = None,
    format_: Annotated[
        ExportFormat,
        typer.Option("--format", metavar="FORMAT", help="safetensors, or checkpoint (as the one loaded), or onnx."),
    ] = ExportFormat.safetensors,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a model with its classifier into files that work without this program."""
    from gol_decouple.stages.finding import find_classifier

    found = find_classifier(run, method, seed)
    from gol_decouple.export import export_model

    for line in export_model(found, out, format_.value, overwrite):
        echo(line)
