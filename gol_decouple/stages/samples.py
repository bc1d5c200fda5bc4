"""Which samples of a features file classifiers are trained on, and which are held out to choose by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts, held_out_indices
from gol_decouple.errors import InputError
from gol_decouple.features import Classes, FeaturesFile
from gol_decouple.losses import ClassFacts

# Of every class's train samples, where a file has no val split.
HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class Samples:
    """What is trained on: train, without the samples that are left out of it, and with those of val or not.

    Attributes:
        left_out: positions in the train split, ascending, int64 [M].
    """

    left_out: NDArray[np.int64] | None = None
    with_val: bool = False

    def __str__(self) -> str:
        if self.left_out is not None:
            return f"train without {len(self.left_out):,} samples"
        return "train + val" if self.with_val else "train"

    @property
    def key(self) -> str:
        """Tells them from others of the same file; empty for all of train and no more."""
        return "" if str(self) == "train" else str(self)

    def kept(self, features: FeaturesFile) -> NDArray[np.int64]:
        """Positions in train that are trained on, ascending, [N]; rows that are no RoI never are."""
        everything = _used(features, "train")
        return everything if self.left_out is None else np.setdiff1d(everything, self.left_out)

    def kept_of_val(self, features: FeaturesFile) -> NDArray[np.int64]:
        """Positions in val that are trained on, ascending, [M]."""
        return _used(features, "val") if self.with_val else np.empty(0, np.int64)

    def labels(self, features: FeaturesFile) -> NDArray[np.int64]:
        """Labels of all that is trained on, those of val last."""
        labels = features["train"].labels[self.kept(features)]
        return np.concatenate([labels, features["val"].labels[self.kept_of_val(features)]]) if self.with_val else labels

    def counts(self, features: FeaturesFile) -> NDArray[np.int64]:
        """How many there are of each class, [C]; background is none."""
        return class_counts(self.labels(features), len(features.classes) + 1)[:-1]

    def facts(self, features: FeaturesFile) -> ClassFacts:
        """What losses are told of the classes."""
        return class_facts(features.classes, self.counts(features))


TRAIN = Samples()


def class_facts(classes: Classes, counts: NDArray[np.int64]) -> ClassFacts:
    """What losses are told of classes with some numbers of samples [C]."""
    if classes.images is None:
        return ClassFacts(counts)
    images = classes.images
    return ClassFacts(counts, images.counts / images.num_images, images.num_images, background=True)


def _used(features: FeaturesFile, split: str) -> NDArray[np.int64]:
    """Positions of a split's rows that are samples or RoIs."""
    labels = features[split].labels
    return np.flatnonzero(labels >= 0) if features.is_detection else np.arange(len(labels))


@dataclass(frozen=True, eq=False)
class Holdout:
    """What choices are made by: the val split, or a share of every class's train samples.

    Attributes:
        split: where the samples are, "val" or "train".
        positions: theirs in that split, ascending, [M]; None: all.
    """

    split: str
    positions: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, features: FeaturesFile) -> Holdout:
        """Val, if there is one; else samples of train, the same in every call, at least one of a class staying.

        Raises:
            InputError: no class has two samples.
        """
        if "val" in features:
            return cls("val")
        positions = held_out_indices(features["train"].labels, HELD_OUT)
        if not len(positions):
            what = "no val split, and no class with two train samples to hold one out"
            raise InputError(f"{features.path} has {what}", "--keep-grid chooses nothing, and neither does one value")
        return cls("train", positions)

    @property
    def rest(self) -> Samples:
        """What is trained on beside it."""
        return Samples(left_out=self.positions)

    @property
    def everything(self) -> Samples:
        """What is trained on once the choice is made, if that is to be all."""
        return Samples(with_val=self.split == "val")

    def __str__(self) -> str:
        return "val" if self.positions is None else f"{len(self.positions):,} train samples held out"
