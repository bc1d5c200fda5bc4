"""Where the images of an annotation file lie: recognised by what is on the disk."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from gol_decouple.data.images import ImageFiles
from gol_decouple.data.lvis_records import Images
from gol_decouple.errors import InputError

_COCO_2014 = re.compile(r"COCO_(?:train|val)2014_")
_LEAVES = re.compile(r"/|[A-Za-z]:")  # where a path begins that does not start from the image root
_HINT = "coco_url ends in folder and file, as in .../train2017/000000391895.jpg; file_name starts from the image root"


def find_images(images: Images, root: Path, name: str) -> tuple[ImageFiles, str]:
    """The files [I] of images below a root, and a note on how they were found.

    Tried are the end of `coco_url` (`train2017/x.jpg`), `file_name` as it stands, and the file alone, directly in the
    root, as `coco_url` and as `file_name` call it (without `COCO_val2014_`, which COCO 2017 no longer has). The one
    that finds most images is taken for all of them, the first if none finds any: what is missing is for the caller.

    Args:
        name: of the annotation file, for messages.

    Raises:
        InputError: no such folder, or an image with neither name, or with one that leaves the root.
    """
    refuse_no_folder(root)
    listings: dict[str, set[str]] = {}
    best: tuple[int, str, list[str]] | None = None
    for told, names in _layouts(images):
        here = sum(file in _listed(root, folder, listings) for folder, file in map(posixpath.split, names))
        if best is None or here > best[0]:
            best = here, told, names
        if here == len(names):
            break
    if best is None:
        without = next(at for at in range(len(images)) if not (images.coco_urls[at] and images.file_names[at]))
        both = f"coco_url {images.coco_urls[without]!r}, file_name {images.file_names[without]!r}"
        raise InputError(f"{name}: images have no path: image {images.ids[without]} has {both}", _HINT)
    here, told, names = best
    _refuse_outside(images, names, name)
    found = "all" if here == len(names) else f"{here:,} of {len(names):,}"
    return ImageFiles(root, names), f"{found} images are found in {root} by {told}, as {names[0]}"


def refuse_no_folder(root: Path) -> None:
    """Raise an InputError if there is no folder of images."""
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder of images", "--data-root names it")


def _layouts(images: Images) -> list[tuple[str, list[str]]]:
    """What each way to call the files is called, and the names [I] by it; ways that some image lacks are left out."""
    ways: list[tuple[str, Sequence[str], Callable[[str], str]]] = [
        ("folder and file of coco_url", images.coco_urls, lambda url: "/".join(url.split("/")[-2:])),
        ("file_name", images.file_names, posixpath.normpath),
        ("the file of coco_url", images.coco_urls, posixpath.basename),
        ("the file of file_name", images.file_names, lambda name: _COCO_2014.sub("", posixpath.basename(name))),
    ]
    return [(told, list(map(take, names))) for told, names, take in ways if all(names)]


def _listed(root: Path, folder: str, listings: dict[str, set[str]]) -> set[str]:
    """The names in a folder below the root; none if there is no such folder, or none that is below the root."""
    if folder not in listings:
        listings[folder] = set()
        path = root / folder
        if not _leaves(folder) and os.path.isdir(path):  # a name can be too long for one
            listings[folder] = set(os.listdir(path))
    return listings[folder]


def _leaves(name: str) -> bool:
    return bool(_LEAVES.match(name)) or name == ".." or name.startswith("../") or "\\" in name


def _refuse_outside(images: Images, names: Sequence[str], name: str) -> None:
    for id_, path in zip(images.ids.tolist(), names, strict=True):
        if _leaves(path) or not posixpath.basename(path):
            raise InputError(f"{name}: image {id_} is called {path!r}, which is no path below the image root", _HINT)
