"""Shards: a features file that several processes wrote in a file each, joined."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features import metadata, store
from gol_decouple.features.columns import Column, columns_of
from gol_decouple.features.existing import differing_fields, refuse_other
from gol_decouple.features.layout import Block, Header, SplitLayout
from gol_decouple.features.logs import Crcs, log_path, partial_path, read_logs, remove_logs, shard_path
from gol_decouple.features.plan import plan_hash
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.progress import SILENT, Progress


@dataclass(frozen=True)
class _Shard:
    """One process's share: an open file, where features begin in it, and its blocks' checksums."""

    path: Path
    descriptor: int
    offsets: Mapping[store.Key, int]
    crcs: Mapping[tuple[str, int, int], Crcs]

    def read(self, block: Block, rows_before: int, columns: Sequence[Column]) -> dict[str, NDArray[Any]] | None:
        """A block's columns by name, or None if their bytes are not what was written."""
        parts = []
        for column in columns:
            start = self.offsets[block.split, column.name] + (rows_before + block.start) * column.row_bytes
            parts.append(os.pread(self.descriptor, (block.stop - block.start) * column.row_bytes, start))
        if tuple(map(zlib.crc32, parts)) != self.crcs[block.split, block.view, block.index]:
            return None
        return {
            column.name: np.frombuffer(part, column.dtype).reshape(-1, *column.row)
            for column, part in zip(columns, parts, strict=True)
        }


def find_shards(path: Path) -> list[Path]:
    """The shards of a features file that are there, by rank."""
    pattern = re.compile(re.escape(shard_path(path, 0).name[:-1]) + r"(\d+)")
    found = [(int(match[1]), entry) for entry in path.parent.glob("*") if (match := pattern.fullmatch(entry.name))]
    return [entry for _, entry in sorted(found)]


def merge(path: Path, progress: Progress = SILENT) -> None:
    """Join the shards of the features file `path`; they are removed once it is there. An interrupted one continues.

    Raises:
        InputError: there are none, they are of different features, or blocks are missing or damaged.
        EnvironmentFailure: the disk is full.
    """
    paths = find_shards(path)
    if not paths:
        raise InputError(f"there is no shard of {path}", "gol-decouple stage1 CONFIG --shards writes them")
    header, splits = _plan(paths)
    if not _is_there(path, header, splits):
        _join(path, header, splits, paths, progress)
    remove_traces(path)


def remove_traces(path: Path) -> None:
    """Remove what is left of the writing of a features file that is finished: its shards, and logs."""
    remove_logs(partial_path(path))  # of a process that was killed between the file's publication and this
    for shard in find_shards(path):
        log_path(shard).unlink(missing_ok=True)
        shard.unlink()


def _is_there(path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> bool:
    """Whether the file is there already, and only the removal of its shards was interrupted.

    Raises:
        InputError: a file of other features is there.
    """
    if path.exists():
        refuse_other(path, metadata.read_unfinished(path), (header, splits))
    return path.exists()


def _join(
    path: Path, header: Header, splits: Mapping[str, SplitLayout], paths: Sequence[Path], progress: Progress
) -> None:
    with ExitStack() as stack:
        shards = [_open(shard, plan_hash(header, splits), stack) for shard in paths]
        with FeatureWriter(path, header, splits) as writer:
            pending = writer.pending
            with progress.bar("merging", len(pending), "blocks") as bar:
                for block in pending:
                    writer.write(block, **_block(block, shards, len(splits[block.split]), columns_of(header), path))
                    bar.advance(1)
            writer.publish()


def _plan(paths: list[Path]) -> tuple[Header, dict[str, SplitLayout]]:
    """What the file will be: that which all shards were begun as."""
    found = [metadata.read_unfinished(path) for path in paths]
    plans = [plan_hash(*plan) for plan in found]
    for path, plan in zip(paths, plans, strict=True):
        if plan != plans[0]:
            differ = differing_fields(found[0], found[paths.index(path)])
            told = f"{path} and {paths[0]} are not of the same features: {differ}"
            raise InputError(told, "remove the one of former features")
    return found[0]


def _open(path: Path, plan: str, stack: ExitStack) -> _Shard:
    offsets = store.find_offsets(path, plan)
    if offsets is None:
        raise InputError(f"{path} has changed while it was read")
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return _Shard(path, descriptor, offsets.columns, read_logs(path))


def _block(
    block: Block, shards: list[_Shard], num_rows: int, columns: Sequence[Column], path: Path
) -> dict[str, NDArray[Any]]:
    """A block's columns from the shard that has it."""
    where = f"{block.split} rows {block.start}..{block.stop - 1}, view {block.view}"
    hint = "repeat the command that wrote the shards: it continues"
    damaged = None
    for shard in shards:
        if (block.split, block.view, block.index) in shard.crcs:
            data = shard.read(block, block.view * num_rows, columns)
            if data is not None:
                return data
            damaged = shard.path
    if damaged is not None:
        raise InputError(f"{damaged} is damaged in {where}", hint)
    raise InputError(f"no shard of {path} has {where}", hint)
