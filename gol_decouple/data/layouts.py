"""How the paths of published image lists are laid out: what the layout is called, and what its classes are called."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gol_decouple.errors import few

IMAGENET = "ImageNet's layout"
PLACES_EASY = "Places365's easy-directory layout"
PLACES_256 = "Places365's data_256 layout"
INATURALIST = "iNaturalist's layout"
OWN = "a layout of its own"

# A list has a layout if all its paths match. Places' images have the same numbers in both of its layouts; ImageNet is
# asked first, since its folders would do as classes of Places.
_PATHS = {
    IMAGENET: re.compile(r"(train|val|test)/n\d{8}/[^/]+"),
    PLACES_EASY: re.compile(r"(train/[^/]+/\d{8}\.jpg|val/[^/]+/Places365_val_\d{8}\.jpg)"),
    PLACES_256: re.compile(
        r"(data_(256|large)/[a-z]/[^/]+/([^/]+/)?\d{8}\.jpg|val_(256|large)/Places365_val_\d{8}\.jpg)"
    ),
    INATURALIST: re.compile(r"(train_val|test)20\d\d/([A-Za-z]+/\d+/)?[^/]+"),
}
_PLACES_CLASS = re.compile(r"data_(?:256|large)/[a-z]/(.+)")


def layout(paths: Sequence[str]) -> str:
    """What the layout of a list's paths is called."""
    return next((name for name, path in _PATHS.items() if paths and all(map(path.fullmatch, paths))), OWN)


def class_names(paths: Sequence[str], labels: Sequence[int], num_classes: int) -> list[str]:
    """Names [C] of the classes of train images: their folders, where each class has one that is no other's.

    The name is the last folder of the path, or the whole of it where two classes' last folders are the same; a class
    without a folder of its own is "class 7". Nested categories of Places are joined as in its easy directories:
    `data_256/a/apartment_building/outdoor` is "apartment_building-outdoor".
    """
    pairs = set(zip((path.rpartition("/")[0] for path in paths), labels, strict=True))
    classes_of, folders_of = Counter(folder for folder, _ in pairs), Counter(label for _, label in pairs)
    own = {label: folder for folder, label in pairs if folder and classes_of[folder] == folders_of[label] == 1}
    names = {label: _last(folder) for label, folder in own.items()}
    if len(set(names.values())) < len(names):
        names = own
    return [_text(names.get(label, f"class {label}")) for label in range(num_classes)]


def missing_hint(root: Path, missing: Sequence[str]) -> str | None:
    """Why images are not below `root`, if their first folder is not there either: what the root holds instead."""
    folder = _missing_folder(root, missing[0]) if missing else None
    if folder is None:
        return None
    named, found = layout(missing), _layout_of_folder(root)
    if found not in (None, named):
        return f"{root} holds {found}, but the images are listed in {named}: take the list that goes with the images"
    top = folder.partition("/")[0]
    for other in [root.parent, *sorted(path for path in root.iterdir() if path.is_dir())]:
        if top == folder and os.path.isdir(other / top):
            return f"{other} has a folder {top}: --data-root {other}"
    there = few(sorted(path.name for path in (root / folder).parent.iterdir() if path.is_dir())) or "no folder"
    return f"{(root / folder).parent} has no folder {Path(folder).name}, it has {there}: --data-root names another root"


def _missing_folder(root: Path, name: str) -> str | None:
    """The first folder on the way to a file that is not there: `val`, or `val/n01440764`."""
    folders = name.split("/")[:-1]
    ways = ("/".join(folders[:depth]) for depth in range(1, len(folders) + 1))
    return next((way for way in ways if not os.path.isdir(root / way)), None)


def _layout_of_folder(root: Path) -> str | None:
    """Which published layout a folder of images seems to have; None: no telling."""
    names = [path.name for path in root.iterdir() if path.is_dir()]
    if any(name in ("data_256", "data_large") for name in names):
        return PLACES_256
    if any(re.fullmatch(r"train_val20\d\d", name) for name in names):
        return INATURALIST
    classes = [path.name for path in (root / "train").iterdir()] if "train" in names else []
    if any(re.fullmatch(r"n\d{8}", name) for name in classes):
        return IMAGENET
    return PLACES_EASY if "airfield" in classes else None


def _last(folder: str) -> str:
    places = _PLACES_CLASS.fullmatch(folder)
    return places[1].replace("/", "-") if places else folder.rpartition("/")[2]


def _text(name: str) -> str:
    """A name that can be written anywhere: a path need not be UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
