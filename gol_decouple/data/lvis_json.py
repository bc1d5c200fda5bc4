"""Annotations in LVIS's format (v0.5, v1, or a dataset of one's own) as columns, checked.

The format is COCO's with `frequency`, `image_count` and `instance_count` of each category, and with
`neg_category_ids` and `not_exhaustive_category_ids` of each image. What is said of counts is in `lvis_counts`, of masks
in `masks`, of image files in `lvis_images`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.json_rows import Column, Row, integer_lists, integers, load_json, numbers, shown, text
from gol_decouple.data.lvis_records import Annotations, Bad, Categories, Images, LvisData, positions
from gol_decouple.errors import InputError, few
from gol_decouple.reported_ap import FREQUENCIES

TABLES = ("images", "annotations", "categories")
NEGATIVE, NOT_EXHAUSTIVE = "neg_category_ids", "not_exhaustive_category_ids"
NAMELESS = "annotations"  # what an object that is no file is called
_NOT_LVIS = "it takes LVIS's or COCO's instances json: an object with lists images, annotations and categories"
_CONVERT = "gol-decouple convert INPUT OUTPUT makes LVIS's format of COCO's"


def read_annotations(source: Path | Mapping[str, Any], masks: bool = True) -> LvisData:
    """A file in LVIS's format, or the object that is in it.

    Missing `iscrowd` and `ignore` are 0, missing `area` that of the box, missing `not_exhaustive_category_ids` an empty
    list; negative categories that are none of the file's are left out; notes tell of the last three.

    Args:
        masks: keep the segmentations, which are most of a file.

    Raises:
        InputError: no JSON, not in this format (without any `neg_category_ids`: in COCO's), without images or
            categories, or with entries that are malformed, have the id of another, or name what is not there.
    """
    data, bad = parse(*load(source, masks))
    refuse(data.name, bad)
    if not data.federated:
        raise InputError(f"{data.name}: no image has {NEGATIVE}, which tell where a detection is wrong", _CONVERT)
    return data


def load(source: Path | Mapping[str, Any], masks: bool = True) -> tuple[Any, str]:
    """What is in a file, and what to call it; without `masks`, segmentations are left out."""
    if not isinstance(source, Path):
        return source, NAMELESS
    return load_json(source, None if masks else _without_mask), str(source)


def _without_mask(row: Row) -> Row:
    row.pop("segmentation", None)
    return row


def refuse(name: str, bad: Sequence[Bad]) -> None:
    """Raise an InputError that names the first of what is bad, if anything is."""
    if bad:
        named = few([f"{what} ({reason})" for what, reason in bad])
        prints = len(bad) > 3 and name != NAMELESS
        hint = f"gol-decouple check {name} prints every one" if prints else "mend them, or remove them"
        raise InputError(f"{name}: {len(bad):,} bad entries: {named}", hint)


def parse(tree: Any, name: str) -> tuple[LvisData, list[Bad]]:
    """The columns of an object in LVIS's or in COCO's format, and which of its rows cannot be used.

    Annotations that are bad are in the columns too, with label -1; of several images or categories with one id, the
    first is.

    Raises:
        InputError: it is no such object, or it has no images or categories, or none with an id.
    """
    images, annotations, categories = (_table(tree, key, name) for key in TABLES)
    bad: list[Bad] = []
    parsed_categories = _parse_categories(categories, bad)
    federated = any(NEGATIVE in row for row in images)
    notes: list[str] = []
    parsed_images = _parse_images(images, parsed_categories, federated, bad, notes)
    for what, found in (("image", parsed_images), ("category", parsed_categories)):
        if not len(found):
            raise InputError(f"{name}: no {what} has an id that is a whole number", _NOT_LVIS)
    parsed = _parse_annotations(annotations, parsed_images, parsed_categories, bad, notes)
    return LvisData(name, parsed_images, parsed_categories, parsed, federated, tuple(notes)), bad


def _table(tree: Any, key: str, name: str) -> list[Row]:
    if not isinstance(tree, Mapping):
        kind = "a list" if isinstance(tree, list) else shown(tree)
        raise InputError(f"{name} holds {kind}, not annotations", _NOT_LVIS)
    if key not in tree:
        raise InputError(f"{name} has no {key!r}; it has {few(sorted(tree), 5) or 'nothing'}", _NOT_LVIS)
    rows = tree[key]
    if not isinstance(rows, list) or not all(type(row) is dict for row in rows):
        raise InputError(f"{name}: {key!r} is not a list of objects", _NOT_LVIS)
    if not rows and key != "annotations":  # images in which nothing is found are images too
        raise InputError(f"{name}: {key!r} is an empty list", _NOT_LVIS)
    return rows


def _parse_categories(rows: list[Row], bad: list[Bad]) -> Categories:
    kept, ids = _with_own_ids("category", "categories", rows, bad)
    rows = [rows[at] for at in kept]
    order = np.argsort(ids, kind="stable")
    rows, ids = [rows[at] for at in order], ids[order]
    names = []
    for row, id_ in zip(rows, ids.tolist(), strict=True):
        name = text(row, "name")
        if name is None:
            bad.append(Bad(f"category {id_}", f"name is {shown(row.get('name'))}, expected text"))
        names.append(name or "")
    frequency = None
    if any("frequency" in row for row in rows):
        stated = [row.get("frequency") for row in rows]
        for id_, value in zip(ids.tolist(), stated, strict=True):
            if value not in FREQUENCIES:
                bad.append(Bad(f"category {id_}", f"frequency is {shown(value)}, expected r, c or f"))
        frequency = np.array([value if value in FREQUENCIES else "f" for value in stated])
    counts = [_stated_counts(rows, key, ids, bad) for key in ("image_count", "instance_count")]
    return Categories(ids, names, frequency, counts[0], counts[1])


def _stated_counts(rows: list[Row], key: str, ids: NDArray[np.int64], bad: list[Bad]) -> NDArray[np.int64] | None:
    if not any(key in row for row in rows):
        return None
    column = integers(rows, key)
    bad += [Bad(f"category {ids[at]}", reason) for at, reason in column.bad.items()]
    return column.values


def _parse_images(rows: list[Row], categories: Categories, federated: bool, bad: list[Bad], notes: list[str]) -> Images:
    kept, ids = _with_own_ids("image", "images", rows, bad)
    rows = [rows[at] for at in kept]

    def tell(found: dict[int, str]) -> None:
        bad.extend(Bad(f"image {ids[at]}", reason) for at, reason in found.items())

    sizes = []
    for key in ("height", "width"):
        values, wrong = integers(rows, key)
        tell(wrong | {at: f"{key} is {values[at]}" for at in np.flatnonzero(values <= 0).tolist() if at not in wrong})
        sizes.append(values)
    pairs = []
    for key in (NEGATIVE, NOT_EXHAUSTIVE):
        if federated and (missing := [at for at, row in enumerate(rows) if key not in row]):
            if key == NEGATIVE:
                tell(dict.fromkeys(missing, f"{key} is missing"))
            else:
                notes.append(f"{len(missing):,} of {len(rows):,} images have no {key}: taken as none")
        category_ids, images, wrong = integer_lists(rows, key)
        tell(wrong)
        labels = categories.labels(category_ids)
        if unknown := sorted(set(category_ids[labels < 0].tolist())):
            named = few([str(id_) for id_ in unknown])
            notes.append(f"{key} names {len(unknown):,} categories that the file does not have: {named}; left out")
        pairs.append(np.stack([images, labels], axis=1)[labels >= 0])
    urls, files = ([text(row, key) or "" for row in rows] for key in ("coco_url", "file_name"))
    return Images(ids, sizes[0], sizes[1], urls, files, pairs[0], pairs[1])


def _parse_annotations(
    rows: list[Row], images: Images, categories: Categories, bad: list[Bad], notes: list[str]
) -> Annotations:
    id_column = integers(rows, "id")
    ids = id_column.values
    reasons: dict[int, str] = dict(id_column.bad)
    for at, count in _repeated(ids, id_column.bad):
        reasons.setdefault(at, f"its id is that of {count} annotations")
    found = []
    for what, key, find in (
        ("image", "image_id", lambda wanted: positions(images.ids, wanted)),
        ("category", "category_id", categories.labels),
    ):
        column = integers(rows, key)
        indices = find(column.values)
        indices[list(column.bad)] = -1
        unknown = np.flatnonzero(indices < 0).tolist()
        for at in unknown:
            reasons.setdefault(at, column.bad.get(at) or f"there is no {what} {column.values[at]}")
        found.append(indices)
    boxes = numbers(rows, "bbox", 4)
    crowds = integers(rows, "iscrowd", 0)
    areas = _areas(rows, boxes.values, notes)
    not_binary = {at: f"iscrowd is {crowds.values[at]}" for at in np.flatnonzero(crowds.values & ~1).tolist()}
    for wrong in (boxes.bad, _negative_sides(boxes.values), areas.bad, crowds.bad, not_binary):
        for at, reason in wrong.items():
            reasons.setdefault(at, reason)
    found[1][list(reasons)] = -1
    names = {at: f"at position {at}" if at in id_column.bad else str(ids[at]) for at in reasons}
    bad += [Bad(f"annotation {names[at]}", reasons[at]) for at in sorted(reasons)]
    ignored = np.array([bool(row.get("ignore")) for row in rows], dtype=bool)
    segmentations = [row.get("segmentation") for row in rows]
    return Annotations(ids, found[0], found[1], boxes.values, areas.values, crowds.values == 1, ignored, segmentations)


def _negative_sides(boxes: NDArray[np.float64]) -> dict[int, str]:
    at_fault = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1)).tolist()
    return {at: f"bbox is {shown(boxes[at].tolist())}, of negative width or height" for at in at_fault}


def _areas(rows: list[Row], boxes: NDArray[np.float64], notes: list[str]) -> Column:
    """The areas [A] that the rows state, or those of their boxes."""
    without = sum("area" not in row for row in rows)
    if without:
        notes.append(f"{without:,} of {len(rows):,} annotations have no area: that of the box is taken")
        of_boxes = (boxes[:, 2] * boxes[:, 3]).tolist()
        rows = [{"area": row.get("area", area)} for row, area in zip(rows, of_boxes, strict=True)]
    return numbers(rows, "area", 0)


def _with_own_ids(
    what: str, several: str, rows: list[Row], bad: list[Bad]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the rows whose ids are whole numbers and of no row before them, and the ids."""
    ids, wrong = integers(rows, "id")
    bad += [Bad(f"{what} at position {at}", reason) for at, reason in wrong.items()]
    repeated = _repeated(ids, wrong)
    told = {int(ids[at]): count for at, count in repeated}
    bad += [Bad(f"{what} {id_}", f"its id is that of {count} {several}") for id_, count in told.items()]
    good = np.delete(np.arange(len(ids)), [*wrong, *(at for at, _ in repeated)])
    return good, ids[good]


def _repeated(ids: NDArray[np.int64], wrong: dict[int, str]) -> list[tuple[int, int]]:
    """Positions of ids that stand before too, with how many rows have them; in order."""
    usable = np.delete(np.arange(len(ids)), list(wrong))
    _, first, inverse, counts = np.unique(ids[usable], return_index=True, return_inverse=True, return_counts=True)
    again = np.ones(len(usable), bool)
    again[first] = False
    return list(zip(usable[again].tolist(), counts[inverse[again]].tolist(), strict=True))
