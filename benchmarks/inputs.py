"""What to measure with, made and removed: Gaussian classes in a features file, as samples or RoIs, and photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gol_decouple import features
from gol_decouple.data.annotated import AnnotatedDataset, AnnotatedSplit, Segmentations
from gol_decouple.data.images import ImageFiles
from gol_decouple.features import FeaturesFile
from gol_decouple.settings import FeatureDtype

HEIGHT, WIDTH = 480, 640
FOREGROUND = 0.25  # of RoIs
OBJECTS = 8  # of a photograph
ROWS_AT_ONCE = 65_536


@contextmanager
def gaussians(samples: int, size: int, classes: int, dtype: FeatureDtype = "float16") -> Iterator[FeaturesFile]:
    """A features file with `samples` train features of `size`, in random order of classes."""
    stream = np.random.default_rng(0)
    labels = stream.permutation(np.arange(samples) % classes)
    x = stream.standard_normal((samples, size), dtype=np.float32)
    x += stream.standard_normal((classes, size), dtype=np.float32)[labels]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        features.write(path, {"train": (x.astype(dtype), labels)})
        del x
        yield features.open(path)


@contextmanager
def gaussian_rois(images: int, rois_per_image: int, size: int, classes: int) -> Iterator[FeaturesFile]:
    """A features file of detection, in float16; a quarter of the RoIs are of objects, with classes by Zipf's law."""
    stream = np.random.default_rng(0)
    count = images * rois_per_image
    labels = np.where(stream.random(count) < FOREGROUND, _zipf(stream, count, classes), classes)
    centres = stream.standard_normal((classes + 1, size), dtype=np.float32)
    x = np.empty((count, size), np.float16)
    for start in range(0, count, ROWS_AT_ONCE):  # all of them in float32 would be twice the file
        part = slice(start, start + ROWS_AT_ONCE)
        x[part] = centres[labels[part]] + stream.standard_normal(x[part].shape, dtype=np.float32)
    pairs = np.unique(np.repeat(np.arange(images), rois_per_image) * (classes + 1) + labels)
    image_counts = np.bincount(pairs % (classes + 1), minlength=classes + 1)[:-1]
    boxes = np.tile(np.array([0, 0, WIDTH, HEIGHT], np.float32), (count, 1))
    sides = (np.full(images, HEIGHT), np.full(images, WIDTH))
    rois = features.Rois(boxes, np.zeros(count, np.float32), np.arange(images), *sides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        detection = features.Detection({"train": rois}, image_counts, images)
        features.write(path, {"train": (x, labels)}, detection=detection)
        del x
        yield features.open(path)


@contextmanager
def photographs(count: int, classes: int) -> Iterator[AnnotatedDataset]:
    """A train split of JPEGs of 480x640 with smooth colours and boxes anywhere, and no masks."""
    stream = np.random.default_rng(0)
    corners = stream.random((count * OBJECTS, 2)) * (WIDTH - 200, HEIGHT - 200)
    boxes = np.hstack([corners, corners + stream.uniform(20, 200, corners.shape)]).astype(np.float32)
    names = [f"{number}.jpg" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            colours = Image.fromarray(stream.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
            colours.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(Path(folder) / name, quality=90)
        split = AnnotatedSplit(
            images=ImageFiles(Path(folder), names),
            ids=np.arange(count),
            sizes=np.tile([HEIGHT, WIDTH], (count, 1)),
            starts=np.arange(count + 1) * OBJECTS,
            boxes=boxes,
            labels=_zipf(stream, len(boxes), classes),
            masks=np.zeros(len(boxes), np.int64),
            segmentations=Segmentations([]),
        )
        names = [f"class {label}" for label in range(classes)]
        yield AnnotatedDataset("photographs", names, np.arange(classes), {"train": split}, np.full(classes, "f"))


def _zipf(stream: np.random.Generator, count: int, classes: int) -> NDArray[np.int64]:
    """Labels of classes whose numbers fall as 1, 1/2, 1/3, ..."""
    shares = 1 / np.arange(1, classes + 1)
    return stream.choice(classes, count, p=shares / shares.sum())
