"""Reading in blocks: arrays on disk that are sliced like NumPy's, each block checked against its checksum once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features import metadata
from gol_decouple.features.columns import Column, bad_row


class FeatureArray:
    """Features [V, N, D] on disk, indexed like a NumPy array with slices, integers, lists and masks, one an axis.

    A slice of rows is read in one go; scattered rows block by block, so memory holds what was asked for and one block.
    """

    def __init__(self, stored: metadata.Stored, name: str, column: str = "features") -> None:
        self._path = stored.path
        self._name = name
        self._layout = layout = stored.splits[name].layout
        self._stored = stored.splits[name].columns[column]
        self._column = self._stored.column
        self.shape = (layout.num_views, len(layout), self._column.width)
        self.dtype = np.dtype(self._column.dtype)
        self._verified = np.zeros((layout.num_views, layout.blocks_per_view), dtype=np.bool_)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """What NumPy would give for `key`.

        Raises:
            InputError: a block's bytes do not match its checksum, are not finite, or can no longer be read.
        """
        view_key, row_key, feature_key = _split_key(key)
        views, view_index = _needed(view_key, self.shape[0])
        rows, row_index = _needed(row_key, self.shape[1])
        parts = [self._read_view(int(view), rows) for view in views]
        if len(parts) == 1:
            read = parts[0][None]
        else:
            read = np.stack(parts) if parts else np.empty((0, len(rows), self.shape[2]), self.dtype)
        picked: NDArray[Any] = read[view_index, row_index, feature_key]
        return picked

    @property
    def rows_per_block(self) -> int:
        """Rows of a view that are written and checked together; its last block may have fewer."""
        return min(self._layout.rows_per_block, self.shape[1])

    @property
    def blocks_per_view(self) -> int:
        return self._layout.blocks_per_view

    @property
    def block_bytes(self) -> int:
        """Of a block that is not the last of its view."""
        return self.rows_per_block * self._column.row_bytes

    def unchecked(self) -> list[tuple[int, int]]:
        """View and index of the blocks that were not read yet."""
        return [(int(view), int(index)) for view, index in np.argwhere(~self._verified)]

    def read_block(self, view: int, index: int, out: NDArray[Any], descriptor: int | None = None) -> int:
        """Read a block into the first rows of `out` [rows_per_block or more, D], which has the array's dtype.

        Returns how many rows it has. `descriptor` is one that `opened` gave.

        Raises:
            InputError: as for slices.
        """
        start = index * self.rows_per_block
        stop = min(start + self.rows_per_block, self.shape[1])
        self._verify(view, start, self._fetch(view, start, stop, out[: stop - start], descriptor))
        return stop - start

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The file's descriptor, for reads of many blocks; other reads open the file and leave nothing open.

        Raises:
            InputError: the file can no longer be opened, or a read within fails.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(
                f"{self._path} can no longer be read: {error.strerror}", metadata.rebuild_hint(self._path)
            ) from error

    def _read_view(self, view: int, rows: range | NDArray[np.int64]) -> NDArray[Any]:
        """Rows of one view, given in ascending order without repetition."""
        if len(rows) == 0:
            return np.empty((0, self.shape[2]), self.dtype)
        if rows[-1] - rows[0] == len(rows) - 1:
            return self._read_rows(view, int(rows[0]), int(rows[-1]) + 1)
        scattered = np.asarray(rows)
        ends = np.flatnonzero(np.diff(scattered // self._layout.rows_per_block)) + 1
        parts = []
        for part in np.split(scattered, ends):
            parts.append(self._read_rows(view, int(part[0]), int(part[-1]) + 1)[part - part[0]])
        return np.concatenate(parts)

    def _read_rows(self, view: int, start: int, stop: int) -> NDArray[Any]:
        """Rows that follow each other, their blocks checked."""
        rows = self._fetch(view, start, stop)
        self._verify(view, start, rows)
        return rows

    def _fetch(
        self, view: int, start: int, stop: int, out: NDArray[Any] | None = None, descriptor: int | None = None
    ) -> NDArray[Any]:
        """Rows that follow each other, unchecked; in `out`, if it is given."""
        rows = np.empty((stop - start, self.shape[2]), self.dtype) if out is None else out
        if self._stored.offset is None:
            rows[:] = metadata.read_rows(self._path, self._name, self._column, view, start, stop)
            return rows
        with nullcontext(descriptor) if descriptor is not None else self.opened() as opened:
            first_byte = self._stored.offset + (view * self.shape[1] + start) * self._column.row_bytes
            self._read_into(rows.reshape(-1).view(np.uint8).data, opened, first_byte)
        return rows

    def _read_into(self, buffer: memoryview, descriptor: int, offset: int) -> None:
        while buffer:
            count = os.preadv(descriptor, [buffer], offset)
            if count == 0:
                raise InputError(f"{self._path} is truncated in {self._name}", metadata.rebuild_hint(self._path))
            buffer, offset = buffer[count:], offset + count

    def _verify(self, view: int, start: int, rows: NDArray[Any]) -> None:
        """Check the blocks that hold `rows`, which begin at row `start`, each the first time it is read."""
        per_block, stop = self._layout.rows_per_block, start + len(rows)
        for index in range(start // per_block, -(-stop // per_block)):
            if self._verified[view, index]:
                continue
            first, last = index * per_block, min((index + 1) * per_block, self.shape[1])
            inside = start <= first and last <= stop
            block = rows[first - start : last - start] if inside else self._fetch(view, first, last)
            self._verify_block(block, view, index)
            self._verified[view, index] = True

    def _verify_block(self, block: NDArray[Any], view: int, index: int) -> None:
        first = index * self._layout.rows_per_block
        crcs = self._stored.crcs
        if crcs is not None and zlib.crc32(block.reshape(-1).view(np.uint8).data) != int(crcs[view, index]):
            rows = f"rows {first}..{first + len(block) - 1}"
            where = f"{rows} of view {view}" if self._column.has_views else f"{self._column.name} of {rows}"
            told = f"{self._path} is damaged: {self._name} {where} do not match their checksum"
            raise InputError(told, metadata.rebuild_hint(self._path))
        # Our writer refuses such values, but any program may write the format, checksums included.
        if self._column.has_views and _all_finite(block):
            return
        if (found := bad_row(self._column, block.reshape(len(block), *self._column.row))) is not None:
            row = f"row {first + found[0]}, view {view}" if self._column.has_views else f"row {first + found[0]}"
            raise InputError(f"{self._path}: {self._name} {self._column.name} of {row} {found[1]}")


class RowArray:
    """A column of RoIs on disk, [N] or [N, K], indexed like a NumPy array with slices, integers, lists and masks.

    Attributes:
        blocks: the same as [1, N, K].
    """

    def __init__(self, stored: metadata.Stored, name: str, column: Column) -> None:
        self.blocks = FeatureArray(stored, name, column.name)
        self.shape = (self.blocks.shape[1], *column.row)
        self.dtype = self.blocks.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """What NumPy would give for `key`.

        Raises:
            InputError: as for features, and for values that the column cannot have.
        """
        parts = key if isinstance(key, tuple) else (key,)
        return self.blocks[(0, *parts)] if len(self.shape) > 1 else self.blocks[(0, *parts, 0)]


def _all_finite(block: NDArray[Any]) -> bool:
    """By the exponents' bits: NumPy tests half-precision numbers one by one."""
    half = block.dtype.itemsize == 2
    bits: NDArray[Any] = block.view("<u2" if half else "<u4")
    exponent = 0x7C00 if half else 0x7F800000
    return bool((bits & exponent).max() < exponent)


