"""Writing a features file block by block, so that no interruption loses a block or publishes half a file."""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import store
from gol_decouple.features.layout import Block, Header, SplitLayout, blocks, fingerprint, plan_hash
from gol_decouple.files import disk_errors, publish

_LOG_LINE = re.compile(r"^(\w{1,16}) (\d{1,9}) (\d{1,9}) (\d{1,10})$", re.MULTILINE)


class FeatureWriter:
    """Fills `path` with the features of every block; a context manager.

    Work goes on in `<path>.partial`. Each block is written, synced, and then logged with its checksum, so a later
    writer with the same plan continues after the blocks whose bytes match their log line. `publish` puts the finished
    file in place; leaving without it keeps the partial file for the next start.

    Args:
        resume: continue a partial file, and leave one. The plan has to tell then where the features come from; where it
            does not, former blocks may be of other features: False starts afresh, and leaves nothing after an error.
    """

    def __init__(self, path: Path, header: Header, splits: Mapping[str, SplitLayout], *, resume: bool = True) -> None:
        self.path = path
        self._header = header
        self._splits = dict(splits)
        self._resume = resume
        self._plan = plan_hash(header, splits)
        self._partial = path.with_name(f"{path.name}.partial")
        self._log_path = path.with_name(f"{path.name}.partial.0.log")
        self._crcs: dict[Block, int] = {}

    def __enter__(self) -> Self:
        with disk_errors(self.path), ExitStack() as stack:
            self._descriptor = self._open_partial()
            stack.callback(os.close, self._descriptor)
            offsets = store.find_offsets(self._partial, self._plan) if self._resume else None
            self._offsets = offsets or self._create()
            self._crcs = dict(self._blocks_done())
            self._log = stack.enter_context(self._log_path.open("ab", buffering=0))
            self._files = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._resume:
            self._discard()
        self._files.close()

    @property
    def pending(self) -> list[Block]:
        """The blocks still to be written."""
        everything = (block for name, split in self._splits.items() for block in blocks(name, split))
        return [block for block in everything if block not in self._crcs]

    def write(self, block: Block, rows: NDArray[Any]) -> None:
        """Write the features of a block, [stop - start, D] in a float dtype; log it once it is on the disk.

        Raises:
            InputError: wrong shape, not finite, or too large for the file's dtype.
            EnvironmentFailure: the disk does not take it.
        """
        expected = (block.stop - block.start, self._header.feature_size)
        if rows.shape != expected:
            raise InputError(
                f"{block.split} rows {block.start}..{block.stop - 1} have features of {list(rows.shape)}, expected "
                f"{list(expected)}"
            )
        buffer = as_stored(rows, self._header.dtype, block).tobytes()
        with disk_errors(self.path):
            _write_all(self._descriptor, buffer, self._offset(block))
            self._crcs[block] = zlib.crc32(buffer)
            if self._resume:
                os.fdatasync(self._descriptor)
                # The line break comes first: what a crash left of the line before cannot spoil this one.
                self._log.write(f"\n{block.split} {block.view} {block.index} {self._crcs[block]}\n".encode("ascii"))

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

    def _open_partial(self) -> int:
        """The partial file, made if need be, held against other writers until it is closed."""
        descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, another writer may have published the very file.
            ours = self._partial.exists() and os.path.samestat(os.fstat(descriptor), os.stat(self._partial))
        except BlockingIOError:
            ours = False
        except OSError:
            # Some network file systems have no locks: one writer at a time is then the user's care.
            ours = True
        if not ours:
            os.close(descriptor)
            raise EnvironmentFailure(f"another process is writing {self.path}", "wait until it is done, or stop it")
        return descriptor

    def _create(self) -> store.Offsets:
        """A new file with all its space claimed, so that a full disk is found before the first image is read."""
        self._log_path.unlink(missing_ok=True)
        try:
            offsets = store.create(self._partial, self._header, self._splits)
            os.posix_fallocate(self._descriptor, 0, os.fstat(self._descriptor).st_size)
        except BaseException:
            self._discard()
            raise
        return offsets

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._log_path.unlink(missing_ok=True)

    def _offset(self, block: Block) -> int:
        row = block.view * len(self._splits[block.split]) + block.start
        return self._offsets.features[block.split] + row * self._header.row_bytes

    def _blocks_done(self) -> Iterator[tuple[Block, int]]:
        """Logged blocks whose bytes match their checksum."""
        if not self._log_path.exists():
            return
        lines = _LOG_LINE.finditer(self._log_path.read_text(encoding="ascii", errors="replace"))
        logged = {(line[1], int(line[2]), int(line[3])): int(line[4]) for line in lines}
        for name, split in self._splits.items():
            for block in blocks(name, split):
                crc = logged.get((block.split, block.view, block.index))
                size = (block.stop - block.start) * self._header.row_bytes
                if crc is not None and crc == zlib.crc32(os.pread(self._descriptor, size, self._offset(block))):
                    yield block, crc


def as_stored(rows: NDArray[Any], dtype: str, block: Block) -> NDArray[Any]:
    """Features [N, D] of a block in the file's dtype, little-endian.

    Raises:
        InputError: a value is not finite, or overflows the dtype.
    """
    if not (finite := np.isfinite(rows).all(axis=1)).all():
        row = block.start + int(np.argmin(finite))
        raise InputError(f"{block.split} features of row {row}, view {block.view} hold NaN or infinity")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(rows, dtype=np.dtype(dtype).newbyteorder("<"))
    if not (finite := np.isfinite(stored).all(axis=1)).all():
        row = int(np.argmin(finite))
        hint = "use float32 (features.dtype)" if dtype == "float16" else "scale the features down"
        raise InputError(
            f"{block.split} features of row {block.start + row}, view {block.view} reach "
            f"{np.abs(rows[row]).max():g}, which overflows {dtype}",
            hint,
        )
    return stored


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
