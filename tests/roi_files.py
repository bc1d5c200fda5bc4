"""Features files of RoIs: three classes, Gaussians around one centre each, and background around the origin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple import features

C, D, PER_IMAGE = 3, 8, 6
NAMES = ["cat", "dog", "fox"]
IMAGE_COUNTS, NUM_IMAGES = [150, 40, 8], 160
_CENTRES = np.concatenate([np.random.default_rng(5).normal(0, 3, (C, D)), np.zeros((1, D))])
WEIGHT, BIAS = _CENTRES.astype(np.float32), -0.5 * (_CENTRES**2).sum(1).astype(np.float32)


@dataclass(frozen=True)
class Made:
    """The RoIs of I images with 6 rows each, of which 2 to 6 are RoIs."""

    x: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    iou: np.ndarray
    ids: np.ndarray
    num_rois: np.ndarray

    @property
    def rois(self) -> features.Rois:
        sizes = np.full(len(self.ids), 480)
        return features.Rois(self.boxes, self.iou, self.ids, heights=sizes, widths=sizes + 160)


def make(num_images: int, seed: int = 0, first_id: int = 0) -> Made:
    """Half of the RoIs are background; of the others, most are cats and few are foxes."""
    stream = np.random.default_rng(seed)
    num_rois = stream.integers(2, PER_IMAGE + 1, num_images)
    used = (np.arange(PER_IMAGE) < num_rois[:, None]).ravel()
    labels = stream.choice(C + 1, used.shape, p=[0.3, 0.15, 0.05, 0.5])
    x = _CENTRES[labels] + stream.normal(size=(len(labels), D))
    corners = np.sort(stream.uniform(0, 480, (len(labels), 2, 2)), axis=1).reshape(-1, 4)
    iou = np.where(labels < C, stream.uniform(0.5, 1, len(labels)), stream.uniform(0, 0.5, len(labels)))
    return Made(
        np.where(used[:, None], x, 0).astype(np.float32),
        np.where(used, labels, -1),
        np.where(used[:, None], corners, 0).astype(np.float32),
        np.where(used, iou, 0).astype(np.float32),
        np.arange(first_id, first_id + num_images),
        num_rois,
    )


def arguments(train: Made, test: Made | None = None, **changes: Any) -> dict[str, Any]:
    """What `features.write` is given; `changes` are fields of `Detection`."""
    splits = {"train": train} if test is None else {"train": train, "test": test}
    regressor = (np.ones((C, 4, D), np.float32), np.arange(C * 4, dtype=np.float32).reshape(C, 4))
    given = {"rois": {name: made.rois for name, made in splits.items()}, "image_counts": IMAGE_COUNTS}
    detection = features.Detection(**(given | {"num_images": NUM_IMAGES, "regressor": regressor} | changes))
    return {
        "splits": {name: (made.x, made.labels) for name, made in splits.items()},
        "class_names": NAMES,
        "classifier": (WEIGHT, BIAS),
        "detection": detection,
    }


def annotate(path: Path, made: Made) -> Path:
    """Annotations of the images: a box of every RoI that is none of background, and whatever else there is."""
    names = list(enumerate(NAMES, 1))
    images = [
        {"id": id_, "height": 480, "width": 640, "neg_category_ids": [], "not_exhaustive_category_ids": []}
        for id_ in made.ids.tolist()
    ]
    annotations = []
    for row in np.flatnonzero((made.labels >= 0) & (made.labels < C)).tolist():
        x, y, right, low = made.boxes[row].astype(float).tolist()
        image = int(made.ids[row // PER_IMAGE])
        box = {"bbox": [x, y, right - x, low - y], "area": (right - x) * (low - y)}
        annotations.append({"id": row + 1, "image_id": image, "category_id": int(made.labels[row]) + 1, **box})
    categories = [{"id": id_, "name": name, "frequency": "rcf"[3 - id_]} for id_, name in names]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write(path: Path, num_train: int = 160, num_test: int = 40) -> Path:
    """A file, and `val.json` beside it."""
    test = make(num_test, 1, 1000)
    annotate(path.parent / "val.json", test)
    return features.write(path, **arguments(make(num_train), test))
