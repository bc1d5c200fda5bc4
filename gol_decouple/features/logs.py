"""Files that are being written: their names, and the logs of the blocks that are in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from gol_decouple.features.layout import Block

# The checksums of a block's columns, in their order.
Crcs = tuple[int, ...]
_LINE = re.compile(r"^(\w{1,16}) (\d{1,9}) (\d{1,9})((?: \d{1,10})+)$", re.MULTILINE)


def log_line(block: Block, crcs: Iterable[int]) -> bytes:
    """What the log says of a block that is on the disk."""
    # The line break comes first: what a crash left of the line before cannot spoil this one.
    return f"\n{block.split} {block.view} {block.index} {' '.join(map(str, crcs))}\n".encode("ascii")


def partial_path(path: Path) -> Path:
    """Where the features file `path` is written until it is complete."""
    return path.with_name(f"{path.name}.partial")


def shard_path(path: Path, rank: int) -> Path:
    """Where a process writes its share of the features file `path`, if each writes a file of its own."""
    return path.with_name(f"{path.name}.shard.{rank}")


def is_shard(path: Path) -> bool:
    """Whether a file is called as one process's share of a features file."""
    return re.fullmatch(r".+\.h5\.shard\.\d+", path.name) is not None


def log_path(partial: Path, rank: int | None = None) -> Path:
    """Where a process logs the blocks it has written to `partial`; None: the only one that writes there."""
    return partial.with_name(f"{partial.name}.log" if rank is None else f"{partial.name}.{rank}.log")


def logs_of(partial: Path) -> list[Path]:
    """The logs of every process that has written to `partial`."""
    rank = re.compile(rf"{re.escape(partial.name)}(\.\d+)?\.log")
    return sorted(path for path in partial.parent.iterdir() if rank.fullmatch(path.name))


def remove_logs(partial: Path) -> None:
    """Remove the logs of every process that has written to `partial`."""
    for path in logs_of(partial):
        path.unlink(missing_ok=True)


def read_logs(partial: Path) -> dict[tuple[str, int, int], Crcs]:
    """The checksums of each (split, view, block index) that was written to `partial`."""
    texts = [path.read_text(encoding="ascii", errors="replace") for path in logs_of(partial)]
    lines = [line for text in texts for line in _LINE.finditer(text)]
    return {(line[1], int(line[2]), int(line[3])): tuple(map(int, line[4].split())) for line in lines}
