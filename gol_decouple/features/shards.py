"""Shards: a features file that several processes wrote in a file each, joined."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gol_decouple.errors import InputError
from gol_decouple.features import metadata, store
from gol_decouple.features.layout import Block, Header, SplitLayout, plan_hash
from gol_decouple.features.writer import FeatureWriter, log_path, read_logs, shard_path
from gol_decouple.progress import SILENT, Progress


@dataclass(frozen=True)
class _Shard:
    """One process's share: an open file, where features begin in it, and its blocks' checksums."""

    path: Path
    descriptor: int
    offsets: Mapping[str, int]
    crcs: Mapping[tuple[str, int, int], int]

    def read(self, block: Block, rows_before: int, row_bytes: int) -> bytes | None:
        """A block's bytes, or None if they are not what was written."""
        start = self.offsets[block.split] + (rows_before + block.start) * row_bytes
        data = os.pread(self.descriptor, (block.stop - block.start) * row_bytes, start)
        return data if zlib.crc32(data) == self.crcs[block.split, block.view, block.index] else None


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
    remove_shards(path)


def remove_shards(path: Path) -> None:
    """Remove the shards of a features file that is finished."""
    for shard in find_shards(path):
        log_path(shard).unlink(missing_ok=True)
        shard.unlink()


def _is_there(path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> bool:
    """Whether the file is there already, and only the removal of its shards was interrupted."""
    return path.exists() and plan_hash(*metadata.read_unfinished(path)) == plan_hash(header, splits)


def _join(
    path: Path, header: Header, splits: Mapping[str, SplitLayout], paths: Sequence[Path], progress: Progress
) -> None:
    with ExitStack() as stack:
        shards = [_open(shard, plan_hash(header, splits), stack) for shard in paths]
        with FeatureWriter(path, header, splits) as writer:
            pending = writer.pending
            with progress.bar("merging", len(pending), "blocks") as bar:
                for block in pending:
                    data = _block(block, shards, len(splits[block.split]), header.row_bytes, path)
                    rows = np.frombuffer(data, np.dtype(header.dtype).newbyteorder("<"))
                    writer.write(block, rows.reshape(-1, header.feature_size))
                    bar.advance(1)
            writer.publish()


def _plan(paths: list[Path]) -> tuple[Header, dict[str, SplitLayout]]:
    """What the file will be: that which all shards were begun as."""
    found = [metadata.read_unfinished(path) for path in paths]
    plans = [plan_hash(*plan) for plan in found]
    for path, plan in zip(paths, plans, strict=True):
        if plan != plans[0]:
            raise InputError(f"{path} and {paths[0]} are not of the same features", "remove the one of former features")
    return found[0]


def _open(path: Path, plan: str, stack: ExitStack) -> _Shard:
    offsets = store.find_offsets(path, plan)
    if offsets is None:
        raise InputError(f"{path} has changed while it was read")
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return _Shard(path, descriptor, offsets.features, read_logs(path))


def _block(block: Block, shards: list[_Shard], num_rows: int, row_bytes: int, path: Path) -> bytes:
    """A block's bytes from the shard that has it."""
    where = f"{block.split} rows {block.start}..{block.stop - 1}, view {block.view}"
    hint = "repeat the command that wrote the shards: it continues"
    damaged = None
    for shard in shards:
        if (block.split, block.view, block.index) in shard.crcs:
            data = shard.read(block, block.view * num_rows, row_bytes)
            if data is not None:
                return data
            damaged = shard.path
    if damaged is not None:
        raise InputError(f"{damaged} is damaged in {where}", hint)
    raise InputError(f"no shard of {path} has {where}", hint)
