"""COCO's format to LVIS's: frequencies by LVIS's rule, and every absent class a verified negative."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.lvis_counts import by_rule, count, in_words, of_same_categories
from gol_decouple.data.lvis_json import NEGATIVE, NOT_EXHAUSTIVE, load, parse, refuse
from gol_decouple.data.lvis_records import LvisData
from gol_decouple.errors import InputError
from gol_decouple.files import write_text
from gol_decouple.progress import SILENT, Progress

EXHAUSTIVE = (
    f"{NEGATIVE}: every class that an image has no annotation of counts as verified not to be in it, as in COCO, where "
    "all instances of all classes are annotated; where they are not, results would be told as wrong that are right"
)


def convert(
    source: Path, target: Path, train: Path | None = None, overwrite: bool = False, progress: Progress = SILENT
) -> str:
    """Write a COCO-format file of annotations in LVIS's format; everything else in it stays, crowds too.

    Args:
        train: the file of train annotations, in either format, whose counts and frequencies `target` states; `source`
            unless given.
        overwrite: replace `target` if there is one.

    Returns:
        A line on what was written.

    Raises:
        InputError: a file that is not in COCO's format, or in LVIS's already, or has bad entries; `train` with other
            categories; a `target` that is there.
    """
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists", "--overwrite replaces it, another name keeps it")
    if any(target.exists() and given.exists() and target.samefile(given) for given in (source, train or source)):
        raise InputError(f"{target} is what is read", "name another output")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written: there is no folder {target.parent}", "make it, or name another")
    tree, name = load(source)
    data = _refusing(tree, name)
    if data.federated:
        raise InputError(f"{name} is in LVIS's format already: its images have {NEGATIVE}", "use it as it is")
    train_data = data if train is None else _refusing(*load(train))
    if not len(train_data.annotations):
        raise InputError(f"{train_data.name} has no annotations to count", "--frequencies-from names a file that has")
    images, instances = of_same_categories(data, train_data)
    stated = train_data.categories.frequency if train is not None else None
    frequency = by_rule(images) if stated is None else stated[train_data.categories.labels(data.categories.ids)]
    for note in (
        *data.notes,
        EXHAUSTIVE,
        f"frequencies, image_count and instance_count are those of {train or source}",
    ):
        progress.say(note)
    _write(target, name, _converted(tree, data, frequency, images, instances))
    return _summary(target, data, frequency)


def _refusing(tree: Any, name: str) -> LvisData:
    data, bad = parse(tree, name)
    refuse(name, bad)
    return data


def _converted(
    tree: dict[str, Any],
    data: LvisData,
    frequency: NDArray[np.str_],
    images: NDArray[np.int64],
    instances: NDArray[np.int64],
) -> dict[str, Any]:
    labels = {id_: label for label, id_ in enumerate(data.categories.ids.tolist())}
    categories = []
    for row in tree["categories"]:
        label = labels[row["id"]]
        stated = {"image_count": int(images[label]), "instance_count": int(instances[label])}
        categories.append({**row, "frequency": str(frequency[label]), **stated})
    rows = zip(tree["images"], _absent(data), strict=True)
    annotations = data.annotations
    return {
        **tree,
        "images": [{**row, NEGATIVE: absent, NOT_EXHAUSTIVE: row.get(NOT_EXHAUSTIVE, [])} for row, absent in rows],
        "annotations": [
            row if "area" in row else {**row, "area": area}
            for row, area in zip(tree["annotations"], annotations.areas.tolist(), strict=True)
        ],
        "categories": categories,
    }


def _absent(data: LvisData) -> list[list[int]]:
    """Of each image, the ids of the categories that it has no annotation of, crowds included."""
    annotations = data.annotations
    by_image = np.argsort(annotations.images, kind="stable")
    ends = np.cumsum(np.bincount(annotations.images, minlength=len(data.images)))
    present: Sequence[NDArray[np.int64]] = np.split(annotations.labels[by_image], ends[:-1])
    return [np.delete(data.categories.ids, labels).tolist() for labels in present]


def _write(target: Path, name: str, tree: dict[str, Any]) -> None:
    try:
        text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise InputError(f"{name} holds NaN or Infinity, which JSON does not have", "write null instead") from None
    write_text(target, text + "\n")


def _summary(target: Path, data: LvisData, frequency: NDArray[np.str_]) -> str:
    crowds = int(data.annotations.crowds.sum())
    return (
        f"{target}: {len(data.images):,} images ({count(data).num_images:,} annotated), {len(data.annotations):,} "
        f"annotations ({crowds:,} crowds), {len(data.categories):,} categories ({in_words(frequency)})"
    )
