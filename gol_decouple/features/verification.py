"""Damage found before it costs anything: every block of a features file is read and checked, whoever wrote it."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gol_decouple.errors import InputError
from gol_decouple.features import metadata, store
from gol_decouple.features.blocked import FeatureArray
from gol_decouple.features.columns import columns_of
from gol_decouple.features.layout import blocks as blocks_of
from gol_decouple.features.logs import read_logs
from gol_decouple.features.plan import plan_hash
from gol_decouple.features.reader import FeaturesFile
from gol_decouple.progress import SILENT, Bar, Progress

# Checksums are computed while other threads read.
_THREADS = 4
_BLOCKS_AT_ONCE = 256
SECONDS_WITHOUT_BAR = 2.0
_MIB = 2**20


def verify(features: FeaturesFile, progress: Progress = SILENT) -> None:
    """Read every block of every split, view and column once; those that were checked before are not read again.

    Memory holds a few blocks. A file without block tables is read too, as it can hold values that are not finite.

    Raises:
        InputError: a block does not match its checksum, holds values that it cannot have, or cannot be read; it names
            split, rows and view.
    """
    with closing(damage(features, progress)) as found:
        for error in found:
            raise error


def damage(features: FeaturesFile, progress: Progress = SILENT) -> Generator[InputError, None, None]:
    """What is wrong with each block that `verify` would refuse, in the order of splits, columns, views and rows."""
    todo = [(array, array.unchecked()) for array in features.arrays]
    mebibytes = sum(len(blocks) * array.block_bytes for array, blocks in todo) // _MIB
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0)))))
        bar = _LateBar(stack, progress, f"checking {features.path}", mebibytes)
        for array, blocks in todo:
            for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
                views, indices = zip(*blocks[start : start + _BLOCKS_AT_ONCE], strict=True)
                for error in pool.map(partial(_check, array), views, indices):
                    bar.advance(array.block_bytes)
                    if error is not None:
                        yield error


def _check(array: FeatureArray, view: int, index: int) -> InputError | None:
    try:
        array.read_block(view, index, np.empty((array.rows_per_block, array.shape[2]), array.dtype))
    except InputError as error:
        return error
    return None


@dataclass(frozen=True)
class UnfinishedBlocks:
    """Of a file that is being written: its blocks, those that are there, and those that are not as they were logged."""

    total: int
    done: int
    damaged: int


def read_unfinished_blocks(path: Path) -> UnfinishedBlocks:
    """How far a partial file, or a shard, has come; all that its log says to be there is read.

    Raises:
        InputError: its metadata cannot be read.
    """
    header, splits = metadata.read_unfinished(path)
    offsets = store.find_offsets(path, plan_hash(header, splits))
    if offsets is None:
        raise InputError(f"{path} has features in pieces", metadata.rebuild_hint(path))
    logged, columns = read_logs(path), columns_of(header)
    total, done, damaged = 0, 0, 0
    with path.open("rb") as file:
        for block in (block for name, split in splits.items() for block in blocks_of(name, split)):
            total += 1
            crcs = logged.get((block.split, block.view, block.index))
            if crcs is None:
                continue
            row = block.view * len(splits[block.split]) + block.start
            found = []
            for column in columns:
                start = offsets.columns[block.split, column.name] + row * column.row_bytes
                count = (block.stop - block.start) * column.row_bytes
                found.append(zlib.crc32(os.pread(file.fileno(), count, start)))
            done += tuple(found) == crcs
            damaged += tuple(found) != crcs
    return UnfinishedBlocks(total, done, damaged)


class _LateBar:
    """A bar that is shown once the work has taken noticeable time."""

    def __init__(self, stack: ExitStack, progress: Progress, description: str, mebibytes: int) -> None:
        self._stack = stack
        self._progress = progress
        self._description = description
        self._total = mebibytes
        self._started = time.monotonic()
        self._bytes = 0
        self._told = 0
        self._bar: Bar | None = None

    def advance(self, num_bytes: int) -> None:
        """So many bytes more are done."""
        self._bytes += num_bytes
        if self._bar is None:
            if time.monotonic() - self._started < SECONDS_WITHOUT_BAR:
                return
            self._bar = self._stack.enter_context(self._progress.bar(self._description, self._total, "MiB"))
        if (done := min(self._bytes // _MIB, self._total)) > self._told:
            self._bar.advance(done - self._told)
            self._told = done
