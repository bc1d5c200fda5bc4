"""Columns: the arrays of a split that are filled in block by block, and read so; and which values they may have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features.layout import Block, Header, SplitLayout
from gol_decouple.features.rois import num_rois


@dataclass(frozen=True)
class Column:
    """An array with a row for each of a split's.

    Attributes:
        name: of the dataset in the split's group.
        dtype: little-endian.
        row: shape of a row; () where that is a single value.
        table: name of the dataset with its blocks' checksums.
        has_views: whether there is an axis of views in front.
    """

    name: str
    dtype: str
    row: tuple[int, ...]
    table: str
    has_views: bool = False

    @property
    def width(self) -> int:
        """Values of a row."""
        return math.prod(self.row)

    @property
    def row_bytes(self) -> int:
        return self.width * np.dtype(self.dtype).itemsize

    def shape(self, layout: SplitLayout) -> tuple[int, ...]:
        """Of the dataset."""
        views = (layout.num_views,) if self.has_views else ()
        return (*views, len(layout), *self.row)


LABELS = Column("labels", "<i8", (), "labels_crc32")
BOXES = Column("boxes", "<f4", (4,), "boxes_crc32")
IOU = Column("iou", "<f4", (), "iou_crc32")


def columns_of(header: Header) -> tuple[Column, ...]:
    """The columns of every split; of detection labels, boxes and IoUs are known no sooner than features are."""
    dtype = np.dtype(header.dtype).newbyteorder("<").str
    features = Column("features", dtype, (header.feature_size,), "block_crc32", has_views=True)
    return (features, LABELS, BOXES, IOU) if header.is_detection else (features,)


def as_stored(
    column: Column, rows: NDArray[Any], block: Block, header: Header, layout: SplitLayout
) -> NDArray[np.generic]:
    """A block's rows of a column [stop - start, ...] as the file holds them.

    Raises:
        InputError: another shape, or values that the column cannot have.
    """
    expected = (block.stop - block.start, *column.row)
    if rows.shape != expected:
        raise InputError(
            f"{block.split} rows {block.start}..{block.stop - 1} have {column.name} of {list(rows.shape)}, expected "
            f"{list(expected)}"
        )
    if column == LABELS:
        _check_labels(rows, block, header, layout)
    elif (found := bad_row(column, rows)) is not None:
        raise InputError(f"{block.split} {column.name} of {_place(column, block, found[0])} {found[1]}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(rows, dtype=column.dtype)
    if column != LABELS and not (finite := np.isfinite(stored.reshape(len(stored), -1)).all(axis=1)).all():
        row, dtype = int(np.argmin(finite)), np.dtype(column.dtype).name
        hint = "use float32 (features.dtype)" if dtype == "float16" else "scale the features down"
        reached = f"{np.abs(rows[row]).max():g}"
        told = f"{block.split} {column.name} of {_place(column, block, row)} reach {reached}, which overflows {dtype}"
        raise InputError(told, hint)
    return stored


def bad_row(column: Column, rows: NDArray[Any]) -> tuple[int, str] | None:
    """The first of some rows [N, ...] with values that the column cannot have, and what is wrong with them."""
    finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not finite.all():
        return int(np.argmin(finite)), "hold NaN or infinity"
    if column == BOXES and not (right := (rows[:, 2:] >= rows[:, :2]).all(axis=1)).all():
        row = int(np.argmin(right))
        return row, f"are {rows[row].tolist()}, expected x1, y1, x2, y2 with x1 <= x2 and y1 <= y2"
    if column == IOU and not (right := (rows >= 0) & (rows <= 1)).all():
        row = int(np.argmin(right))
        return row, f"are {rows[row]}, expected 0 to 1"
    return None


def _check_labels(rows: NDArray[Any], block: Block, header: Header, layout: SplitLayout) -> None:
    if rows.dtype.kind not in "iu":
        raise InputError(f"{block.split} labels are {rows.dtype}, expected integers")
    assert layout.images is not None
    try:
        num_rois(rows, layout.images.rois_per_image, len(header.class_names), block.start)
    except InputError as error:
        raise InputError(f"{block.split} labels: {error.message}", error.hint) from None


def _place(column: Column, block: Block, row: int) -> str:
    return f"row {block.start + row}, view {block.view}" if column.has_views else f"row {block.start + row}"
