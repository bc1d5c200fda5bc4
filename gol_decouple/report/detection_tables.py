"""Rows of detections to tables: those of one dataset, detector and test setting together, published figures below."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gol_decouple.report.cells import best_cells, setting_cells
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.paper_detection import published
from gol_decouple.report.rows import BOX_AP, MASK_AP, Row, by_setting, tested_with

_HEADINGS = ("AP", "AP50", "AP75", "APr", "APc", "APf")


def detection_tables(rows: Sequence[Row], paper: bool = False) -> Iterator[tuple[int, TextTable]]:
    """The tables of the rows that have detections, each with its level of heading.

    Figures of other test settings, or of boxes beside those of masks, cannot be compared: such rows have a table of
    their own.

    Args:
        paper: whether published figures of the same data and tests stand below, where there are any.
    """
    detected = [row for row in rows if row["test_settings"] is not None]
    tables: dict[tuple[Any, ...], list[Row]] = {}
    for row in detected:
        tables.setdefault(_setting(row), []).append(row)
    for setting, members in tables.items():
        others = [other for other in tables if other != setting and other[:3] == setting[:3]]
        yield 3, _table(members, bool(others))
        if paper and (quoted := published(members[0])):
            yield 4, quoted


def _setting(row: Row) -> tuple[Any, ...]:
    """Dataset, detector and split, then how it was tested."""
    tested = json.dumps(row["test_settings"], sort_keys=True)
    return row["dataset"], row["backbone"], row["split"], tested, _has_masks(row)


def _has_masks(row: Row) -> bool:
    return bool(row["test_settings"]["masks"])


def _table(rows: list[Row], has_others: bool) -> TextTable:
    first, several_runs = rows[0], len({row["run"] for row in rows}) > 1
    metrics = _metrics(first)
    columns = [*(["run"] if several_runs else []), "method", "recipe", "seeds", *metrics]
    settings = by_setting(rows)
    cells = setting_cells(settings, metrics, several_runs)
    run = "" if several_runs else f"{first['run']}: "
    what = "masks" if _has_masks(first) else "boxes"
    title = f"{run}{first['dataset']}, {first['backbone'] or 'unknown backbone'}, {first['split']}, AP of {what}"
    notes = _notes(first, has_others)
    return TextTable(title, columns, cells, notes, best=best_cells(settings, metrics))


def _metrics(row: Row) -> dict[str, str]:
    """Column headings, with the number of rare, common and frequent classes, and the figures below them."""
    numbers = [row[f"num_{letter}"] for letter in "rcf"]
    groups = [
        f"{name} ({EMPTY if number is None else number})" for name, number in zip(_HEADINGS[3:], numbers, strict=True)
    ]
    headings = [*_HEADINGS[:3], *groups]
    if not _has_masks(row):
        return dict(zip(headings, BOX_AP, strict=True))
    return dict(zip(headings, MASK_AP, strict=True)) | {"APb": "ap_box"}


def _notes(row: Row, has_others: bool) -> list[str]:
    boxes = "; b: boxes" if _has_masks(row) else ""
    notes = [
        f"points; r, c, f: rare, common, frequent classes (number){boxes}; mean ± deviation over seeds",
        f"all tested with {tested_with(row)}",
    ]
    if has_others:
        notes.append("rows that were tested otherwise are in another table: figures of two tables do not compare")
    return notes
