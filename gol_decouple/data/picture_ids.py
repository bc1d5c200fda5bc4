"""The image ids that results in LVIS's and COCO's format call pictures by."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.lvis_json import load, parse, refuse
from gol_decouple.data.lvis_records import Images, LvisData
from gol_decouple.errors import InputError, few

_NUMBER = re.compile(r"\d+$")
_MOST_DIGITS = 18  # that a 64-bit number has for certain


def ids_by_name(pictures: Sequence[Path]) -> tuple[list[int], str]:
    """Ids [N] of pictures without annotations, and how they were found.

    They are the numbers that the files' names end in, as COCO's do (000000397133.jpg); or, where some have none or
    several the same, the pictures' places, from 1.
    """
    found = [_NUMBER.search(picture.stem) for picture in pictures]
    numbers = [int(match[0]) for match in found if match and len(match[0]) <= _MOST_DIGITS]
    if len(set(numbers)) == len(pictures):
        return numbers, "image_id is the number that the file's name ends in"
    return list(range(1, len(pictures) + 1)), "image_id is the picture's place, from 1"


def ids_by_annotations(
    pictures: Sequence[Path], annotations: Path, names: Sequence[str], category_ids: NDArray[np.int64]
) -> tuple[list[int], str]:
    """Ids [N] of pictures by the names that annotations in LVIS's or COCO's format have for them, and how they were
    found.

    Args:
        names, category_ids: of the classes that are detected, which the annotations should have too, [C].

    Raises:
        InputError: annotations that cannot be read, or that have other categories; or a picture that they do not have,
            or cannot tell from another.
    """
    data, bad = parse(*load(annotations, masks=False))
    refuse(data.name, bad)
    _refuse_other_categories(data, names, category_ids)
    known: dict[str, list[int]] = defaultdict(list)
    for at in range(len(data.images)):
        for file in {posixpath.basename(name) for name in _names(data.images, at)}:
            known[file].append(at)
    places = [_nearest(picture, known.get(picture.name, []), data.images) for picture in pictures]
    missing = [str(picture) for picture, found in zip(pictures, places, strict=True) if not found]
    if missing:
        told = f"{data.name} has no image of the name of {len(missing):,} of {len(pictures):,} pictures: {few(missing)}"
        raise InputError(told, "leave them out, or --annotations")
    for picture, found in zip(pictures, places, strict=True):
        if len(found) > 1:
            told = f"{data.name} has {len(found)} images that {picture} can be"
            raise InputError(told, "let its path end as file_name or coco_url do")
    ids = [int(data.images.ids[found[0]]) for found in places]
    if len(set(ids)) < len(ids):
        twice = next(picture for at, picture in enumerate(pictures) if ids[at] in ids[:at])
        raise InputError(f"{twice} is an image of {data.name} that another picture is too", "name each image once")
    return ids, f"image_id is that of {data.name}"


def _names(images: Images, at: int) -> list[str]:
    return [name for name in (images.file_names[at], images.coco_urls[at]) if name]


def _nearest(picture: Path, candidates: Sequence[int], images: Images) -> list[int]:
    """Those of some images whose names have most of a picture's path at their end."""
    if len(candidates) < 2:
        return list(candidates)
    path = picture.absolute().parts[::-1]
    alike = [max(_alike(path, name.split("/")[::-1]) for name in _names(images, at)) for at in candidates]
    return [at for at, number in zip(candidates, alike, strict=True) if number == max(alike)]


def _alike(parts: Sequence[str], others: Sequence[str]) -> int:
    pairs = list(zip(parts, others, strict=False))
    return next((at for at, (part, other) in enumerate(pairs) if part != other), len(pairs))


def _refuse_other_categories(data: LvisData, names: Sequence[str], category_ids: NDArray[np.int64]) -> None:
    theirs = dict(zip(data.categories.ids.tolist(), data.categories.names, strict=True))
    other = [
        f"{id_} is {name}, and not {theirs[id_]}" if id_ in theirs else f"{id_} ({name}) is not there"
        for id_, name in zip(category_ids.tolist(), names, strict=True)
        if theirs.get(id_) != name
    ]
    if other:
        told = f"{data.name} has other categories than the run: {few(other)}"
        raise InputError(told, "--annotations is a file of the dataset that the run was trained on")
