"""Image lists, `path label` a line, as ImageNet-LT, Places-LT and iNaturalist publish them."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data import layouts
from gol_decouple.data.dataset import SPLITS, Dataset, Split
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import InputError
from gol_decouple.files import read_bytes
from gol_decouple.limits import TEXT_BYTES
from gol_decouple.settings import DataConfig

LINE = "a line is a path, a space and a label that counts from 0, as in train/cat/1.jpg 3"
PATHS = "paths start from data.path (--data-root), have / between folders, and stay below it"
_LABEL = re.compile(r"[0-9]{1,6}")  # a million classes: a number that is larger is no label, but would take the memory
# What is not plainly a path below a folder: a space or / in front, a drive, a backslash, and parts "", "." and "..".
_ODD_PATH = re.compile(r"^\s|^[A-Za-z]:|\\|(?:^|/)\.{0,2}(?:/|$)")
_PUBLISHED = {
    *("ef44f8e43fbc904809a77216042e7498", "5f5f97c738923e877c5c78accce6744f"),  # ImageNet-LT: val, test
    # Places-LT: train, val, test in easy directories; train in data_256
    *("e7795ab1bf428a89f900854127b1e556", "2f6e727cd6c99c7b7fdecc9876875b1b", "1347af35b053bd31cf782256306affe7"),
    "d7a0fa1e2521e7d8fff4338ad1c65bed",
}


@dataclass(frozen=True)
class ImageList:
    """A list as it stands: `paths` [N] relative to the data root, and `labels` int64 [N]; `published`: its bytes are
    those of a list that is known.
    """

    name: str
    paths: list[str]
    labels: NDArray[np.int64]
    published: bool


def read_list(path: Path) -> ImageList:
    """Parse a list; the images need not be there. Empty lines are passed over.

    Raises:
        InputError: no such file, a line that is not a path and a label, or a path that leaves the data root.
    """
    data = _read(path)
    rows = [line.rsplit(None, 1) for line in data.decode("utf-8-sig", errors="surrogateescape").split("\n")]
    for number, row in enumerate(rows, 1):
        if row and (len(row) == 1 or not _LABEL.fullmatch(row[1])):
            raise InputError(f"{path}, line {number}: {_quoted(row)} is not a path and a label", LINE)
        if row and _ODD_PATH.search(row[0]):
            row[0] = _below_root(row, f"{path}, line {number}")
    labels = np.array([int(row[1]) for row in rows if row], dtype=np.int64)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return ImageList(path.name, [row[0] for row in rows if row], labels, digest in _PUBLISHED)


def load(config: DataConfig) -> Dataset:
    """The images of `data.lists` below `data.path`; labels are those of the lists, C is one more than the largest.

    Classes are called as `data.class_names` says, or by their folders (see `layouts.class_names`).

    Raises:
        InputError: no `data.path`, no `data.lists.train`, a list that is missing or malformed, or names that are not C.
    """
    lists = config.lists
    if not lists.train:
        raise InputError(
            "data.kind = 'list' needs data.lists.train",
            "--set data.lists.train=my_train.txt, in data.lists.folder or, where that is unset, in data.path",
        )
    if config.path is None:
        raise InputError("data.kind = 'list' needs data.path, where the lists' paths start", "--data-root images")
    root = Path(config.path)
    if not root.is_dir():
        raise InputError(f"data.path = {config.path}: there is no such folder", "--set data.path=... names it")
    folder = Path(lists.folder or root)
    named = {split: getattr(lists, split) for split in SPLITS if getattr(lists, split)}
    parts = {split: _named_list(split, folder / name) for split, name in named.items()}
    num_classes = 1 + max(int(part.labels.max(initial=-1)) for part in parts.values())
    train = parts["train"]
    if config.class_names:
        names = read_names(folder / config.class_names, num_classes)
    else:
        names = layouts.class_names(train.paths, train.labels.tolist(), num_classes)
    splits = {
        split: Split(ImageFiles(root, part.paths), part.labels, np.arange(len(part.labels), dtype=np.int64))
        for split, part in parts.items()
    }
    stem = Path(train.name).stem
    name = config.name or (root.resolve().name if stem == "train" else stem.removesuffix("_train"))
    return Dataset(name, names, splits, tuple(_notes(parts)))


def read_names(path: Path, num_classes: int) -> list[str]:
    """Class names [C] from a text file: one a line in label order, or `label name` a line.

    The lines are taken to begin with labels if all of them do, and the labels are 0 to one less than the number of
    lines, each once. Empty lines are passed over.

    Raises:
        InputError: no such file, or not C names.
    """
    lines = _read(path).decode("utf-8-sig", errors="replace").split("\n")
    names = [line.strip() for line in lines if line.strip()]
    rows = [name.split(None, 1) for name in names]
    if all(len(row) == 2 and _LABEL.fullmatch(row[0]) for row in rows):
        numbered = {int(label): name for label, name in rows}
        if numbered.keys() == set(range(len(rows))):
            names = [numbered[label] for label in range(len(rows))]
    if len(names) != num_classes:
        raise InputError(
            f"data.class_names = {path} has {len(names)} names, but the lists have {num_classes} classes",
            "one name a line in label order, or `label name` a line; C is one more than the lists' largest label",
        )
    return names


def _named_list(split: str, path: Path) -> ImageList:
    if not path.is_file():
        raise InputError(
            f"data.lists.{split}: there is no file {path}",
            f"--set data.lists.folder=... names the folder of the lists, --set data.lists.{split}=... the file",
        )
    return read_list(path)


def _read(path: Path) -> bytes:
    try:
        data = read_bytes(path, TEXT_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if b"\0" in data:
        raise InputError(f"{path} is not a text file in UTF-8: it holds zero bytes", "save it as plain text in UTF-8")
    return data


def _below_root(row: list[str], where: str) -> str:
    """An odd path, plainly; one that is no path below a folder is refused."""
    path = row[0].lstrip()
    plain = posixpath.normpath(path)
    if re.match(r"/|[A-Za-z]:", path) or "\\" in path or plain in (".", "..") or plain.startswith("../"):
        raise InputError(f"{where}: {_quoted(row)} does not name a file below the data root", PATHS)
    return plain


def _quoted(row: list[str]) -> str:
    text = " ".join(row)
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _notes(parts: dict[str, ImageList]) -> Iterator[str]:
    """The layout of each list, and lines that say the same."""
    alike: dict[tuple[str, bool], list[ImageList]] = {}
    for part in parts.values():
        alike.setdefault((layouts.layout(part.paths), part.published), []).append(part)
    for (layout, published), some in alike.items():
        example = next((f" ({part.paths[0]})" for part in some if part.paths), "")
        names = f"{', '.join(part.name for part in some)} {'has' if len(some) == 1 else 'have'}"
        yield f"{names} {layout}{example}{', as published' if published else ''}"
    for part in parts.values():
        lines = Counter(zip(part.paths, part.labels.tolist(), strict=True))
        if again := len(part.paths) - len(lines):
            (path, _), _ = lines.most_common(1)[0]
            yield f"{part.name}: {again:,} lines stand there already, such as {path}: each line counts"
