"""The user's own images, a folder for each class: `train/cat/1.jpg`, and optionally `val/...` and `test/...`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gol_decouple.data.dataset import SPLITS, Dataset, Split
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import InputError, few
from gol_decouple.settings import DataConfig

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LAYOUT = "it should hold train/CLASS/IMAGE and, if there are any, val/CLASS/IMAGE and test/CLASS/IMAGE"


def load(config: DataConfig) -> Dataset:
    """The images below `data.path`, in the alphabetical order of their classes and names.

    Classes are the folders of all splits; what lies deeper in a class's folder belongs to it too. Hidden files and
    folders are passed over, and so, with a note, is what has no image's suffix.

    Raises:
        InputError: no path, no such folder, no `train` in it, a split without images, or files that are no images.
    """
    if config.path is None:
        raise InputError("data.kind = 'folder' needs data.path", "--set data.path=images, or --data-root images")
    root = Path(config.path)
    if not root.is_dir():
        raise InputError(f"data.path = {config.path}: there is no such folder", "--set data.path=... names it")
    present = [name for name in SPLITS if (root / name).is_dir()]
    if "train" not in present:
        raise InputError(f"{root} has no folder train", LAYOUT)
    classes = {name: _folders(root / name) for name in present}
    names = sorted({label for folders in classes.values() for label in folders})
    number = {label: position for position, label in enumerate(names)}
    splits, notes = {}, []
    if others := [name for name in _folders(root) if name not in present]:
        notes.append(f"{root} also has {few(others)}, which is not train, val or test: not used")
    for name in present:
        files = [(file, number[label]) for label in classes[name] for file in _files(root, f"{name}/{label}")]
        images = [(file, label) for file, label in files if file.lower().endswith(SUFFIXES)]
        if not images:
            raise InputError(f"{root / name} has no image in a class's folder", LAYOUT)
        if len(images) < len(files):
            notes.append(
                f"{root / name}: {len(files) - len(images)} of {len(files)} files have no image's suffix: not used"
            )
        if loose := [path.name for path in (root / name).iterdir() if path.suffix.lower() in SUFFIXES]:
            notes.append(f"{root / name}: {few(sorted(loose))} in no class's folder: not used")
        labels = np.array([label for _, label in images], dtype=np.int64)
        splits[name] = Split(ImageFiles(root, [file for file, _ in images]), labels, np.arange(len(labels)))
    return Dataset(config.name or root.resolve().name, names, splits, tuple(notes))


def images_below(folder: Path) -> list[Path]:
    """Every file in a folder and below it that has an image's suffix, by name; hidden ones are passed over."""
    return [folder / name for name in _files(folder, "") if name.lower().endswith(SUFFIXES)]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, folder: str) -> list[str]:
    """Names, relative to `root`, of all files in a folder and below it."""
    return sorted(_walk(root, folder))


def _walk(root: Path, folder: str) -> Iterator[str]:
    seen = set()  # a link to a folder above would lead round and round
    for path, folders, files in os.walk(root / folder, followlinks=True, onerror=_cannot_be_read):
        if (real := os.path.realpath(path)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (str((Path(path) / name).relative_to(root)) for name in files if not name.startswith("."))


def _cannot_be_read(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None
