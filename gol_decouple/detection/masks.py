"""Masks of annotations and results as pycocotools' run-length encodings, checked before its C code reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.detection.columns import Bools, Floats, Ints, Rows

# {"size": [height, width], "counts": bytes}, as pycocotools has it.
Rle = dict[str, Any]

_HINT = 'masks are polygons [[x1, y1, x2, y2, ...], ...], or RLEs {"size": [height, width], "counts": text}'
_FARTHEST = 1e5  # pixels; pycocotools walks along the edges of polygons in memory
_MASKS_AT_ONCE = 2**9  # what is computed of their characters stays in the processor's cache
_LONGEST_COUNT = 6  # characters of 5 bits: no image has 2^30 pixels


def to_rles(rows: Rows, sizes: Ints) -> list[Rle]:
    """The field `segmentation` of every row as a run-length encoding.

    Args:
        sizes: [N, 2], height and width in pixels of the image of every row.

    Raises:
        InputError: it is malformed, or of another size than the image, in some rows.
    """
    masks = rows.field("segmentation", _HINT)
    found: list[Rle | None] = [
        _to_rle(mask, (int(height), int(width))) for mask, (height, width) in zip(masks, sizes, strict=True)
    ]
    proper = [place for place, rle in enumerate(found) if rle is not None]
    wrong = _malformed([found[place]["counts"] for place in proper], sizes[proper].prod(1))  # type: ignore[index]
    broken = {proper[place] for place in np.flatnonzero(wrong)}
    if bad := [place for place, rle in enumerate(found) if rle is None or place in broken]:
        size = "x".join(str(length) for length in sizes[bad[0]])
        text = f"have a malformed segmentation, or of another size than the image ({size} for the first)"
        raise rows.error(bad, text, _HINT)
    return [rle for rle in found if rle is not None]


def areas_of(masks: list[Rle]) -> Floats:
    """The pixels of every mask, [N]."""
    from pycocotools import mask as coco

    # pycocotools keeps the length of a list in eight bits: with NumPy 2, more than 255 at once are an OverflowError.
    return np.array([coco.area(mask) for mask in masks], dtype=np.float64)


def mask_ious(masks: list[Rle], others: list[Rle]) -> Floats:
    """Intersection over union of every mask with every other, [N, M]."""
    from pycocotools import mask as coco

    return np.asarray(coco.iou(masks, others, [0] * len(others)), dtype=np.float64).reshape(len(masks), len(others))


def _to_rle(mask: Any, size: tuple[int, int]) -> Rle | None:
    """None if it cannot be one."""
    if isinstance(mask, list):
        return _from_polygons(mask, size)
    if not isinstance(mask, dict) or "counts" not in mask or not _same_size(mask.get("size"), size):
        return None
    counts = mask["counts"]
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            return None
    if isinstance(counts, list):
        return _from_counts(counts, size)
    return {"size": list(size), "counts": counts} if isinstance(counts, bytes) else None


def _same_size(found: Any, size: tuple[int, int]) -> bool:
    return isinstance(found, list | tuple) and tuple(found) == size


def _from_polygons(polygons: list[Any], size: tuple[int, int]) -> Rle | None:
    from pycocotools import mask as coco

    if not polygons or not all(_is_polygon(polygon) for polygon in polygons):
        return None
    rle: Rle = coco.merge(coco.frPyObjects(polygons, *size))
    return rle


def _is_polygon(points: Any) -> bool:
    # pycocotools would take four numbers for a box.
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        return False
    try:
        array = np.array(points)
    except (ValueError, OverflowError):
        return False
    return bool(array.ndim == 1 and array.dtype.kind in "iuf" and (np.abs(array) < _FARTHEST).all())


def _from_counts(counts: list[Any], size: tuple[int, int]) -> Rle | None:
    from pycocotools import mask as coco

    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
        return None
    rle: Rle = coco.frPyObjects({"size": list(size), "counts": counts}, *size)
    return rle


def _malformed(texts: list[bytes], pixels: Ints) -> Bools:
    """Which compressed counts are no counts that sum to so many pixels: [N]."""
    bad = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), _MASKS_AT_ONCE):
        proper = np.arange(start, min(start + _MASKS_AT_ONCE, len(texts)))
        while len(proper) and (found := _with_a_fault([texts[place] for place in proper], pixels[proper])).any():
            bad[proper[found]] = True  # the others are looked at again, since faults of one kind hide those of the next
            proper = proper[~found]
    return bad


def _with_a_fault(texts: list[bytes], pixels: Ints) -> Bools:
    """Which compressed counts have the first kind of fault that any of them has: [N].

    A count is one or more characters from "0", of five bits each, the lowest first: 32 says that another follows,
    16 in the last that it is negative. From the third on they are differences to the count before the last.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    bad: Bools = lengths == 0
    if bad.any():
        return bad
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int32) - 48
    owner = np.repeat(np.arange(len(texts)), lengths)
    last = (codes & 32) == 0
    bad[owner[(codes < 0) | (codes > 63)]] = True
    bad[~last[np.cumsum(lengths) - 1]] = True
    if bad.any():
        return bad
    stops = np.flatnonzero(last)
    starts = np.concatenate([[0], stops[:-1] + 1])
    digits = stops - starts + 1
    owner = owner[stops]
    bad[owner[digits > _LONGEST_COUNT]] = True
    if bad.any():
        return bad
    shift = 5 * (np.arange(len(codes), dtype=np.int32) - np.repeat(starts, digits).astype(np.int32))
    values = np.add.reduceat((codes & 31) << shift, starts).astype(np.int64)
    values -= np.where(codes[stops] & 16, np.int64(1) << 5 * digits, 0)
    counts = _undifferenced(values, owner, len(texts))
    bad[owner[counts < 0]] = True
    totals = np.bincount(owner, weights=counts, minlength=len(texts))
    return np.asarray(bad | (totals != pixels))


def _undifferenced(values: Ints, owner: Ints, masks: int) -> Ints:
    """Counts from what is stored of them; `owner` is ascending."""
    place = np.arange(len(values)) - np.searchsorted(owner, np.arange(masks))[owner]
    counts = values.copy()
    for chain in (place % 2 == 1, (place % 2 == 0) & (place > 0)):
        rows = np.flatnonzero(chain)
        if len(rows):
            sums = np.cumsum(values[rows])
            first: NDArray[np.bool_] = np.concatenate([[True], owner[rows][1:] != owner[rows][:-1]])
            before = (sums - values[rows])[first]
            counts[rows] = sums - before[np.cumsum(first) - 1]
    return counts
