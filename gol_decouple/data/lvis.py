"""data.kind = "lvis": annotations in LVIS's format and a folder of images become splits to train and test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.annotated import AnnotatedDataset, AnnotatedSplit, Segmentations
from gol_decouple.data.images import ImageFiles
from gol_decouple.data.lvis_counts import count, of_same_categories
from gol_decouple.data.lvis_images import find_images
from gol_decouple.data.lvis_json import read_annotations
from gol_decouple.data.lvis_records import LvisData
from gol_decouple.data.masks import faults
from gol_decouple.data.repeats import shared
from gol_decouple.errors import InputError, few
from gol_decouple.settings import DataConfig

SPLITS = ("train", "val")
# Pixels: a box that is narrower has no area once it is resized and rounded, and nothing to learn in it.
NARROWEST = 0.01


def load_annotated(config: DataConfig, look: bool = True) -> AnnotatedDataset:
    """The images of `data.annotations` below `data.path`.

    Objects are annotations that are no crowds and have a box with an area within the image. Train has the images with
    an object, val has all. Classes are those of the train file, in the order of category ids.

    Args:
        look: at every image file, of which none may be missing, damaged, or of another size than the annotations say.

    Raises:
        InputError: no `data.path` or `data.annotations`; a file that is malformed or not in LVIS's format; categories
            that differ; a train annotation without a mask; no image left; or what `look` finds.
    """
    paths = annotation_files(config)
    root = Path(config.path or "")
    read = {split: read_annotations(path) for split, path in paths.items()}
    train = read["train"]
    of_same_categories(read["val"], train)
    if len(missing := np.setdiff1d(train.categories.ids, read["val"].categories.ids)):
        named = f"{len(missing):,} categories of {train.name} are not listed in {read['val'].name}"
        raise InputError(f"{named}: {few([str(id_) for id_ in missing])}", "both files list all categories")
    if len(train.categories) < 2:
        raise InputError(f"{train.name} has one category, and a classifier needs two", "this is for many classes")
    splits, notes = {}, []
    for position, (name, data) in enumerate(read.items()):
        files, found = find_images(data.images, root, data.name)
        split, left_out = _split(data, files, train)
        notes += [*data.notes, found, *left_out]
        if name == "train":
            _refuse_without_masks(data, split)
            with_objects = np.flatnonzero(split.num_objects)
            if without := len(split) - len(with_objects):
                notes.append(f"{data.name}: {without:,} of {len(split):,} images have no object and are not trained on")
            split = split.take(with_objects)
        splits[name] = _limited(split, config, position)
        if not len(splits[name]):
            raise InputError(f"{data.name}: no image of it has an object", "train needs annotations with boxes")
        if look:
            _refuse_other_sizes(splits[name], data.name)
    counts = count(train)
    if config.limit is not None:
        notes.append(f"data.limit = {config.limit}: {', '.join(f'{len(part):,} {of}' for of, part in splits.items())}")
    name = config.name or root.resolve().name
    categories = train.categories
    told = tuple(dict.fromkeys([*notes, *counts.notes]))
    warnings = tuple(shared({split: part.images for split, part in splits.items()}, "average precisions"))
    return AnnotatedDataset(name, categories.names, categories.ids, splits, counts.frequency, told, warnings)


def annotation_files(config: DataConfig) -> dict[str, Path]:
    """The files of `data.annotations` by split.

    Raises:
        InputError: `data.path`, or one of the two, is not set or not there.
    """
    if config.path is None:
        raise InputError("data.kind = 'lvis' needs data.path, the folder of the images", "--data-root images")
    if not Path(config.path).is_dir():
        raise InputError(f"data.path = {config.path}: there is no such folder", "--set data.path=... names it")
    paths = {split: annotation_file(config, split) for split in SPLITS}
    for split, path in paths.items():
        if not path.is_file():
            raise InputError(
                f"data.annotations.{split}: there is no file {path}",
                f"--set data.annotations.folder=... names the folder, --set data.annotations.{split}=... the file",
            )
    return paths


def annotation_file(config: DataConfig, split: str) -> Path:
    """The file of a split's annotations, whether or not it is there.

    Raises:
        InputError: the config does not name it.
    """
    files = config.annotations
    named: str | None = getattr(files, split)
    if not named:
        where = "in data.annotations.folder or, where that is unset, in data.path"
        hint = f"--set data.annotations.{split}=my_{split}.json, {where}"
        raise InputError(f"data.kind = 'lvis' needs data.annotations.{split}", hint)
    return Path(files.folder or config.path or "") / named


def _split(data: LvisData, files: ImageFiles, train: LvisData) -> tuple[AnnotatedSplit, list[str]]:
    """All images of a file with their objects, and a note on the annotations that are none."""
    images, annotations = data.images, data.annotations
    sizes = np.stack([images.heights, images.widths], axis=1)
    left, top, width, height = annotations.boxes.T
    image_heights, image_widths = sizes[annotations.images].T
    corners = np.stack([left, top, left + width, top + height], axis=1)
    corners[:, 0::2] = corners[:, 0::2].clip(0, image_widths[:, None])
    corners[:, 1::2] = corners[:, 1::2].clip(0, image_heights[:, None])
    narrow = (corners[:, 2:] - corners[:, :2] < NARROWEST).any(axis=1)
    objects = np.flatnonzero(~annotations.crowds & ~narrow)
    objects = objects[np.argsort(annotations.images[objects], kind="stable")]
    counts = np.bincount(annotations.images[objects], minlength=len(images))
    notes = []
    for what, number in (("crowds", annotations.crowds.sum()), ("boxes without area", narrow.sum())):
        if number:
            notes.append(f"{data.name}: {number:,} of {len(annotations):,} annotations are {what} and left out")
    split = AnnotatedSplit(
        files,
        images.ids,
        sizes,
        np.concatenate([[0], np.cumsum(counts)]),
        corners[objects].astype(np.float32),
        train.categories.labels(data.categories.ids)[annotations.labels[objects]],
        objects,
        Segmentations(annotations.segmentations),
    )
    return split, notes


def _limited(split: AnnotatedSplit, config: DataConfig, position: int) -> AnnotatedSplit:
    """At most `data.limit` images, in the file's order."""
    if config.limit is None or config.limit >= len(split):
        return split
    chosen = np.random.default_rng([config.seed, position]).permutation(len(split))[: config.limit]
    return split.take(np.sort(chosen))


