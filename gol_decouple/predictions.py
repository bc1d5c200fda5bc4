"""Predictions: of one image, its classes or objects, and what `predictions.npz` beside a classifier says of many.

NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.runs import MANIFEST
from gol_decouple.zipped_arrays import read_arrays

# What people are shown of an image unless they ask for something else. One-vs-all scores are not shares of one, and
# those of good detections are lower than softmax's.
SHOWN_OBJECTS = 20
LEAST_SCORE, LEAST_ONE_VS_ALL = 0.3, 0.1


@dataclass(frozen=True)
class Predictions:
    """Of N samples the K likeliest classes, best first.

    Attributes:
        ids, labels: int64 [N].
        classes: int64 [N, K].
        scores: as the classifier gave them, float32 [N, K]; None where the file has none.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32] | None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The best class of each, [N]."""
        best: NDArray[np.int64] = self.classes[:, 0]
        return best

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether the best class is the label, [N]."""
        hits: NDArray[np.bool_] = self.predicted == self.labels
        return hits


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


@dataclass(frozen=True)
class ImageDetections:
    """N objects found in an image, best first.

    Attributes:
        image: its path, as it was given.
        size: its height and width in pixels.
        classes, category_ids, names, scores: of each object, [N].
        boxes: x, y, width and height in pixels, [N].
        masks: as COCO's and LVIS's results have them, `size` and `counts`; of the first objects, or of none.
        next_score: of what was found and is not among them, the highest; None: nothing was.
    """

    image: Path
    size: tuple[int, int]
    classes: list[int]
    category_ids: list[int]
    names: list[str]
    scores: list[float]
    boxes: list[list[float]]
    masks: list[dict[str, Any]]
    next_score: float | None = None

    def first(self, number: int) -> ImageDetections:
        """The best ones alone."""
        columns = ("classes", "category_ids", "names", "scores", "boxes", "masks")
        left_out = self.scores[number] if number < len(self.scores) else self.next_score
        return replace(self, next_score=left_out, **{name: getattr(self, name)[:number] for name in columns})


@dataclass(frozen=True)
class Best:
    """Which of an image's objects are wanted: `top_k` at most (None: all) that score `min_score` at least."""

    top_k: int | None = None
    min_score: float = 0.0

    def among(self, scores: Sequence[float]) -> int:
        """How many there are at the beginning of scores that fall."""
        enough = sum(score >= self.min_score for score in scores)
        return enough if self.top_k is None else min(enough, self.top_k)


def read(path: Path) -> Predictions:
    """The predictions in `path`.

    Raises:
        InputError: there are none, or they are damaged.
    """
    try:
        arrays = read_arrays(path)  # all: checksums are seen by reading
        ids, labels, classes = (arrays[name] for name in ("id", "label", "classes"))
    except InputError as error:
        problem = damaged(path, error.message)
        raise InputError(problem.message, error.hint or problem.hint) from None
    except KeyError as error:
        raise damaged(path, f"it has no {error.args[0]}") from None
    if any(part.dtype.kind not in "iu" for part in (ids, labels, classes)):
        raise damaged(path, "id, label and classes must be integers")
    if not (ids.shape == labels.shape == classes.shape[:1] and classes.ndim == 2 and classes.size):
        raise damaged(path, f"id {list(ids.shape)}, label {list(labels.shape)}, classes {list(classes.shape)}")
    scores = arrays.get("scores")
    if scores is not None and (scores.dtype.kind != "f" or scores.shape != classes.shape):
        raise damaged(path, f"scores of {scores.dtype} {list(scores.shape)}, classes {list(classes.shape)}")
    ids, labels, classes = (each.astype(np.int64) for each in (ids, labels, classes))
    return Predictions(ids, labels, classes, None if scores is None else scores.astype(np.float32))


def damaged(path: Path, reason: str) -> InputError:
    """What to tell of a file that cannot be used."""
    return InputError(
        f"{path} is not a readable file of predictions: {reason}",
        f"remove {path.parent / MANIFEST} and repeat the command that made it, or remove {path} to go without",
    )
