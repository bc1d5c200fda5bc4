"""Writing a features file block by block, so that no interruption loses a block or publishes half a file."""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gol_decouple.distributed import ALONE, World
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import store
from gol_decouple.features.layout import Block, Header, SplitLayout, blocks, fingerprint, plan_hash
from gol_decouple.files import disk_errors, publish

_LOG_LINE = re.compile(r"^(\w{1,16}) (\d{1,9}) (\d{1,9}) (\d{1,10})$", re.MULTILINE)


class FeatureWriter:
    """Fills `path` with the features of every block; a context manager.

    Work goes on in `<path>.partial`. Each block is written, synced, and then logged with its checksum, so a later
    writer with the same plan continues after the blocks whose bytes match their log line. `publish` puts the finished
    file in place; leaving without it keeps the partial file for the next start. Several processes fill one file
    together, each its share of the blocks, with a log of its own; or each a shard of its own.

    Args:
        resume: continue a partial file, and leave one. The plan has to tell then where the features come from; where it
            does not, former blocks may be of other features: False starts afresh, and leaves nothing after an error.
        world: the processes that write.
        shard: write this process's share to `<path>.shard.<rank>`, which `shards.merge` joins with the others.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        splits: Mapping[str, SplitLayout],
        *,
        resume: bool = True,
        world: World = ALONE,
        shard: bool = False,
    ) -> None:
        self.path = path
        self._header = header
        self._splits = dict(splits)
        self._resume = resume
        self._world = world
        self._is_shard = shard
        self._writers = ALONE if shard else world  # of the one file
        self._plan = plan_hash(header, splits)
        self._partial = shard_path(path, world.rank) if shard else path.with_name(f"{path.name}.partial")
        self._log_path = log_path(self._partial, None if shard else world.rank)
        self._crcs: dict[Block, int] = {}
        self._own: list[Block] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._offsets, done = self._writers.on_main(lambda: self._open(stack))
            self._crcs = dict(done)
            # What is left of one file is shared; a shard's share is the same whatever is left of it.
            shared = (block for block in self._blocks() if self._is_shard or block not in done)
            self._own = list(islice(shared, self._world.rank, None, self._world.size))
            with disk_errors(self.path):
                if not self._writers.is_main:
                    self._descriptor = os.open(self._partial, os.O_RDWR)
                    stack.callback(os.close, self._descriptor)
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
        """The blocks that this process has still to write."""
        return [block for block in self._own if block not in self._crcs]

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
        """Write the block table, mark the file complete, and rename it into place, once every process is done.

        Raises:
            EnvironmentFailure: a block is missing.
        """
        written = self._writers.gather(self._crcs)
        self._writers.on_main(lambda: self._publish({block: crc for crcs in written for block, crc in crcs.items()}))

    def _publish(self, crcs: Mapping[Block, int]) -> None:
        if missing := sum(block not in crcs for block in self._blocks()):
            raise EnvironmentFailure(
                f"{self._partial} lacks {missing} blocks", "run the same command again: it continues"
            )
        tables = {name: np.zeros((s.num_views, s.blocks_per_view), "<u4") for name, s in self._splits.items()}
        for block, crc in crcs.items():
            tables[block.split][block.view, block.index] = crc
        with disk_errors(self.path):
            for name, table in tables.items():
                _write_all(self._descriptor, table.tobytes(), self._offsets.tables[name])
            digest = fingerprint(self._plan, tables).encode("ascii")
            _write_all(self._descriptor, digest, self._offsets.fingerprint)
            os.fsync(self._descriptor)
            _write_all(self._descriptor, b"\x01", self._offsets.complete)
            publish(self._partial, self.path)
        self._remove_logs()

    def _open(self, stack: ExitStack) -> tuple[store.Offsets, dict[Block, int]]:
        """Open the partial file, or make it; returns where its parts lie, and the checksums of the blocks it has."""
        with disk_errors(self.path):
            self._descriptor = self._open_partial()
            stack.callback(os.close, self._descriptor)
            offsets = store.find_offsets(self._partial, self._plan) if self._resume else None
            self._offsets = offsets or self._create()
            return self._offsets, dict(self._blocks_done())

    def _blocks(self) -> Iterator[Block]:
        return (block for name, split in self._splits.items() for block in blocks(name, split))

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
        self._remove_logs()
        try:
            offsets = store.create(self._partial, self._header, self._splits)
            if not self._is_shard:  # of a shard, only this process's blocks are ever written
                os.posix_fallocate(self._descriptor, 0, os.fstat(self._descriptor).st_size)
        except BaseException:
            self._discard()
            raise
        return offsets

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._remove_logs()

    def _remove_logs(self) -> None:
        for path in logs_of(self._partial):
            path.unlink(missing_ok=True)

    def _offset(self, block: Block) -> int:
        row = block.view * len(self._splits[block.split]) + block.start
        return self._offsets.features[block.split] + row * self._header.row_bytes

    def _blocks_done(self) -> Iterator[tuple[Block, int]]:
        """Logged blocks whose bytes match their checksum."""
        logged = read_logs(self._partial)
        for block in self._blocks():
            crc = logged.get((block.split, block.view, block.index))
            size = (block.stop - block.start) * self._header.row_bytes
            if crc is not None and crc == zlib.crc32(os.pread(self._descriptor, size, self._offset(block))):
                yield block, crc


def shard_path(path: Path, rank: int) -> Path:
    """Where a process writes its share of the features file `path`, if each writes a file of its own."""
    return path.with_name(f"{path.name}.shard.{rank}")


def log_path(partial: Path, rank: int | None = None) -> Path:
    """Where a process logs the blocks it has written to `partial`; None: the only one that writes there."""
    return partial.with_name(f"{partial.name}.log" if rank is None else f"{partial.name}.{rank}.log")


def logs_of(partial: Path) -> list[Path]:
    """The logs of every process that has written to `partial`."""
    rank = re.compile(rf"{re.escape(partial.name)}(\.\d+)?\.log")
    return sorted(path for path in partial.parent.iterdir() if rank.fullmatch(path.name))


def read_logs(partial: Path) -> dict[tuple[str, int, int], int]:
    """The checksum of each (split, view, block index) that was written to `partial`."""
    texts = [path.read_text(encoding="ascii", errors="replace") for path in logs_of(partial)]
    lines = [line for text in texts for line in _LOG_LINE.finditer(text)]
    return {(line[1], int(line[2]), int(line[3])): int(line[4]) for line in lines}


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