def _split_key(key: Any) -> tuple[Any, Any, Any]:
    """A NumPy index into three axes, one part an axis, with what is left out filled in."""
    parts = list(key) if isinstance(key, tuple) else [key]
    dots = [position for position, part in enumerate(parts) if part is Ellipsis]
    if len(dots) == 1:
        parts[dots[0] : dots[0] + 1] = [slice(None)] * (4 - len(parts))
    parts += [slice(None)] * (3 - len(parts))
    if len(parts) != 3 or len(dots) > 1:
        raise IndexError(f"features have 3 axes (view, row, feature), which {key!r} does not fit")
    return parts[0], parts[1], parts[2]


def _needed(key: Any, count: int) -> tuple[range | NDArray[np.int64], Any]:
    """The positions of an axis that `key` asks for, ascending, and the index that does among them what `key` does
    among all.
    """
    if isinstance(key, slice):
        wanted = range(count)[key]
        return (wanted, slice(None)) if wanted.step > 0 else (wanted[::-1], slice(None, None, -1))
    index = np.asarray(key)
    if index.dtype == np.bool_ and index.shape == (count,):
        index = np.flatnonzero(index)
    elif index.size == 0:
        index = index.astype(np.int64)
    if index.dtype.kind not in "iu":
        raise IndexError(f"{key!r} is no index of an axis of {count}: use integers, slices, or masks of that length")
    outside = (index < -count) | (index >= count)
    if outside.any():
        raise IndexError(f"index {index[outside].flat[0]} is out of bounds for an axis of {count}")
    needed, local = np.unique(np.where(index < 0, index + count, index), return_inverse=True)
    return needed, int(local.item()) if index.ndim == 0 else local.reshape(index.shape)
