"""What was found in images by a detector, printed while it is found: as tables, csv, or results in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from rich.console import Console

from gol_decouple.predictions import ImageDetections
from gol_decouple.report.layout import EMPTY, TextTable, print_table
from gol_decouple.report.predicted import IMAGES_A_TABLE, csv_line, path_text

COLUMNS = ("image", "rank", "class", "category_id", "name", "score", "x", "y", "width", "height")


def print_tables(found: Iterable[ImageDetections], title: str, note: str, console: Console) -> None:
    """A table for every 500 images, the note below each; boxes are in whole pixels.

    Images without an object stand there too, and below the table the best score that was not good enough.
    """
    rest = iter(found)
    columns = ["image", "class", "score", "x", "y", "width", "height"]
    while some := list(islice(rest, IMAGES_A_TABLE)):
        cells = [row for one in some for row in _rows(one)]
        empty = [one.next_score for one in some if not one.scores]
        notes = [note, f"{len(empty)} of {len(some)} images have none{_best_of(empty)}"] if empty else [note]
        print_table(TextTable(title, columns, cells, notes), console)


def csv_lines(found: Iterable[ImageDetections]) -> Iterator[str]:
    """A header, then a line for each object."""
    yield csv_line(COLUMNS)
    for one in found:
        columns = zip(one.classes, one.category_ids, one.names, one.scores, one.boxes, strict=True)
        for rank, (label, category_id, name, score, box) in enumerate(columns, start=1):
            sides = (f"{side:.2f}" for side in box)
            yield csv_line((path_text(one.image), rank, label, category_id, name, f"{score:.6g}", *sides))


def result_lines(found: Iterable[ImageDetections], image_ids: Mapping[Path, int]) -> Iterator[str]:
    """A list of results as COCO's and LVIS's tools take them, with a line for each object.

    Args:
        found: with the masks of all objects, or of none.
    """
    before = "["
    for one in found:
        masks = [{"segmentation": mask} for mask in one.masks] or [{}] * len(one.boxes)
        columns = zip(one.category_ids, one.boxes, one.scores, masks, strict=True)
        for category_id, box, score, mask in columns:
            row = {"image_id": image_ids[one.image], "category_id": category_id, "bbox": box, "score": score}
            yield before + json.dumps({**row, **mask})
            before = ","
    yield "]" if before == "," else "[]"


def _best_of(scores: Iterable[float | None]) -> str:
    found = [score for score in scores if score is not None]
    return f"; the best score below is {max(found):.2g}" if found else ""


def _rows(one: ImageDetections) -> list[list[str]]:
    """The cells of an image's objects; the image stands beside the first of them."""
    rows = [
        ["", name, f"{score:.4f}", *(f"{side:.0f}" for side in box)]
        for name, score, box in zip(one.names, one.scores, one.boxes, strict=True)
    ] or [["", *[EMPTY] * 6]]
    rows[0][0] = path_text(one.image)
    return rows
