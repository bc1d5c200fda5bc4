"""Results of a detector as columns, checked against the annotations that they are evaluated with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.detection.annotations import Annotations
from gol_decouple.detection.columns import Floats, Ints, Rows, places_of, told_ids
from gol_decouple.detection.json_parts import read_parts
from gol_decouple.detection.masks import Rle, areas_of, to_rles
from gol_decouple.errors import InputError

Results = str | Path | Sequence[Mapping[str, Any]] | Mapping[str, Any]
COLUMNS = ("image_id", "category_id", "boxes", "scores")
PART_ROWS = 2**16
_OTHER_SPLIT = "are these the annotations of the split that the results are for?"
_SOME_BOXES = (
    "the size of an object (small, medium, large) is that of its bbox where results have one, else of its mask: give "
    "a bbox with every result, or with none"
)


@dataclass(frozen=True)
class Detections:
    """N results in the order given.

    Attributes:
        images, categories: [N], places in `Annotations.image_ids` and `category_ids`.
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


def read_detections(results: Results, annotations: Annotations) -> Detections:
    """Results from a JSON file, a list of objects, or columns (a mapping with `COLUMNS`, for boxes).

    Raises:
        InputError: there are images or categories that the annotations do not have, malformed boxes or masks, scores
            that are not finite; or it is not of this form.
    """
    if isinstance(results, Mapping):
        return _from_columns(results, annotations)
    where = str(results) if isinstance(results, str | Path) else "results"
    parts = [_read_part(rows, annotations) for rows in _in_parts(results, where)]
    images, categories, scores, areas = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "categories", "scores", "areas")
    )
    if any(part.has_boxes != parts[0].has_boxes for part in parts if len(part.scores)):
        raise InputError(f"{where}: some results have a bbox, others have none", _SOME_BOXES)
    if annotations.masks is None:
        boxes = np.concatenate([part.boxes for part in parts if part.boxes is not None])
        found = Detections(images, categories, scores, areas, boxes, None)
    else:
        found = Detections(images, categories, scores, areas, None, [rle for part in parts for rle in part.masks or []])
    return found


def _in_parts(results: Results, where: str) -> Iterator[Rows]:
    """At least one part, which may be empty."""
    first = 0
    if isinstance(results, str | Path):
        parts: Iterable[Sequence[Any]] = read_parts(results)
    elif isinstance(results, Sequence):
        parts = (results[place : place + PART_ROWS] for place in range(0, max(len(results), 1), PART_ROWS))
    else:
        raise InputError(f"results are a {type(results).__name__}", f"give a path, a list, or columns {COLUMNS}")
    for part in parts:
        yield Rows(part, "results", where, first)
        first += len(part)


@dataclass(frozen=True)
class _Part(Detections):
    has_boxes: bool


def _read_part(rows: Rows, annotations: Annotations) -> _Part:
    image_ids, category_ids, scores = rows.integers("image_id"), rows.integers("category_id"), rows.numbers("score")
    images, categories = _checked(rows, image_ids, category_ids, scores, annotations)
    if annotations.masks is None:
        boxes = rows.boxes("bbox")
        rows.proper_boxes(boxes, "bbox")
        return _Part(images, categories, scores, boxes[:, 2] * boxes[:, 3], boxes, None, has_boxes=True)
    assert annotations.sizes is not None
    masks = to_rles(rows, annotations.sizes[images])
    without = [place for place, row in enumerate(rows.rows) if "bbox" not in row]
    if not without and masks:
        boxes = rows.boxes("bbox")
        rows.proper_boxes(boxes, "bbox")
        return _Part(images, categories, scores, boxes[:, 2] * boxes[:, 3], None, masks, has_boxes=True)
    if len(without) < len(masks):
        raise rows.error(without, "have no bbox, others have one", _SOME_BOXES)
    return _Part(images, categories, scores, areas_of(masks), None, masks, has_boxes=False)


def _from_columns(columns: Mapping[str, Any], annotations: Annotations) -> Detections:
    if missing := [name for name in COLUMNS if name not in columns]:
        raise InputError(f"results have no column {' and no column '.join(missing)}", f"columns are {COLUMNS}")
    if annotations.masks is not None:
        raise InputError("columns of boxes cannot be evaluated as masks", "give a list of objects with a segmentation")
    image_ids, category_ids, boxes, scores = (np.asarray(columns[name]) for name in COLUMNS)
    shapes = {name: np.shape(columns[name]) for name in COLUMNS}
    rows = len(image_ids) if image_ids.ndim else 0
    if any(shapes[name] != (rows,) for name in COLUMNS if name != "boxes") or shapes["boxes"] != (rows, 4):
        raise InputError(f"columns of results do not go together: {shapes}", "they are [N], and boxes [N, 4]")
    for name, column in (("image_id", image_ids), ("category_id", category_ids)):
        if column.dtype.kind not in "iu" and rows:
            raise InputError(f"the column {name} is of {column.dtype}, not of whole numbers")
    told = Rows(range(rows), "results", "results")
    scores, boxes = _floats("scores", scores), _floats("boxes", boxes)
    images, categories = _checked(
        told, image_ids.astype(np.int64, copy=False), category_ids.astype(np.int64, copy=False), scores, annotations
    )
    told.proper_boxes(boxes, "box")
    return Detections(images, categories, scores, boxes[:, 2] * boxes[:, 3], boxes, None)


def _floats(name: str, column: Any) -> Floats:
    if column.dtype.kind not in "iuf":
        raise InputError(f"the column {name} is of {column.dtype}, not of numbers")
    return np.asarray(column, dtype=np.float64)


def _checked(
    rows: Rows, image_ids: Ints, category_ids: Ints, scores: Floats, annotations: Annotations
) -> tuple[Ints, Ints]:
    """The places of images and categories."""
    places = []
    for what, ids, known in (
        ("an image", image_ids, annotations.image_ids),
        ("a category", category_ids, annotations.category_ids),
    ):
        found = places_of(ids, known)
        if len(bad := np.flatnonzero(found < 0)):
            text = f"are for {what} that {annotations.name} does not have (ids {told_ids(ids[bad])})"
            raise rows.error(bad, text, _OTHER_SPLIT)
        places.append(found.astype(np.int32))
    if len(bad := np.flatnonzero(~np.isfinite(scores))):
        raise rows.error(bad, f"have a score that is not finite ({scores[bad[0]]} for the first)")
    return places[0], places[1]
