"""What was predicted for images, printed while it is found: as tables, csv or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console

from gol_decouple.predictions import ImagePrediction
from gol_decouple.report.layout import TextTable, print_table

# A table's columns are as wide as what is in it, so that it cannot begin before all of that is known.
IMAGES_A_TABLE = 500
COLUMNS = ("image", "rank", "class", "name", "score")


def print_tables(predictions: Iterable[ImagePrediction], title: str, note: str | None, console: Console) -> None:
    """A table for every 500 images, the note below each."""
    rest = iter(predictions)
    while some := list(islice(rest, IMAGES_A_TABLE)):
        cells = [
            [path_text(one.image) if rank == 0 else "", str(rank + 1), name, f"{score:.4f}"]
            for one in some
            for rank, (name, score) in enumerate(zip(one.names, one.scores, strict=True))
        ]
        print_table(TextTable(title, ["image", "rank", "class", "score"], cells, [note] if note else []), console)


def csv_lines(predictions: Iterable[ImagePrediction]) -> Iterator[str]:
    """A header, then a line for each class of each image."""
    yield csv_line(COLUMNS)
    for one in predictions:
        for rank, (label, name, score) in enumerate(zip(one.classes, one.names, one.scores, strict=True), start=1):
            yield csv_line((path_text(one.image), rank, label, name, f"{score:.6g}"))


def json_lines(predictions: Iterable[ImagePrediction]) -> Iterator[str]:
    """A list with a line for each image."""
    before = "["
    for one in predictions:
        classes = [
            {"class": label, "name": name, "score": score}
            for label, name, score in zip(one.classes, one.names, one.scores, strict=True)
        ]
        yield before + json.dumps({"image": path_text(one.image), "predictions": classes}, ensure_ascii=False)
        before = ","
    yield "]" if before == "," else "[]"


def path_text(path: Path) -> str:
    """A path; what of it is no text is written as its bytes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def csv_line(values: Iterable[object]) -> str:
    """A line of csv, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
