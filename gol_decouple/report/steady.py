"""Reading what other processes may be writing: folders of finished runs, whose manifests say whether they stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from gol_decouple import runs
from gol_decouple.errors import InputError

ATTEMPTS = 5

T = TypeVar("T")


def steadily(folders: Callable[[], Iterable[Path]], read: Callable[[], T]) -> T:
    """What `read` makes of finished folders; once more if one of them was written anew or removed meanwhile.

    Raises:
        InputError: what `read` raises of folders that stay as they are.
    """
    for _ in range(ATTEMPTS):
        before = _stamps(folders)
        try:
            found = read()
        except (InputError, OSError):
            if before == _stamps(folders):
                raise
            continue
        # Those that have become finished are for the next report.
        if before.items() <= _stamps(folders).items():
            return found
    return read()


def _stamps(folders: Callable[[], Iterable[Path]]) -> dict[Path, tuple[int, int]]:
    """Of each finished folder, which file its manifest is and of when."""
    try:
        found = {folder: (folder / runs.MANIFEST).stat() for folder in folders()}
    except OSError:  # one of them has just gone
        return {}
    return {folder: (stat.st_ino, stat.st_mtime_ns) for folder, stat in found.items()}
