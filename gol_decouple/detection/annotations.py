"""Annotations in LVIS format, as columns: what an evaluation needs of them and no scores change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.columns import Bools, Floats, Ints, Rows, places_of
from gol_decouple.detection.masks import Rle, to_rles
from gol_decouple.errors import InputError, few, unknown

IouType = Literal["bbox", "segm"]
IOU_TYPES = ("bbox", "segm")
FREQUENCIES = ("r", "c", "f")
_NEEDS = ("images", "annotations", "categories")
_NOT_LVIS = "LVIS annotations are a JSON object with lists images, annotations and categories"
_NO_NEGATIVES = (
    "evaluation by LVIS's protocol needs the categories that are known to be absent from each image ([] if none are "
    "known): without them false positives cannot be told from objects that nobody annotated"
)


@dataclass(frozen=True)
class Annotations:
    """The annotations of I images, with C categories; a group is an image and a category, its key image * C + category.

    Annotations whose area is not positive are left out, as in the `lvis` package.

    Attributes:
        name: how messages call them.
        image_ids: [I], ascending; images are numbered by their place here.
        sizes: [I, 2], height and width in pixels; only for masks.
        category_ids: [C], ascending; categories are numbered by their place here.
        frequencies: [C], r, c or f; None if the file has none.
        keys: [A], the group of every annotation, ascending; annotations of a group are in the file's order.
        areas: [A], square pixels, as the file has them.
        ignored: [A], whether the file says that an annotation neither counts nor is a mistake to find.
        boxes: [A, 4], x, y, width, height in pixels; only for boxes.
        masks: [A], only for masks.
        listed: keys of groups that are evaluated, ascending: of annotations and of negative categories.
        not_exhaustive: keys of groups in which not every object is annotated, ascending.
    """

    name: str
    image_ids: Ints
    sizes: Ints | None
    category_ids: Ints
    category_names: list[str]
    frequencies: NDArray[np.str_] | None
    keys: Ints
    areas: Floats
    ignored: Bools
    boxes: Floats | None
    masks: list[Rle] | None
    listed: Ints
    not_exhaustive: Ints


def load_tree(source: str | Path | Mapping[str, Any], iou_type: IouType) -> tuple[Mapping[str, Any], str]:
    """The JSON object of annotations, and its name for messages; polygons are only kept for masks.

    Raises:
        InputError: it is not one of LVIS's form.
    """
    if iou_type not in IOU_TYPES:
        raise unknown("iou_type", str(iou_type), IOU_TYPES)
    tree, name = source, "annotations"
    if isinstance(source, str | Path):
        name = str(source)
        try:
            with open(source, encoding="utf-8") as file:
                tree = json.load(file, object_hook=None if iou_type == "segm" else _without_polygons)
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{name} is not readable JSON: {reason}", _NOT_LVIS) from None
    if not isinstance(tree, Mapping):
        raise InputError(f"{name} holds a {type(tree).__name__}, not an object", _NOT_LVIS)
    if missing := [part for part in _NEEDS if not isinstance(tree.get(part), list)]:
        raise InputError(f"{name} has no list {' and no list '.join(missing)}", _NOT_LVIS)
    return tree, name


def read_annotations(source: str | Path | Mapping[str, Any], iou_type: IouType) -> Annotations:
    """Annotations from a JSON file in LVIS format, or from what it holds.

    Raises:
        InputError: it is no such file; ids are there twice or point nowhere; boxes, masks or areas are malformed;
            images have no `neg_category_ids`.
    """
    tree, name = load_tree(source, iou_type)
    images, categories = (Rows(tree[what], what, name) for what in ("images", "categories"))
    image_ids, category_ids = images.integers("id"), categories.integers("id")
    for rows, ids in ((images, image_ids), (categories, category_ids)):
        if not len(ids):
            raise InputError(f"{name} has no {rows.what}", _NOT_LVIS)
        rows.unique(ids)
    order = np.argsort(category_ids)
    names = [str(categories.rows[place].get("name", category_ids[place])) for place in order]
    frequencies = _frequencies(categories)
    by_image = np.argsort(image_ids)
    sizes = None if iou_type == "bbox" else np.stack([images.integers("height"), images.integers("width")], 1)[by_image]
    places = np.argsort(by_image)
    image_ids, category_ids = image_ids[by_image], category_ids[order]
    found = _Annotated.read(Rows(tree["annotations"], "annotations", name), image_ids, category_ids, sizes)
    negative, incomplete = (
        _listed_groups(images, field, places, category_ids, needed)
        for field, needed in (("neg_category_ids", _NO_NEGATIVES), ("not_exhaustive_category_ids", None))
    )
    return Annotations(
        *(name, image_ids, sizes, category_ids, names),
        frequencies=None if frequencies is None else frequencies[order],
        keys=found.keys,
        areas=found.areas,
        ignored=found.ignored,
        boxes=found.boxes,
        masks=found.masks,
        listed=np.union1d(negative, found.keys),
        not_exhaustive=incomplete,
    )


@dataclass(frozen=True)
class _Annotated:
    """The columns of `Annotations` that have a row an annotation."""

    keys: Ints
    areas: Floats
    ignored: Bools
    boxes: Floats | None
    masks: list[Rle] | None

    @classmethod
    def read(cls, rows: Rows, image_ids: Ints, category_ids: Ints, sizes: Ints | None) -> _Annotated:
        rows.unique(rows.integers("id"))
        images = _known(rows, "image_id", image_ids)
        categories = _known(rows, "category_id", category_ids)
        areas = rows.numbers("area")
        if not np.isfinite(areas).all():
            raise rows.error(np.flatnonzero(~np.isfinite(areas)), "have an area that is not finite")
        keys = images * len(category_ids) + categories
        order = np.argsort(keys, kind="stable")
        order = order[areas[order] > 0]
        ignored = np.array([bool(row.get("ignore", 0)) for row in rows.rows], dtype=bool)
        boxes, masks = None, None
        if sizes is None:
            boxes = rows.boxes("bbox")
            rows.proper_boxes(boxes, "bbox")
            boxes = boxes[order]
        else:
            rles = to_rles(rows, sizes[images])
            masks = [rles[place] for place in order]
        return cls(keys[order], areas[order], ignored[order], boxes, masks)


def _known(rows: Rows, field: str, ids: Ints) -> Ints:
    found = rows.integers(field)
    places = places_of(found, ids)
    if len(bad := np.flatnonzero(places < 0)):
        raise rows.error(bad, f"have a {field} that the file does not list ({few([str(id_) for id_ in found[bad]])})")
    return places


def _frequencies(categories: Rows) -> NDArray[np.str_] | None:
    """r, c or f of every category, or None if the file has none of them."""
    if not any("frequency" in row for row in categories.rows):
        return None
    found = categories.field("frequency", "each category is r, c or f; or leave the field out of all")
    if bad := [place for place, value in enumerate(found) if value not in FREQUENCIES]:
        raise categories.error(bad, f"have a frequency that is not r, c or f ({found[bad[0]]!r})")
    return np.array(found)


def _listed_groups(images: Rows, field: str, places: Ints, category_ids: Ints, needed: str | None) -> Ints:
    """Keys of the groups that images list in a field, ascending; ids that no category has mean nothing.

    Args:
        places: [I], of each image among those in the order of their ids.
        needed: the hint if an image has no such list; None where that means an empty one.
    """
    lists = images.field(field, needed) if needed else [row.get(field, []) for row in images.rows]
    bad = [place for place, ids in enumerate(lists) if not isinstance(ids, list) or not _whole(ids)]
    if bad:
        raise images.error(bad, f"have a {field} that is not a list of category ids")
    counts = np.array([len(ids) for ids in lists])
    flat = np.array([id_ for ids in lists for id_ in ids], dtype=np.int64)
    categories = places_of(flat, category_ids)
    keys = np.repeat(places, counts) * len(category_ids) + categories
    return np.unique(keys[categories >= 0])


def _whole(ids: list[Any]) -> bool:
    return all(type(id_) is int for id_ in ids)


def _without_polygons(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("segmentation", None)
    return row
