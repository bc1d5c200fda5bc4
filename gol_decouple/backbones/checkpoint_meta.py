"""What mmdetection keeps beside a detector's weights: the text of its config, and the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TEXTS = ("config", "cfg")  # of version 2, and of 3
_CLASSES = ("CLASSES", "classes")
_DATASET = "dataset_meta"


def meta_of(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What of a checkpoint's `meta` is written back with other weights: plain data, fit for JSON."""
    found: dict[str, Any] = {key: notes[key] for key in _TEXTS if isinstance(notes.get(key), str)}
    found |= _names(notes)
    dataset = notes.get(_DATASET)
    if isinstance(dataset, Mapping) and (names := _names(dataset)):
        found[_DATASET] = names
    return found


def with_classes(meta: Mapping[str, Any], names: Sequence[str], order: Sequence[int] | None) -> dict[str, Any]:
    """What `meta_of` found, with the names of other classes wherever it has some.

    Args:
        names: of our classes.
        order: their places in the file, [C]; None: the same.

    Raises:
        TypeError, ValueError, IndexError: it is nothing that `meta_of` found, or the order is not one of those classes.
    """
    theirs = list(names)
    for name, place in zip(names, range(len(names)) if order is None else order, strict=True):
        theirs[place] = name
    found = meta_of(meta)
    for told in (found, found.get(_DATASET, {})):
        told.update({key: tuple(theirs) for key in _CLASSES if key in told})
    return found


def number_of_classes(meta: Mapping[str, Any]) -> int | None:
    """How many classes it names, if it does."""
    named = [names for told in (meta, meta.get(_DATASET, {})) for names in _names(told).values()]
    return len(named[0]) if named else None


def _names(told: Mapping[str, Any]) -> dict[str, list[str]]:
    named = {key: told[key] for key in _CLASSES if isinstance(told.get(key), list | tuple)}
    return {key: list(names) for key, names in named.items() if all(isinstance(name, str) for name in names)}
