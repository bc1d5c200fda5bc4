"""Features to measure with: Gaussian classes in a features file that is removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gol_decouple import features
from gol_decouple.features import FeaturesFile
from gol_decouple.settings import FeatureDtype


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
