"""Images to leave out: the files that `gol-decouple check` writes and data.skip names, a line each."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path

import numpy as np

from gol_decouple.data.dataset import Dataset, Split
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import InputError, few
from gol_decouple.files import read_bytes
from gol_decouple.limits import TEXT_BYTES


def to_line(name: str, reason: str) -> str:
    """An image and why it is bad, on one line: `path<TAB>reason`."""
    return f"{_one_line(name)}\t{' '.join(reason.split())}"


def without_skipped(dataset: Dataset, path: Path) -> Dataset:
    """The dataset without the images that the file names, in every split, with a note that tells which.

    A line is an image's name, relative to the data root, or that, a tab and a reason.

    Raises:
        InputError: no such file, or it is no text.
    """
    named = _read(path)
    found: set[str] = set()
    splits, left_out = {}, []
    for split, part in dataset.splits.items():
        names = [_one_line(name) for name in _names(part)]
        skipped = [name for name in names if name in named]
        left_out += [f"{len(skipped):,} of {len(names):,} {split}"] if skipped else []
        found.update(skipped)
        splits[split] = part.take(np.flatnonzero([name not in named for name in names]))
    told = [f"{', '.join(left_out)} images are left out: {few(sorted(found))}"] if found else ["no image is left out"]
    keys_found = {named[name] for name in found}
    if unknown := sorted(set(named.values()) - keys_found):
        told.append(f"{len(unknown):,} of its names are not in the data: {few(unknown)}")
    return replace(dataset, splits=splits, notes=(*dataset.notes, f"data.skip = {path}: {'; '.join(told)}"))


def _names(split: Split) -> list[str]:
    return split.images.names if isinstance(split.images, ImageFiles) else []


def _read(path: Path) -> dict[str, str]:
    """The names that a file's lines may mean (a name can itself hold a tab), and the line that each stands for."""
    try:
        data = read_bytes(path, TEXT_BYTES)
    except OSError as error:
        hint = "gol-decouple check CONFIG > bad.txt writes it"
        raise InputError(f"data.skip = {path} cannot be read: {error.strerror}", hint) from None
    if b"\0" in data:
        raise InputError(f"data.skip = {path} is not a text file in UTF-8: it holds zero bytes")
    named = {}
    for line in data.decode("utf-8-sig", errors="surrogateescape").split("\n"):
        whole = line.removesuffix("\r")
        name = whole.rpartition("\t")[0] or whole
        if whole.strip():
            named.update({posixpath.normpath(whole): name, posixpath.normpath(name): name})
    return named


def _one_line(name: str) -> str:
    return name.replace("\n", "\\n").replace("\r", "\\r")