def _refuse_without_masks(data: LvisData, split: AnnotatedSplit) -> None:
    annotations = data.annotations
    segmentations = [annotations.segmentations[at] for at in split.masks.tolist()]
    found = faults(segmentations, np.repeat(split.sizes, split.num_objects, axis=0))
    if found:
        named = few([f"annotation {annotations.ids[split.masks[at]]} ({found[at]})" for at in sorted(found)])
        hint = f"Mask R-CNN is trained on masks; gol-decouple check {data.name} prints every bad one"
        raise InputError(f"{data.name}: {len(found):,} annotations have no mask to train on: {named}", hint)


def _refuse_other_sizes(split: AnnotatedSplit, name: str) -> None:
    """Refuse image files of other sizes; before a rotation that the file asks for, height and width are exchanged."""
    stored = split.images.look()[:, :2]
    alike = (stored == split.sizes).all(axis=1) | (stored[:, ::-1] == split.sizes).all(axis=1)
    if other := np.flatnonzero(~alike).tolist():
        named = few([_other_size(split, at, stored[at]) for at in other])
        raise InputError(f"{name}: {len(other):,} images have another size than it says: {named}", _hint(name, split))


def _other_size(split: AnnotatedSplit, index: int, found: Sequence[int] | NDArray[np.int64]) -> str:
    height, width = split.sizes[index]
    return f"{split.images.names[index]} is {found[1]}x{found[0]} (width x height), not {width}x{height}"


def _hint(name: str, split: AnnotatedSplit) -> str:
    return f"gol-decouple check {name} --data-root {split.images.root} prints every one"
