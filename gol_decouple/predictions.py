"""Predictions: of one image, and what `predictions.npz` beside a classifier says of many. NumPy only."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.runs import MANIFEST

_UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Predictions:
    """Of N samples their ids and labels, int64 [N], and whether the best class is the label, bool [N]."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    hits: NDArray[np.bool_]


@dataclass(frozen=True)
class ImagePrediction:
    """The K likeliest classes of an image, best first.

    Attributes:
        image: its path, as it was given.
        classes, names, scores: of each class its number from 0, name and score, [K].
    """

    image: Path
    classes: list[int]
    names: list[str]
    scores: list[float]


def read(path: Path) -> Predictions:
    """The predictions in `path`.

    Raises:
        InputError: there are none, or they are damaged.
    """
    try:
        # np.load leaves a file open that it was given by name and cannot read.
        with path.open("rb") as file, np.load(file) as arrays:
            ids, labels, classes = (np.asarray(arrays[name]) for name in ("id", "label", "classes"))
    except _UNREADABLE as error:
        raise damaged(path, str(error)) from None
    if any(part.dtype.kind not in "iu" for part in (ids, labels, classes)):
        raise damaged(path, "id, label and classes must be integers")
    if not (ids.shape == labels.shape == classes.shape[:1] and classes.ndim == 2 and classes.size):
        raise damaged(path, f"id {list(ids.shape)}, label {list(labels.shape)}, classes {list(classes.shape)}")
    return Predictions(ids.astype(np.int64), labels.astype(np.int64), classes[:, 0] == labels)


def damaged(path: Path, reason: str) -> InputError:
    """What to tell of a file that cannot be used."""
    return InputError(
        f"{path} is not a readable file of predictions: {reason}",
        f"remove {path.parent / MANIFEST} and repeat the command that made it, or remove {path} to go without",
    )
