"""Annotations in the order that evaluation needs them in: what no scores change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.lvis_json import read_annotations, refuse
from gol_decouple.data.lvis_records import Bad, LvisData, positions
from gol_decouple.data.masks import Rle, faults, to_rle
from gol_decouple.errors import InputError, unknown

IouType = Literal["bbox", "segm"]
IOU_TYPES = ("bbox", "segm")
Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of I images, with C categories; a group is an image and a category, its key image * C + category.

    Annotations whose area is not positive are left out, as in the `lvis` package.

    Attributes:
        name: how messages call them.
        image_ids: [I], ascending; images are numbered by their place here.
        sizes: [I, 2], height and width in pixels.
        category_ids: [C], ascending; categories are numbered by their place here.
        frequencies: [C], r, c or f; None if the file has none.
        keys: [A], the group of every annotation, ascending; annotations of a group are in the file's order.
        areas: [A], square pixels, as the file has them.
        ignored: [A], whether the file says that an annotation neither counts nor is a mistake to find.
        boxes: [A, 4], x, y, width, height in pixels.
        masks: [A]; None for boxes.
        listed: keys of groups that are evaluated, ascending: of annotations and of negative categories.
        not_exhaustive: keys of groups in which not every object is annotated, ascending.
        notes: what the user should know of how the file was read.
    """

    name: str
    image_ids: Ints
    sizes: Ints
    category_ids: Ints
    category_names: list[str]
    frequencies: NDArray[np.str_] | None
    keys: Ints
    areas: Floats
    ignored: Bools
    boxes: Floats
    masks: list[Rle] | None
    listed: Ints
    not_exhaustive: Ints
    notes: tuple[str, ...]


def read_ground_truth(
    source: str | Path | Mapping[str, Any], iou_type: IouType, image_ids: Ints | None = None
) -> GroundTruth:
    """The annotations of a file in LVIS's format, or of what it holds.

    Args:
        image_ids: of the images to evaluate on; None: all.

    Raises:
        InputError: it is no such file, or has bad entries; for masks, bad masks; or it does not have an image.
    """
    if iou_type not in IOU_TYPES:
        raise unknown("iou_type", str(iou_type), IOU_TYPES)
    data = read_annotations(Path(source) if isinstance(source, str) else source, masks=iou_type == "segm")
    images, categories, annotations = data.images, data.categories, data.annotations
    order = np.argsort(images.ids)
    if image_ids is not None:
        order = _chosen(data, image_ids)
    places = np.full(len(images), -1)  # of each image, in the order of ids
    places[order] = np.arange(len(order))
    sizes = np.stack([images.heights, images.widths], axis=1)
    keys = places[annotations.images] * len(categories) + annotations.labels
    chosen = np.argsort(keys, kind="stable")
    chosen = chosen[(annotations.areas > 0)[chosen] & (places[annotations.images] >= 0)[chosen]]
    keys = keys[chosen]
    negative, incomplete = (
        np.unique((places[pairs[:, 0]] * len(categories) + pairs[:, 1])[places[pairs[:, 0]] >= 0])
        for pairs in (images.negative, images.not_exhaustive)
    )
    return GroundTruth(
        data.name,
        image_ids=images.ids[order],
        sizes=sizes[order],
        category_ids=categories.ids,
        category_names=categories.names,
        frequencies=categories.frequency,
        keys=keys,
        areas=annotations.areas[chosen],
        ignored=annotations.ignored[chosen],
        boxes=annotations.boxes[chosen],
        masks=_masks(data, chosen, sizes) if iou_type == "segm" else None,
        listed=np.union1d(negative, keys),
        not_exhaustive=incomplete,
        notes=data.notes,
    )


def _chosen(data: LvisData, image_ids: Ints) -> Ints:
    """Indices of some images, in the order of their ids."""
    wanted = np.unique(image_ids)
    found = positions(data.images.ids, wanted)
    if len(missing := wanted[found < 0]):
        told = f"{data.name} has {len(wanted) - len(missing):,} of {len(wanted):,} images, and not {missing[0]}"
        raise InputError(told, "evaluate with the annotations of the split that the images are of")
    return found


def _masks(data: LvisData, chosen: Ints, sizes: Ints) -> list[Rle]:
    annotations = data.annotations
    sizes = sizes[annotations.images]
    found = faults(annotations.segmentations, sizes)
    refuse(data.name, [Bad(f"annotation {annotations.ids[at]}", found[at]) for at in sorted(found)])
    return [to_rle(annotations.segmentations[at], *sizes[at].tolist()) for at in chosen]
