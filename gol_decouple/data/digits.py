"""scikit-learn's bundled handwritten digits: 1,797 real 8x8 scans of ten classes, there without a download."""

from __future__ import annotations

import numpy as np

from gol_decouple.data.dataset import Dataset, make_split
from gol_decouple.settings import DataConfig

TEST_PER_CLASS = 50


def load(config: DataConfig) -> Dataset:
    """Digits with 50 test images of each class, drawn with `data.seed`; the other 1,297 are train."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    everything = make_split(images, digits.target, "digits")
    stream = np.random.RandomState(config.seed)
    drawn = [stream.permutation(np.flatnonzero(everything.labels == label)) for label in range(10)]
    test = np.sort(np.concatenate([members[:TEST_PER_CLASS] for members in drawn]))
    train = np.sort(np.concatenate([members[TEST_PER_CLASS:] for members in drawn]))
    splits = {"train": everything.take(train), "test": everything.take(test)}
    return Dataset(config.name or "digits", [str(digit) for digit in range(10)], splits)
