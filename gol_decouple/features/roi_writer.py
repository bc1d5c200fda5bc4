"""A features file of RoIs written an image at a time, by any program, however large it becomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data import SPLITS
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError, unknown
from gol_decouple.features.arrays import check_path, linear_weights, roi_header, stored_dtype
from gol_decouple.features.given import array, integers, numbers
from gol_decouple.features.layout import SplitLayout, plain_origin, rows_per_block
from gol_decouple.features.roi_arrays import Detection
from gol_decouple.features.rois import UNUSED, ImageRows, check_images
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.features.writer_thread import WriterThread
from gol_decouple.files import disk_errors
from gol_decouple.settings import FeatureDtype

Columns = Mapping[str, NDArray[Any]]


class RoiWriter:
    """Writes the RoIs of one image after the other to a features file; a context manager.

    No more than a few blocks are in memory. On leaving without an error the file is put in place, if it has all images.

    Args:
        images: of "train" and, where there are any, "val" and "test". The file keeps their order: training that streams
            it shuffles what is near, so let neighbours be of different images, as in a random order.
        class_names: C texts.
        feature_size: D.
        image_counts, num_images, frequency, regressor, coder_weights: as `Detection` has them.
        classifier: weight [C + 1, D] and bias [C + 1] of the detector's Softmax classifier, background last.
        dtype: float16 or float32, of the features.
        origin: where the features come from, as plain values: `backbone`, `dataset`, `transform`.
        resume: continue what was interrupted, if all that is given here is the same. `origin` then has to tell what
            else decides on features, as a checksum of the weights; without, a file is begun afresh.

    Raises:
        InputError: what cannot be, or a file that exists already.
        EnvironmentFailure: the disk does not take it, or another process writes it.
    """

    def __init__(
        self,
        path: str | Path,
        images: Mapping[str, ImageRows],
        *,
        class_names: Sequence[str],
        feature_size: int,
        image_counts: Any,
        num_images: int,
        frequency: Sequence[str] | None = None,
        classifier: tuple[Any, Any] | None = None,
        regressor: tuple[Any, Any] | None = None,
        coder_weights: Sequence[float] = CODER_WEIGHTS,
        dtype: FeatureDtype = "float16",
        origin: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        check_path(self.path, overwrite)
        detection = Detection({}, image_counts, num_images, frequency, regressor, coder_weights)
        stored = stored_dtype(dtype, {})
        header = roi_header(detection, feature_size, stored, class_names, plain_origin(origin or {}))
        if classifier is not None:
            header = replace(header, classifier=linear_weights(classifier, header))
        self._feature_size = feature_size
        _check_splits(images)
        self._images = {split: _checked(split, images[split]) for split in SPLITS if split in images}
        self._known = {(split, id_) for split, rows in self._images.items() for id_ in rows.ids.tolist()}
        layouts = {
            split: SplitLayout(rows, 1, rows_per_block(header.row_bytes, rows.rois_per_image))
            for split, rows in self._images.items()
        }
        self._writer = FeatureWriter(self.path, header, layouts, resume=resume)
        self._rows: list[Columns] = []  # of the images of the first pending block that were given

    def __enter__(self) -> Self:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(self._writer)
            stack.push(self._publish)  # once the thread has written all that waits
            self._thread = stack.enter_context(WriterThread(self._writer))
            self._blocks = deque(self._writer.pending)
            self._left = deque(self.pending())
            self._missing = set(self._left)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _publish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self._left:
            told = f"{self.path} lacks {len(self._left):,} images, {{}} image {{}} the first".format(*self._left[0])
            raise InputError(told, "add every image that pending() names")
        self._writer.publish()

    def pending(self) -> list[tuple[str, int]]:
        """The split and id of each image that is not on the disk yet, in the order in which `add` takes them."""
        found = []
        for block in self._writer.pending:
            rows = self._images[block.split]
            own = slice(block.start // rows.rois_per_image, block.stop // rows.rois_per_image)
            found += [(block.split, id_) for id_ in rows.ids[own].tolist()]
        return found

    def add(self, split: str, image_id: int, features: Any, labels: Any, boxes: Any, iou: Any) -> None:
        """The R RoIs of an image, arrays or tensors; nothing is done for one that is on the disk already.

        Args:
            features: [R, D] floats.
            labels: [R] integers, 0..C-1, or C for background.
            boxes: [R, 4], x1, y1, x2, y2 in pixels of the original image.
            iou: [R], the largest IoU with an annotated box, 0 to 1.

        Raises:
            InputError: an image out of turn, more RoIs than it has rows, or arrays that cannot be; of the values of
                features, a few images later.
            EnvironmentFailure: the disk is full.
        """
        if (split, image_id) not in self._known:
            raise InputError(f"there is no {split} image {image_id} in {self.path}", "give `images` all that are added")
        if (split, image_id) not in self._missing:
            return
        if (split, image_id) != self._left[0]:
            expected = "{} image {}".format(*self._left[0])
            raise InputError(f"{split} image {image_id} is out of turn: {expected} is next", "add them as in pending()")
        self._rows.append(self._checked_rows(split, image_id, features, labels, boxes, iou))
        self._missing.remove(self._left.popleft())
        block, per_image = self._blocks[0], self._images[split].rois_per_image
        if len(self._rows) == (block.stop - block.start) // per_image:
            rows, self._rows = self._rows, []
            self._thread.write(self._blocks.popleft(), partial(filled_up, rows, per_image))

    def _checked_rows(self, split: str, image_id: int, features: Any, labels: Any, boxes: Any, iou: Any) -> Columns:
        what, room = f"{split} image {image_id}: ", self._images[split].rois_per_image
        given = array(f"{what}features", features)
        if given.ndim != 2 or given.dtype.kind != "f" or given.shape[1] != self._feature_size:
            expected = f"floats [R, {self._feature_size}]"
            raise InputError(f"{what}features are {given.dtype} {list(given.shape)}, expected {expected}")
        if (count := len(given)) > room:
            raise InputError(f"{what}{count} RoIs, and it has {room} rows", "raise rois_per_image, or leave some out")
        return {
            "features": given.copy(),  # it is written later, and may be of a buffer that is used again
            "labels": integers(f"{what}labels", labels, count),
            "boxes": numbers(f"{what}boxes", boxes, (count, 4)),
            "iou": numbers(f"{what}iou", iou, (count,)),
        }


def filled_up(images: Sequence[Columns], per_image: int) -> dict[str, NDArray[Any]]:
    """The rows of images, each of which owns `per_image`: features, labels, boxes and iou of its RoIs come first."""
    size = images[0]["features"].shape[1]
    columns: dict[str, NDArray[Any]] = {
        "features": np.zeros((len(images), per_image, size), np.float32),
        "labels": np.full((len(images), per_image), UNUSED, np.int64),
        "boxes": np.zeros((len(images), per_image, 4), np.float32),
        "iou": np.zeros((len(images), per_image), np.float32),
    }
    for place, image in enumerate(images):
        for name, column in columns.items():
            column[place, : len(image["labels"])] = image[name]
    return {name: column.reshape(-1, *column.shape[2:]) for name, column in columns.items()}


def _checked(split: str, images: ImageRows) -> ImageRows:
    count = len(np.atleast_1d(array(f"{split} ids", images.ids)))
    if count == 0 or images.rois_per_image < 1:
        raise InputError(f"{split} has {count} images of {images.rois_per_image} rows", "leave an empty split out")
    ids, heights, widths = (
        integers(f"{split} {name}", getattr(images, name), count) for name in ("ids", "heights", "widths")
    )
    rows = ImageRows(ids, heights, widths, images.rois_per_image)
    check_images(split, rows)
    return rows


def _check_splits(images: Mapping[str, Any]) -> None:
    if "train" not in images:
        raise InputError(f"a features file needs a train split; given: {', '.join(images) or 'none'}")
    for name in images:
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
