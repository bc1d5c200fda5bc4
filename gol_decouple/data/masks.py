"""Masks of annotations and results: polygons, and run lengths (RLE) compressed or not.

What is malformed is refused here, before pycocotools sees it: it reads past the end of run lengths that are cut off,
takes those of wrong sums, and asks for all memory there is where a corner of a polygon is not a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.json_rows import shown
from gol_decouple.data.run_lengths import decode
from gol_decouple.errors import InputError

LARGEST_COORDINATE = 1e5  # pixels; pycocotools walks along a polygon in fifths of a pixel
_HINT = "gol-decouple check ANNOTATIONS.json prints every bad annotation"
_POLYGON = "at least three corners: x, y, x, y, x, y, ..."
_COUNTABLE = 2**200
_MASKS_AT_ONCE = 2**9  # what is computed of their characters stays in the processor's cache


class Rle(TypedDict):
    """A mask in pycocotools' form: height and width, and compressed run lengths."""

    size: list[int]
    counts: bytes


def faults(segmentations: Sequence[Any], sizes: NDArray[np.int64]) -> dict[int, str]:
    """What is wrong with each segmentation that is no mask of its image.

    Args:
        segmentations: N, as they stand in JSON: polygons, or an object with `size` and `counts`.
        sizes: [N, 2], height and width of their images in pixels.
    """
    found: dict[int, str] = {}
    compressed: list[int] = []
    for at, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
        if isinstance(segmentation, list):
            reason = _fault_of_polygons(segmentation)
        else:
            reason = _fault_of_rle(segmentation, height, width)
            if reason is None and not isinstance(segmentation["counts"], list):
                compressed.append(at)
        if reason is not None:
            found[at] = reason
    for start in range(0, len(compressed), _MASKS_AT_ONCE):
        some = compressed[start : start + _MASKS_AT_ONCE]
        runs = decode([_bytes(segmentations[at]["counts"]) for at in some])
        pixels = np.bincount(runs.owners, runs.lengths, minlength=len(some)).astype(np.int64)
        for place in np.flatnonzero(runs.malformed | (pixels != sizes[some].prod(1))).tolist():
            malformed = bool(runs.malformed[place])
            at = some[place]
            counts = segmentations[at]["counts"]
            found[at] = _wrong_counts(counts) if malformed else _wrong_sum(pixels[place], *sizes[at].tolist())
    return found


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A segmentation without faults in pycocotools' form."""
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        merged: Rle = coco.merge(coco.frPyObjects(segmentation, height, width))
        return merged
    counts = segmentation["counts"]
    if isinstance(counts, list):
        compressed: Rle = coco.frPyObjects(segmentation, height, width)
        return compressed
    return {"size": [height, width], "counts": _bytes(counts)}


def areas_of(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """The pixels of every mask, [N]."""
    from pycocotools import mask as coco

    # pycocotools keeps the length of a list in eight bits: with NumPy 2, more than 255 at once are an OverflowError.
    return np.array([coco.area(mask) for mask in masks], dtype=np.float64)


def mask_of(segmentation: Any, height: int, width: int, annotation_id: int) -> NDArray[np.bool_]:
    """The mask of an annotation, [H, W].

    Args:
        segmentation: as it stands in the file: polygons, or an object with `size` and `counts`.
        height: of the image, in pixels.
        annotation_id: for the message.

    Raises:
        InputError: it is malformed, or of another size than the image.
    """
    if reason := faults([segmentation], np.array([[height, width]])).get(0):
        raise InputError(f"annotation {annotation_id}: {reason}", _HINT)
    return pixels_of(to_rle(segmentation, height, width))


def pixels_of(mask: Rle) -> NDArray[np.bool_]:
    """A mask without faults as pixels, [H, W]."""
    height, width = mask["size"]
    runs = decode([mask["counts"]]).lengths
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _fault_of_rle(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with what is no list; of compressed counts, only their type is looked at."""
    if segmentation is None:
        return "segmentation is missing"
    if not isinstance(segmentation, dict):
        return f"segmentation is {shown(segmentation)}, expected polygons or RLE"
    size = segmentation.get("size")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        return f"its RLE is of size {shown(size)}, its image [{height}, {width}]"
    counts = segmentation.get("counts")
    if isinstance(counts, (str, bytes)):
        return None
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return _wrong_counts(counts)
    return None if sum(counts) == height * width else _wrong_sum(sum(counts), height, width)


def _wrong_counts(counts: Any) -> str:
    told = counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts
    return f"its RLE counts are {shown(told)}, expected run lengths, as whole numbers or compressed"


def _wrong_sum(pixels: int, height: int, width: int) -> str:
    told = f"{pixels:,}" if pixels < _COUNTABLE else "far too many"  # Python does not write numbers of 4,300 digits
    return f"its RLE is of {told} pixels, its image of {height * width:,}"


def _fault_of_polygons(polygons: list[Any]) -> str | None:
    if not polygons:
        return "segmentation is an empty list"
    for polygon in polygons:
        # pycocotools would take four numbers for a box.
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


def _bytes(counts: str | bytes) -> bytes:
    return counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
