"""Writing a features file block by block, so that no interruption loses a block or publishes half a file."""

from __future__ import annotations

import fcntl
import os
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
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.features import store
from gol_decouple.features.columns import LABELS, Column, as_stored, columns_of
from gol_decouple.features.layout import Block, Header, SplitLayout, blocks
from gol_decouple.features.logs import Crcs, log_line, log_path, partial_path, read_logs, remove_logs, shard_path
from gol_decouple.features.plan import fingerprint, plan_hash
from gol_decouple.features.rois import num_rois, roi_counts
from gol_decouple.files import disk_errors, publish


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
        self._partial = shard_path(path, world.rank) if shard else partial_path(path)
        self._log_path = log_path(self._partial, None if shard else world.rank)
        self._columns = columns_of(header)
        self._crcs: dict[Block, Crcs] = {}
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

    def write(self, block: Block, features: NDArray[Any], **of_rois: NDArray[Any]) -> None:
        """Write a block: features [stop - start, D] in a float dtype; log it once it is on the disk.

        Args:
            of_rois: of detection, `labels`, `boxes` and `iou` of the rows, [stop - start] and [stop - start, 4].

        Raises:
            InputError: wrong shape, or values that cannot be (see docs/features-format.md), too large ones included.
            EnvironmentFailure: the disk does not take it.
        """
        split, given = self._splits[block.split], {"features": features, **of_rois}
        parts = [
            (column, as_stored(column, given[column.name], block, self._header, split).tobytes())
            for column in self._columns
        ]
        with disk_errors(self.path):
            for column, data in parts:
                _write_all(self._descriptor, data, self._offset(block, column))
            self._crcs[block] = tuple(zlib.crc32(data) for _, data in parts)
            if self._resume:
                os.fdatasync(self._descriptor)
                self._log.write(log_line(block, self._crcs[block]))

    def publish(self) -> None:
        """Write the block table, mark the file complete, and rename it into place, once every process is done.

        Raises:
            EnvironmentFailure: a block is missing.
        """
        written = self._writers.gather(self._crcs)
        self._writers.on_main(lambda: self._publish({block: crc for crcs in written for block, crc in crcs.items()}))

    def _publish(self, crcs: Mapping[Block, Crcs]) -> None:
        if missing := sum(block not in crcs for block in self._blocks()):
            raise EnvironmentFailure(
                f"{self._partial} lacks {missing} blocks", "run the same command again: it continues"
            )
        tables = {
            (name, column.name): np.zeros((split.num_views, split.blocks_per_view), "<u4")
            for name, split in self._splits.items()
            for column in self._columns
        }
        for block, of_columns in crcs.items():
            for column, crc in zip(self._columns, of_columns, strict=True):
                tables[block.split, column.name][block.view, block.index] = crc
        with disk_errors(self.path):
            for key, table in tables.items():
                _write_all(self._descriptor, table.tobytes(), self._offsets.tables[key])
            for name, counts in self._counts().items():
                _write_all(self._descriptor, counts.astype("<i8").tobytes(), self._offsets.counts[name])
            digest = fingerprint(self._plan, tables).encode("ascii")
            _write_all(self._descriptor, digest, self._offsets.fingerprint)
            os.fsync(self._descriptor)
            _write_all(self._descriptor, b"\x01", self._offsets.complete)
            publish(self._partial, self.path)
        remove_logs(self._partial)

    def _open(self, stack: ExitStack) -> tuple[store.Offsets, dict[Block, Crcs]]:
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
        remove_logs(self._partial)
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
        remove_logs(self._partial)

    def _offset(self, block: Block, column: Column) -> int:
        row = block.view * len(self._splits[block.split]) + block.start
        return self._offsets.columns[block.split, column.name] + row * column.row_bytes

    def _read(self, block: Block, column: Column) -> bytes:
        return os.pread(self._descriptor, (block.stop - block.start) * column.row_bytes, self._offset(block, column))

    def _blocks_done(self) -> Iterator[tuple[Block, Crcs]]:
        """Logged blocks whose bytes match their checksums."""
        logged = read_logs(self._partial)
        for block in self._blocks():
            crcs = logged.get((block.split, block.view, block.index))
            if crcs is not None and crcs == tuple(zlib.crc32(self._read(block, column)) for column in self._columns):
                yield block, crcs

    def _counts(self) -> dict[str, NDArray[np.int64]]:
        """What follows from the labels of RoIs, by the dataset's name."""
        if not self._header.is_detection:
            return {}
        num_classes = len(self._header.class_names)
        of_classes, of_images = np.zeros(num_classes, np.int64), {}
        for name, split in self._splits.items():
            assert split.images is not None
            per_image = []
            for block in blocks(name, split):
                labels = np.frombuffer(self._read(block, LABELS), LABELS.dtype)
                per_image.append(num_rois(labels, split.images.rois_per_image, num_classes))
                if name == "train":
                    of_classes += roi_counts(labels, num_classes)
            of_images[f"{name}/images/num_rois"] = np.concatenate(per_image)
        return {"classes/train_counts": of_classes, **of_images}


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
