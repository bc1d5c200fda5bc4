"""Results of a detector as columns, checked against the annotations that they are evaluated with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.data.json_rows import Column, integers, numbers, shown
from gol_decouple.data.lvis_records import positions
from gol_decouple.data.masks import Rle, areas_of, faults, to_rle
from gol_decouple.detection.ground_truth import Floats, GroundTruth, Ints
from gol_decouple.detection.json_parts import read_parts
from gol_decouple.errors import InputError

Results = str | Path | Sequence[Mapping[str, Any]] | Mapping[str, Any]
COLUMNS = ("image_id", "category_id", "boxes", "scores")
PART_ROWS = 2**16
_OTHER_SPLIT = "are these the annotations of the split that the results are for?"
_FORM = (
    "a result has image_id, category_id, score, and bbox [x, y, width, height] in pixels; for masks segmentation: "
    'polygons [[x1, y1, x2, y2, ...], ...], or an RLE {"size": [height, width], "counts": text}'
)
_SOME_BOXES = (
    "the size of an object (small, medium, large) is that of its bbox where results have one, else of its mask: give "
    "a bbox with every result, or with none"
)


@dataclass(frozen=True)
class Detections:
    """N results in the order given.

    Attributes:
        images, categories: [N], places in `GroundTruth.image_ids` and `category_ids`.
        scores: [N].
        areas: [N], square pixels: of the box if results have one, else of the mask.
        boxes: [N, 4], x, y, width, height in pixels; only for boxes.
        masks: [N], only for masks.
    """

    images: Ints
    categories: Ints
    scores: Floats
    areas: Floats
    boxes: Floats | None
    masks: list[Rle] | None


def read_detections(results: Results, truth: GroundTruth) -> Detections:
    """Results from a JSON file, a list of objects, or columns (a mapping with `COLUMNS`, for boxes).

    Raises:
        InputError: there are images or categories that the annotations do not have, malformed boxes or masks, scores
            that are not finite; or it is not of this form.
    """
    if isinstance(results, Mapping):
        return _from_columns(results, truth)
    where = str(results) if isinstance(results, str | Path) else "results"
    parts = [_read_part(rows, _Faults(where, first), truth) for first, rows in _in_parts(results)]
    images, categories, scores, areas = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "categories", "scores", "areas")
    )
    if any(part.has_boxes != parts[0].has_boxes for part in parts if len(part.scores)):
        raise InputError(f"{where}: some results have a bbox, others have none", _SOME_BOXES)
    if truth.masks is None:
        boxes = np.concatenate([part.boxes for part in parts if part.boxes is not None])
        return Detections(images, categories, scores, areas, boxes, None)
    return Detections(images, categories, scores, areas, None, [rle for part in parts for rle in part.masks or []])


def _in_parts(results: Results) -> Iterator[tuple[int, Sequence[Any]]]:
    """At least one part, which may be empty, and the place of its first result."""
    if isinstance(results, str | Path):
        parts: Iterable[Sequence[Any]] = read_parts(results)
    elif isinstance(results, Sequence):
        parts = (results[place : place + PART_ROWS] for place in range(0, max(len(results), 1), PART_ROWS))
    else:
        raise InputError(f"results are a {type(results).__name__}", f"give a path, a list, or columns {COLUMNS}")
    first = 0
    for part in parts:
        yield first, part
        first += len(part)


class _Faults:
    """What is wrong with which results; reasons are made only for those that are told."""

    def __init__(self, where: str, first: int = 0) -> None:
        self._where = where
        self._first = first  # the place of the first of these results among all
        self._found: list[tuple[Ints, Callable[[int], str], str]] = []

    def add(self, rows: Ints, reason: Callable[[int], str], hint: str = _FORM) -> None:
        """Say that some rows have a fault."""
        if len(rows):
            self._found.append((rows, reason, hint))

    def values(self, column: Column) -> Any:
        """The values of a column, whose faults are added."""
        self.add(np.array(sorted(column.bad), dtype=np.int64), column.bad.__getitem__)
        return column.values

    def refuse(self, number: int) -> None:
        """Raise an InputError if any of so many rows has a fault."""
        if not self._found:
            return
        rows = np.unique(np.concatenate([rows for rows, _, _ in self._found]))
        told = [f"results[{self._first + at}] ({self._reason(at)})" for at in rows[:3].tolist()]
        more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
        among = f"{len(rows):,} bad results among the first {self._first + number:,}"
        raise InputError(f"{self._where}: {among}: {', '.join(told)}{more}", self._found[0][2])

    def _reason(self, at: int) -> str:
        return next(reason(at) for rows, reason, _ in self._found if at in rows)


@dataclass(frozen=True)
class _Part(Detections):
    has_boxes: bool


def _read_part(rows: Sequence[Any], bad: _Faults, truth: GroundTruth) -> _Part:
    if set(map(type, rows)) != {dict}:  # by far the fastest way to look at all of them
        odd = np.flatnonzero([not isinstance(row, Mapping) for row in rows])
        bad.add(odd, lambda at: f"is {shown(rows[at])}, not an object")
        bad.refuse(len(rows))
    image_ids, category_ids = (bad.values(integers(rows, name)) for name in ("image_id", "category_id"))
    scores = bad.values(numbers(rows, "score", 0))
    images, categories = _places(bad, image_ids, category_ids, truth)
    bad.refuse(len(rows))
    if truth.masks is None:
        boxes = _boxes(rows, bad)
        return _Part(images, categories, scores, boxes[:, 2] * boxes[:, 3], boxes, None, has_boxes=True)
    masks = _masks(rows, truth.sizes[images], bad)
    without = np.flatnonzero(["bbox" not in row for row in rows])
    if not len(without) and masks:
        boxes = _boxes(rows, bad)
        return _Part(images, categories, scores, boxes[:, 2] * boxes[:, 3], None, masks, has_boxes=True)
    if len(without) < len(masks):
        bad.add(without, lambda _: "has no bbox, others have one", _SOME_BOXES)
        bad.refuse(len(rows))
    return _Part(images, categories, scores, areas_of(masks), None, masks, has_boxes=False)


def _boxes(rows: Sequence[Mapping[str, Any]], bad: _Faults) -> Floats:
    boxes: Floats = bad.values(numbers(rows, "bbox", 4))
    _add_negative_sides(boxes, bad)
    bad.refuse(len(rows))
    return boxes


def _add_negative_sides(boxes: Floats, bad: _Faults) -> None:
    negative = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    bad.add(negative, lambda at: f"bbox is {boxes[at].tolist()}, of negative width or height")


def _masks(rows: Sequence[Mapping[str, Any]], sizes: Ints, bad: _Faults) -> list[Rle]:
    segmentations = [row.get("segmentation") for row in rows]
    found = faults(segmentations, sizes)
    bad.add(np.array(sorted(found), dtype=np.int64), found.__getitem__)
    bad.refuse(len(rows))
    return [to_rle(mask, *size) for mask, size in zip(segmentations, sizes.tolist(), strict=True)]


def _from_columns(columns: Mapping[str, Any], truth: GroundTruth) -> Detections:
    if missing := [name for name in COLUMNS if name not in columns]:
        raise InputError(f"results have no column {' and no column '.join(missing)}", f"columns are {COLUMNS}")
    if truth.masks is not None:
        raise InputError("columns of boxes cannot be evaluated as masks", "give a list of objects with a segmentation")
    image_ids, category_ids, boxes, scores = (np.asarray(columns[name]) for name in COLUMNS)
    shapes = {name: np.shape(columns[name]) for name in COLUMNS}
    number = len(image_ids) if image_ids.ndim else 0
    if any(shapes[name] != (number,) for name in COLUMNS if name != "boxes") or shapes["boxes"] != (number, 4):
        raise InputError(f"columns of results do not go together: {shapes}", "they are [N], and boxes [N, 4]")
    for name, column in (("image_id", image_ids), ("category_id", category_ids)):
        if column.dtype.kind not in "iu" and number:
            raise InputError(f"the column {name} is of {column.dtype}, not of whole numbers")
    scores, boxes = _floats("scores", scores), _floats("boxes", boxes)
    bad = _Faults("results")
    image_ids, category_ids = (ids.astype(np.int64, copy=False) for ids in (image_ids, category_ids))
    images, categories = _places(bad, image_ids, category_ids, truth)
    bad.add(np.flatnonzero(~np.isfinite(scores)), lambda at: f"score is {scores[at]}, expected a finite number")
    finite = np.isfinite(boxes).all(axis=1)
    bad.add(np.flatnonzero(~finite), lambda at: f"bbox is {boxes[at].tolist()}, expected 4 finite numbers")
    _add_negative_sides(boxes, bad)
    bad.refuse(number)
    return Detections(images, categories, scores, boxes[:, 2] * boxes[:, 3], boxes, None)


def _floats(name: str, column: Any) -> Floats:
    if column.dtype.kind not in "iuf":
        raise InputError(f"the column {name} is of {column.dtype}, not of numbers")
    return np.asarray(column, dtype=np.float64)


def _places(bad: _Faults, image_ids: Ints, category_ids: Ints, truth: GroundTruth) -> tuple[Ints, Ints]:
    """The places of images and categories."""
    images, categories = positions(truth.image_ids, image_ids), positions(truth.category_ids, category_ids)
    for what, ids, places in (("image", image_ids, images), ("category", category_ids, categories)):

        def reason(at: int, what: str = what, ids: Ints = ids) -> str:
            return f"{truth.name} has no {what} {ids[at]}"

        bad.add(np.flatnonzero(places < 0), reason, _OTHER_SPLIT)
    return images.astype(np.int32), categories.astype(np.int32)
