"""A features file as its user sees it: splits, classes, and the layers that were trained with the backbone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features import metadata
from gol_decouple.features.blocked import FeatureArray, RowArray
from gol_decouple.features.columns import BOXES, IOU
from gol_decouple.features.layout import Classes, LinearWeights, Samples
from gol_decouple.features.plan import facts
from gol_decouple.features.rois import ImageRows, Images, Regressor


class FeaturesFile:
    """An open features file: `f["train"]`, `f.classes`, `f.classifier`. Nothing is read before it is sliced."""

    def __init__(self, stored: metadata.Stored) -> None:
        self._stored = stored
        self._splits = {name: SplitFeatures(stored, name) for name in stored.splits}

    def __getitem__(self, split: str) -> SplitFeatures:
        if split not in self._splits:
            raise InputError(f"{self.path} has no {split} split", f"it has: {', '.join(self._splits)}")
        return self._splits[split]

    def __contains__(self, split: str) -> bool:
        return split in self._splits

    @property
    def path(self) -> Path:
        return self._stored.path

    @property
    def splits(self) -> list[str]:
        """Names of the splits the file has."""
        return list(self._splits)

    @property
    def arrays(self) -> list[FeatureArray]:
        """What is read block by block, of all splits in their order: to be checked, not to be looked at."""
        return [array for split in self._splits.values() for array in split.arrays]

    @property
    def classes(self) -> Classes:
        """Class names and train counts, in label order; of detection, with the images that hold each."""
        header = self._stored.header
        return Classes(header.class_names, self._stored.train_counts, header.class_images)

    @property
    def classifier(self) -> LinearWeights | None:
        """The stage-one Softmax classifier, or None."""
        return self._stored.header.classifier

    @property
    def is_detection(self) -> bool:
        """Whether rows are RoIs: label C is background, -1 a row that is none, and a split has boxes."""
        return self._stored.header.is_detection

    @property
    def regressor(self) -> Regressor | None:
        """The box regressor of detection, or None."""
        return self._stored.header.regressor

    @property
    def feature_size(self) -> int:
        """D."""
        return self._stored.header.feature_size

    @property
    def origin(self) -> dict[str, Any]:
        """Backbone, dataset and transform the features come from, as their writer told."""
        return dict(self._stored.header.origin)

    @property
    def fingerprint(self) -> str:
        """sha256 that identifies the content; of an unchecked file, by its size and time instead of its features."""
        return self._stored.fingerprint

    @property
    def facts(self) -> dict[str, Any]:
        """What the features are made of (see `belonging`): `origin`, and how the file is laid out."""
        return facts(self._stored.header, {name: split.layout for name, split in self._stored.splits.items()})

    @property
    def checked(self) -> bool:
        """Whether the features have checksums; files written elsewhere may have none."""
        return self._stored.checked


class SplitFeatures:
    """One split: `features` [V, N, D], `labels` int64 [N], `ids` int64 [N]; each slices to NumPy.

    RoIs have no ids; those are 0..N-1.
    """

    def __init__(self, stored: metadata.Stored, name: str) -> None:
        self._stored = stored
        self._name = name
        self._split = stored.splits[name]
        self.features = FeatureArray(stored, name)
        self.labels: NDArray[np.int64] = self._split.labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Which sample each row is, for its user; int64 [N]."""
        rows = self._split.layout.rows
        return rows.ids if isinstance(rows, Samples) else np.arange(len(rows), dtype=np.int64)

    @cached_property
    def boxes(self) -> RowArray:
        """Float32 [N, 4]: x1, y1, x2, y2 in pixels of the original image.

        Raises:
            InputError: it is no file of detection. So do `ious`, `images` and `image_index`.
        """
        self._images()
        return RowArray(self._stored, self._name, BOXES)

    @cached_property
    def ious(self) -> RowArray:
        """Float32 [N]: the largest IoU of each RoI with an annotated box."""
        self._images()
        return RowArray(self._stored, self._name, IOU)

    @cached_property
    def images(self) -> Images:
        """What the rows are of."""
        rows, num_rois = self._images()
        return Images(rows.ids, rows.heights, rows.widths, num_rois, rows.rois_per_image)

    @property
    def arrays(self) -> list[FeatureArray]:
        """What is read block by block: features, and of RoIs boxes and IoUs. Labels are checked on opening."""
        of_rois = [self.boxes.blocks, self.ious.blocks] if self._split.layout.images is not None else []
        return [self.features, *of_rois]

    @property
    def image_index(self) -> NDArray[np.int64]:
        """Which of `images` each row is of, int64 [N]."""
        rows, _ = self._images()
        return np.repeat(np.arange(len(rows.ids)), rows.rois_per_image)

    def _images(self) -> tuple[ImageRows, NDArray[np.int64]]:
        rows, num_rois = self._split.layout.images, self._split.num_rois
        if rows is None or num_rois is None:
            raise InputError(
                f"{self._stored.path} holds samples, not RoIs", "docs/features-format.md says what RoIs are"
            )
        return rows, num_rois


def is_detection(path: Path) -> bool:
    """Whether a features file is of detection, without reading it; not if it cannot be read, which opening it tells."""
    try:
        with metadata.reading(path) as file:
            return file.has("train/boxes")
    except InputError:
        return False


def open_features(path: str | Path) -> FeaturesFile:
    """Open a features file for reading; exported as `gol_decouple.features.open`.

    Raises:
        InputError: the file is missing, foreign, incomplete or damaged, or refers to other files.
    """
    return FeaturesFile(metadata.read(Path(path)))
