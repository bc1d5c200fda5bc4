"""Segmentations of LVIS's and COCO's files as masks: polygons, and run lengths (RLE) compressed or not.

What is malformed is refused here, before pycocotools sees it: it reads past the end of run lengths that are cut off,
and asks for all memory there is where a corner of a polygon is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.json_rows import shown
from gol_decouple.errors import InputError

LARGEST_COORDINATE = 1e5  # pixels; pycocotools walks along a polygon in fifths of a pixel
_POLYGON = "at least three corners: x, y, x, y, x, y, ..."
_HINT = "gol-decouple check ANNOTATIONS.json prints every bad annotation"


class Rle(TypedDict):
    """A mask in pycocotools' form: height and width, and compressed run lengths."""

    size: list[int]
    counts: bytes


def mask_of(segmentation: Any, height: int, width: int, annotation_id: int) -> NDArray[np.bool_]:
    """The mask of an annotation, [H, W].

    Args:
        segmentation: as it stands in the file: polygons, or an object with `size` and `counts`.
        height: of the image, in pixels.
        annotation_id: for the message.

    Raises:
        InputError: it is malformed, or of another size than the image.
    """
    runs = _runs(rle_of(segmentation, height, width, annotation_id)["counts"])
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def rle_of(segmentation: Any, height: int, width: int, annotation_id: int) -> Rle:
    """The mask of an annotation as pycocotools takes it; arguments and errors are those of `mask_of`."""
    if reason := fault(segmentation, height, width):
        raise InputError(f"annotation {annotation_id}: {reason}", _HINT)
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        merged: Rle = coco.merge(coco.frPyObjects(segmentation, height, width))
        return merged
    counts = segmentation["counts"]
    if isinstance(counts, list):
        compressed: Rle = coco.frPyObjects(segmentation, height, width)
        return compressed
    return {"size": [height, width], "counts": _bytes(counts)}


def areas_of(segmentations: Sequence[Any], height: int, width: int) -> NDArray[np.int64]:
    """Pixels [N] of the masks of annotations of one image, none of them malformed; of polygons that overlap, the sum:
    0 only of masks that are empty.
    """
    from pycocotools import mask as coco

    polygons = [part for some in segmentations if isinstance(some, list) for part in some]
    parts = coco.area(coco.frPyObjects(polygons, height, width)) if polygons else np.zeros(0, np.int64)
    areas, start = np.zeros(len(segmentations), np.int64), 0
    for at, some in enumerate(segmentations):
        if isinstance(some, list):
            areas[at] = parts[start : start + len(some)].sum()
            start += len(some)
        else:
            counts = some["counts"]
            areas[at] = np.sum((counts if isinstance(counts, list) else _runs(counts))[1::2])
    return areas


def fault(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation; None: nothing, it is a mask of that size."""
    if isinstance(segmentation, list):
        return _fault_of_polygons(segmentation)
    if not isinstance(segmentation, dict):
        return f"segmentation is {shown(segmentation)}, expected polygons or RLE"
    if segmentation.get("size") != [height, width]:
        return f"its RLE is of size {shown(segmentation.get('size'))}, its image [{height}, {width}]"
    counts = segmentation.get("counts")
    runs = _checked_runs(counts)
    if runs is None:
        what = counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts
        return f"its RLE counts are {shown(what)}, expected run lengths, as whole numbers or compressed"
    if sum(runs) != height * width:
        return f"its RLE is of {sum(runs):,} pixels, its image of {height * width:,}"
    return None


def _checked_runs(counts: Any) -> list[int] | None:
    """Run lengths, from 0; None: that is not what the counts of an RLE are."""
    if isinstance(counts, (str, bytes)):
        runs = _runs(counts).tolist() if _is_compressed(counts) else [-1]
    else:
        runs = counts if isinstance(counts, list) and all(type(run) is int for run in counts) else [-1]
    return runs if min(runs, default=0) >= 0 else None


def _fault_of_polygons(polygons: list[Any]) -> str | None:
    if not polygons:
        return "segmentation is an empty list"
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon is {shown(polygon)}, expected {_POLYGON}"
        try:
            # fsum is many times faster than a look at each; text and None it refuses.
            finite = math.isfinite(math.fsum(polygon)) and max(polygon) <= LARGEST_COORDINATE >= -min(polygon)
        except (TypeError, ValueError, OverflowError):
            finite = False
        if not finite:
            return f"a polygon is {shown(polygon)}, expected finite numbers of at most {LARGEST_COORDINATE:,.0f}"
    return None


def _is_compressed(counts: str | bytes) -> bool:
    """Whether all characters are those of compressed run lengths (6 bits, from "0" on), the last run being whole."""
    data = np.frombuffer(_bytes(counts), np.uint8)
    return len(data) > 0 and bool(((data >= 48) & (data < 112)).all()) and not (data[-1] - 48) & 0x20


def _runs(counts: str | bytes) -> NDArray[np.int64]:
    """Run lengths from their compressed form: 5 bits a character, the lowest first, 0x20 where more follow, 0x10 of the
    last the sign; from the fourth on, each is told as its difference to the one two before it.
    """
    data = np.frombuffer(_bytes(counts), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((data & 0x20) == 0)
    lengths = np.diff(ends, prepend=-1)
    starts = ends - lengths + 1
    places = np.minimum(np.arange(len(data)) - np.repeat(starts, lengths), 11)  # 12 characters are 60 bits
    values = np.add.reduceat((data & 0x1F) << (5 * places), starts)
    values -= np.where(data[ends] & 0x10, np.int64(1) << (5 * np.minimum(lengths, 12)), 0)
    for parity in (1, 2):  # of the runs 1, 3, 5, ... and 2, 4, 6, ...: sums of all differences before
        values[parity::2] = np.cumsum(values[parity::2])
    return values


def _bytes(counts: str | bytes) -> bytes:
    return counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
