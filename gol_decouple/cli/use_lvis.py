"""The command that evaluates anyone's detections by LVIS's protocol."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple.cli.app import DataFormat, app, echo, result_console
from gol_decouple.progress import to_stderr


class IouType(StrEnum):
    """What overlaps."""

    bbox = "bbox"
    segm = "segm"


class Evaluator(StrEnum):
    """Which program evaluates."""

    columnar = "columnar"
    lvis = "lvis"


@app.command()
def evaluate(
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="A JSON file in LVIS format.")],
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="A JSON list of detections, as LVIS and COCO tools write it.")
    ],
    iou_type: Annotated[IouType, typer.Option(help="Boxes or masks.")] = IouType.bbox,
    evaluator: Annotated[
        Evaluator, typer.Option(help="Ours, or the lvis package, which is slow and gives the same.")
    ] = Evaluator.columnar,
    fixed_ap: Annotated[
        bool, typer.Option("--fixed-ap", help="Keep 10,000 detections a category instead of 300 an image.")
    ] = False,
    format_: Annotated[DataFormat, typer.Option("--format", help="How to print them.")] = DataFormat.table,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Print the AP of every category; JSON has it.")
    ] = False,
) -> None:
    """Print LVIS's average precision of detections: of all categories, rare, common and frequent, and by size."""
    from gol_decouple.detection import prepare
    from gol_decouple.report import detection

    prepared = prepare(annotations, iou_type.value)
    for note in prepared.truth.notes:
        to_stderr().say(note)
    figures = prepared.evaluate(str(results), evaluator=evaluator.value, fixed_ap=fixed_ap)
    if format_ is DataFormat.json:
        echo(detection.to_json(figures))
    elif format_ is DataFormat.csv:
        echo(detection.to_csv(figures, prepared.truth, per_class))
    else:
        title = f"{results.name}: {iou_type.value}, {'Fixed AP' if fixed_ap else 'LVIS'}, in points"
        detection.print_tables(figures, prepared.truth, title, result_console(), per_class)
