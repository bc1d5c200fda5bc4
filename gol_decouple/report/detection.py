"""Figures of detections: a table for a person, csv or JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from rich.console import Console

from gol_decouple.detection.ground_truth import GroundTruth
from gol_decouple.report.layout import EMPTY, TextTable, print_table

_HEADINGS = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_s": "APs", "ap_m": "APm", "ap_l": "APl", "ap_r": "APr",
    "ap_c": "APc", "ap_f": "APf", "ar": "AR",
}  # fmt: skip
_CLASS_COLUMNS = ("category_id", "name", "frequency", "ap")
_NOTE = "s, m, l: small, medium, large objects; r, c, f: rare, common, frequent categories"


def print_tables(figures: dict[str, Any], truth: GroundTruth, title: str, console: Console, each: bool) -> None:
    """The figures that papers print; with `each`, the AP of every category below."""
    cells = [[_text(figures[name]) for name in _HEADINGS]]
    print_table(TextTable(title, list(_HEADINGS.values()), cells, [_NOTE]), console)
    if each:
        found = [
            [str(id_), name, frequency or EMPTY, _text(ap)] for id_, name, frequency, ap in _classes(figures, truth)
        ]
        console.print()
        print_table(TextTable("categories", ["id", "class", "frequency", "AP"], found, []), console)


def to_csv(figures: dict[str, Any], truth: GroundTruth, each: bool) -> str:
    """All figures in one line; with `each`, a line for every category instead. Empty where a value is None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if each:
        writer.writerow(_CLASS_COLUMNS)
        writer.writerows(_classes(figures, truth))
    else:
        names = [name for name in figures if name != "per_class"]
        writer.writerow(names)
        writer.writerow([figures[name] for name in names])
    return text.getvalue().rstrip("\n")


def to_json(figures: dict[str, Any]) -> str:
    """All figures as one object; `per_class` has category ids as texts."""
    return json.dumps(figures, indent=2, allow_nan=False)


def _classes(figures: dict[str, Any], truth: GroundTruth) -> list[tuple[int, str, str | None, float | None]]:
    letters = truth.frequencies
    frequencies = [None] * len(truth.category_names) if letters is None else letters.tolist()
    ids = truth.category_ids.tolist()
    columns = zip(ids, truth.category_names, frequencies, strict=True)
    return [(id_, name, frequency, figures["per_class"][id_]) for id_, name, frequency in columns]


def _text(points: float | None) -> str:
    return EMPTY if points is None else f"{points:.2f}"
