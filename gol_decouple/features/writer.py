"""Writing a features file block by block, so that no interruption loses a block or publishes half a file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import store
from gol_decouple.features.layout import Block, Header, SplitLayout, blocks, fingerprint, plan_hash
from gol_decouple.files import disk_errors, publish


class FeatureWriter:
    """Fills `path` with the features of every block; a context manager.

    Work goes on in `<path>.partial`. Each block is written, synced, and then logged with its checksum, so a later
    writer with the same plan continues after the blocks whose bytes match their log line. `publish` puts the finished
    file in place; leaving without it keeps the partial file for the next start.
    """

    def __init__(self, path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> None:
        self.path = path
        self._header = header
        self._splits = dict(splits)
        self._plan = plan_hash(header, splits)
        self._partial = path.with_name(f"{path.name}.partial")
        self._log_path = path.with_name(f"{path.name}.partial.0.log")
        self._crcs: dict[Block, int] = {}

    def __enter__(self) -> Self:
        offsets = store.find_offsets(self._partial, self._plan) if self._partial.exists() else None
        with disk_errors(self.path):
            if offsets is None:
                self._log_path.unlink(missing_ok=True)
                offsets = store.create(self._partial, self._header, self._splits)
                self._reserve()
            self._offsets = offsets
            self._descriptor = os.open(self._partial, os.O_RDWR)
            self._crcs = dict(self._blocks_done())
            self._log = self._log_path.open("a", encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        os.close(self._descriptor)

    @property
    def pending(self) -> list[Block]:
        """The blocks still to be written."""
        everything = (block for name, split in self._splits.items() for block in blocks(name, split))
        return [block for block in everything if block not in self._crcs]

    def write(self, block: Block, rows: NDArray[Any]) -> None:
        """Write the features of a block, [stop - start, D] in a float dtype, and log it once it is on the disk.

        Raises:
            InputError: wrong shape, not finite, or too large for the file's dtype.
            EnvironmentFailure: the disk does not take it.
        """
        expected = (block.stop - block.start, self._header.feature_size)
        if rows.shape != expected:
            raise InputError(f"{block.split}, rows {block.start}..{block.stop}: {rows.shape}, expected {expected}")
        data = as_stored(rows, self._header.dtype, f"{block.split}, rows {block.start}..{block.stop}")
        buffer = data.tobytes()
        with disk_errors(self.path):
            _write_all(self._descriptor, buffer, self._offset(block))
            os.fdatasync(self._descriptor)
            self._crcs[block] = zlib.crc32(buffer)
            self._log.write(f"{block.split} {block.view} {block.index} {self._crcs[block]}\n")
            self._log.flush()

    def publish(self) -> None:
        """Write the block table, mark the file complete, and rename it into place.

        Raises:
            EnvironmentFailure: a block is missing.
        """
        if self.pending:
            raise EnvironmentFailure(
                f"{self._partial} lacks {len(self.pending)} blocks", "run the same command again: it continues"
            )
        tables = {name: np.zeros((s.num_views, s.blocks_per_view), "<u4") for name, s in self._splits.items()}
        for block, crc in self._crcs.items():
            tables[block.split][block.view, block.index] = crc
        with disk_errors(self.path):
            for name, table in tables.items():
                _write_all(self._descriptor, table.tobytes(), self._offsets.tables[name])
            digest = fingerprint(self._plan, tables).encode("ascii")
            _write_all(self._descriptor, digest, self._offsets.fingerprint)
            os.fsync(self._descriptor)
            _write_all(self._descriptor, b"\x01", self._offsets.complete)
            publish(self._partial, self.path)
        self._log_path.unlink(missing_ok=True)

    def _reserve(self) -> None:
        """Claim the whole file's space, so that a full disk is found before the first image is read."""
        descriptor = os.open(self._partial, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
        except OSError:
            self._partial.unlink()
            raise
        finally:
            os.close(descriptor)

    def _offset(self, block: Block) -> int:
        row = block.view * len(self._splits[block.split]) + block.start
        return self._offsets.features[block.split] + row * self._header.row_bytes

    def _blocks_done(self) -> Iterator[tuple[Block, int]]:
        """Logged blocks whose bytes match their checksum."""
        if not self._log_path.exists():
            return
        logged = {}
        for line in self._log_path.read_text(encoding="ascii", errors="replace").splitlines():
            fields = line.split()
            if len(fields) == 4 and all(field.isdigit() for field in fields[1:]):
                logged[fields[0], int(fields[1]), int(fields[2])] = int(fields[3])
        for name, split in self._splits.items():
            for block in blocks(name, split):
                crc = logged.get((block.split, block.view, block.index))
                size = (block.stop - block.start) * self._header.row_bytes
                if crc is not None and crc == zlib.crc32(os.pread(self._descriptor, size, self._offset(block))):
                    yield block, crc


def as_stored(rows: NDArray[Any], dtype: str, where: str) -> NDArray[Any]:
    """Features in the file's dtype, little-endian.

    Raises:
        InputError: a value is not finite, or overflows the dtype.
    """
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=-1))[0])
        raise InputError(f"{where}: features of row {row} hold NaN or infinity")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(rows, dtype=np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(stored).all():
        largest = float(np.abs(rows).max())
        raise InputError(f"{where}: features up to {largest:g} overflow {dtype}", "use float32 (features.dtype)")
    return stored


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
