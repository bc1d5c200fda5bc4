"""Reading features: arrays that are sliced like NumPy's, each block checked against its checksum once."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features import store
from gol_decouple.features.layout import Block, Classes, LinearWeights


class FeaturesFile:
    """An open features file: `f["train"]`, `f.classes`, `f.classifier`. Nothing is read before it is sliced."""

    def __init__(self, stored: store.Stored) -> None:
        self._stored = stored
        self._splits = {name: SplitFeatures(stored, name) for name in stored.splits}

    def __getitem__(self, split: str) -> SplitFeatures:
        if split not in self._splits:
            raise InputError(f"{self.path} has no {split} split", f"it has: {', '.join(self._splits)}")
        return self._splits[split]

    def __contains__(self, split: str) -> bool:
        return split in self._splits

    @property
    def path(self) -> Path:
        return self._stored.path

    @property
    def splits(self) -> list[str]:
        """Names of the splits the file has."""
        return list(self._splits)

    @property
    def classes(self) -> Classes:
        """Class names and train counts, in label order."""
        return self._stored.header.classes

    @property
    def classifier(self) -> LinearWeights | None:
        """The stage-one Softmax classifier, or None."""
        return self._stored.header.classifier

    @property
    def feature_size(self) -> int:
        """D."""
        return self._stored.header.feature_size

    @property
    def origin(self) -> dict[str, Any]:
        """Backbone, dataset and transform the features come from, as their writer told."""
        return dict(self._stored.header.origin)

    @property
    def fingerprint(self) -> str:
        """sha256 that identifies the content; of an unchecked file, all of it but the features."""
        return self._stored.fingerprint

    @property
    def checked(self) -> bool:
        """Whether the features have checksums; files written elsewhere may have none."""
        return self._stored.checked


class SplitFeatures:
    """One split: `features` [V, N, D], `labels` int64 [N], `ids` int64 [N]; each slices to NumPy."""

    def __init__(self, stored: store.Stored, name: str) -> None:
        layout = stored.splits[name].layout
        self.features = FeatureArray(stored, name)
        self.labels: NDArray[np.int64] = layout.labels
        self.ids: NDArray[np.int64] = layout.ids

    def __len__(self) -> int:
        return len(self.labels)


class FeatureArray:
    """Features [V, N, D] on disk. Slicing reads the rows from the first to the last one asked for."""

    def __init__(self, stored: store.Stored, name: str) -> None:
        self._path = stored.path
        self._name = name
        self._split = stored.splits[name]
        self._row_bytes = stored.header.row_bytes
        layout = self._split.layout
        self.shape = (layout.num_views, len(layout), stored.header.feature_size)
        self.dtype = np.dtype(stored.header.dtype)
        self._verified = np.zeros((layout.num_views, layout.blocks_per_view), dtype=np.bool_)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        view_key, row_key, rest = _split_key(key)
        views = np.arange(self.shape[0])[view_key]
        rows, first, stop = _row_range(row_key, self.shape[1])
        if np.ndim(views) == 0:
            picked: NDArray[Any] = self.read_rows(int(views), first, stop)[(rows, *rest)]
            return picked
        read = np.empty((len(views), stop - first, self.shape[2]), self.dtype)
        for position, view in enumerate(views):
            read[position] = self.read_rows(int(view), first, stop)
        return read[(slice(None), rows, *rest)]

    def read_rows(self, view: int, start: int, stop: int) -> NDArray[Any]:
        """Rows [stop - start, D] of one view.

        Raises:
            InputError: a block's bytes do not match its checksum, or the file is shorter than it was.
        """
        if self._split.offset is None:
            return store.read_rows(self._path, self._name, view, start, stop)
        rows = np.empty((stop - start, self.shape[2]), self.dtype.newbyteorder("<"))
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            self._read_into(descriptor, view, start, rows)
            self._verify(descriptor, view, start, stop)
        finally:
            os.close(descriptor)
        return rows

    def _read_into(self, descriptor: int, view: int, start: int, rows: NDArray[Any]) -> None:
        assert self._split.offset is not None
        offset = self._split.offset + (view * self.shape[1] + start) * self._row_bytes
        buffer = rows.reshape(-1).view(np.uint8).data
        while buffer:
            count = os.preadv(descriptor, [buffer], offset)
            if count == 0:
                raise InputError(f"{self._path} is truncated in {self._name}", store.rebuild_hint(self._path))
            buffer, offset = buffer[count:], offset + count

    def _verify(self, descriptor: int, view: int, start: int, stop: int) -> None:
        """Check the blocks that hold these rows, each the first time it is read."""
        if self._split.crcs is None:
            return
        per_block = self._split.layout.rows_per_block
        for index in range(start // per_block, -(-stop // per_block)):
            if self._verified[view, index]:
                continue
            block = Block(self._name, view, index, index * per_block, min((index + 1) * per_block, self.shape[1]))
            rows = np.empty((block.stop - block.start, self.shape[2]), self.dtype.newbyteorder("<"))
            self._read_into(descriptor, view, block.start, rows)
            if zlib.crc32(rows.reshape(-1).view(np.uint8).data) != int(self._split.crcs[view, index]):
                raise InputError(
                    f"{self._path} is damaged: {self._name} rows {block.start}..{block.stop - 1} of view {view} do not "
                    "match their checksum",
                    store.rebuild_hint(self._path),
                )
            self._verified[view, index] = True


def open_features(path: str | Path) -> FeaturesFile:
    """Open a features file for reading; exported as `gol_decouple.features.open`.

    Raises:
        InputError: the file is missing, foreign, incomplete or damaged, or refers to other files.
    """
    return FeaturesFile(store.read(Path(path)))


def _split_key(key: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """A NumPy index into three axes as (views, rows, rest), with what is left out filled in."""
    parts = list(key) if isinstance(key, tuple) else [key]
    at = next((position for position, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (4 - len(parts))
    parts += [slice(None)] * (3 - len(parts))
    if len(parts) != 3:
        raise IndexError(f"features have 3 axes (view, row, feature), not {len(parts)}")
    return parts[0], parts[1], tuple(parts[2:])


def _row_range(key: Any, count: int) -> tuple[Any, int, int]:
    """Which rows to read, first..stop, and the index into them that is left: (index, first, stop)."""
    if isinstance(key, slice):
        wanted = range(count)[key]
        if not wanted:
            return slice(0, 0), 0, 0
        first, stop = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        return (slice(None) if wanted.step == 1 else np.asarray(wanted) - first), first, stop
    rows = np.arange(count)[key]
    if rows.size == 0:
        return rows, 0, 0
    first = int(rows.min())
    return rows - first, first, int(rows.max()) + 1
