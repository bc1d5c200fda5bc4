"""The commands that use what is there: data to check and convert, the report, predictions, exports, the methods."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gol_decouple import methods
from gol_decouple.cli.app import (
    RUNS_DIR,
    DataFormat,
    Device,
    Format,
    RunsDir,
    Set,
    app,
    overrides,
    print_report,
)
from gol_decouple.config import config_names, load_config
from gol_decouple.errors import InputError
from gol_decouple.predictions import ImagePrediction
from gol_decouple.progress import SILENT, Progress, to_stderr

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the folder of one classifier in it.")]
OfMethod = Annotated[
    str | None, typer.Option("--method", help="A retrained classifier of RUN; stage one's unless given.")
]
OfSeed = Annotated[int | None, typer.Option("--seed", min=0, help="Which seed of the method, if there are several.")]


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
        resolved = load_config(config, overrides(set_, data_root))
        from gol_decouple.backbones.resolving import resolve
        from gol_decouple.data.checking import check_images

        lines, failure = check_images(resolve(resolved), to_stderr())
    for line in lines:
        typer.echo(os.fsencode(line))  # a path need not be UTF-8
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

    typer.echo(convert_annotations(source, target, frequencies_from, overwrite, to_stderr()))


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

    typer.echo(to_text([methods.get(name) for name in methods.select(method or ["all"], background=None)]))


@app.command()
def predict(
    run: Run,
    image: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, folders, or .txt lists with a path a line.")
    ],
    method: OfMethod = None,
    seed: OfSeed = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes of each image.")] = 5,
    format_: Annotated[DataFormat, typer.Option("--format", help="How to print them.")] = DataFormat.table,
    device: Device = None,
) -> None:
    """Print the likeliest classes of images."""
    from gol_decouple.stages.finding import find_classifier

    found = find_classifier(run, method, seed)
    from gol_decouple.data.pictures import find_pictures
    from gol_decouple.report import predicted
    from gol_decouple.stages.prediction import predict_images
    from gol_decouple.stages.restored import restore

    pictures = find_pictures(image)
    model, progress = restore(found), to_stderr()
    note = None if model.sums_to_one else f"scores of {model.name} are one for each class, and do not sum to 1"
    # In a terminal the results are themselves the sign of life.
    bar = SILENT if sys.stdout.isatty() else progress
    results = _Usable(predict_images(model, pictures, top_k, device or model.config.device, bar), progress)
    if format_ is DataFormat.table:
        predicted.print_tables(results, str(found), note, Console())
    else:
        lines = predicted.csv_lines if format_ is DataFormat.csv else predicted.json_lines
        for line in lines(results):
            typer.echo(line)
        if note:
            progress.say(f"note: {note}")
    if results.failed:
        failed = f"{results.failed} of {len(pictures)} images could not be used, and are named above"
        raise InputError(failed, results.hint)


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    method: OfMethod = None,
    seed: OfSeed = None,
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="A file of the backbone's library, the one loaded, or ONNX.")
    ] = ExportFormat.safetensors,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a model with its classifier into files that work without this program."""
    from gol_decouple.stages.finding import find_classifier

    found = find_classifier(run, method, seed)
    from gol_decouple.export import export_model

    for line in export_model(found, out, format_.value, overwrite):
        typer.echo(line)


class _Usable:
    """The predictions among some results; of the others, tells why and counts them."""

    def __init__(self, results: Iterable[ImagePrediction | InputError], progress: Progress) -> None:
        self._results = results
        self._progress = progress
        self.failed = 0
        self.hint: str | None = None

    def __iter__(self) -> Iterator[ImagePrediction]:
        for result in self._results:
            if isinstance(result, InputError):
                self.failed += 1
                self.hint = self.hint or result.hint
                self._progress.warn(result.message)
            else:
                yield result
