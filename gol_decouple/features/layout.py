"""What a features file holds, apart from how it is stored: the header, the splits, and the blocks they divide into."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.features.rois import ClassImages, ImageRows, Regressor
from gol_decouple.files import refuse_odd
from gol_decouple.limits import CLASSES

FORMAT = "gol-decouple features"
VERSION = 1
BLOCK_BYTES = 2**20
# The parts of an origin, and the kinds of their values that reports read.
_ORIGIN: dict[str, dict[str, str]] = {
    "backbone": {"name": "text"},
    "dataset": {"name": "text", "imbalance_factor": "number"},
    "transform": {},
}
_KINDS: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float)}


@dataclass(frozen=True)
class LinearWeights:
    """A linear classifier: `weight` float32 [columns, D] and `bias` float32 [columns]; of detection, C + 1 columns, the
    last one for background, else C.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Classes:
    """The classes in label order: `names`, `train_counts` int64 [C], the train samples (of detection, the RoIs that are
    not background) of each, and, of detection, `images` that hold each.
    """

    names: list[str]
    train_counts: NDArray[np.int64]
    images: ClassImages | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_counts(self) -> NDArray[np.int64] | None:
        """Annotated train images that hold each class, [C]; None where each sample is an image."""
        return None if self.images is None else self.images.counts

    @property
    def frequency(self) -> NDArray[np.str_] | None:
        """Of "r", "c", "f", rare, common and frequent, [C]; None where each sample is an image."""
        return None if self.images is None else self.images.frequency

    @property
    def num_images(self) -> int | None:
        """How many annotated train images there are; None where each sample is one."""
        return None if self.images is None else self.images.num_images


@dataclass(frozen=True)
class Header:
    """Everything about a features file that is known before its features are.

    Attributes:
        class_names: in label order.
        dtype: "float16" or "float32", of the features.
        feature_size: D.
        classifier: the stage-one Softmax classifier, if there is one.
        origin: where the features come from: `backbone`, `dataset`, `transform` (each a mapping of plain values).
        row_order_seed: seed of the order of rows; None where rows stand as they were given.
        class_images: of a file of detection, whose rows are RoIs, the images that hold each class; else None.
        regressor: the box regressor of detection, if there is one.
    """

    class_names: list[str]
    dtype: str
    feature_size: int
    classifier: LinearWeights | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    row_order_seed: int | None = None
    class_images: ClassImages | None = None
    regressor: Regressor | None = None

    @property
    def row_bytes(self) -> int:
        return self.feature_size * np.dtype(self.dtype).itemsize

    @property
    def is_detection(self) -> bool:
        """Whether rows are RoIs: label C is background, -1 a row that is none."""
        return self.class_images is not None

    @property
    def classifier_shape(self) -> tuple[int, int]:
        """What a classifier's weight is."""
        return len(self.class_names) + self.is_detection, self.feature_size

    @property
    def classes_told(self) -> str:
        """How many classes there are, in words."""
        return f"{len(self.class_names)} classes{' and background' if self.is_detection else ''}"


@dataclass(frozen=True)
class Samples:
    """Rows that are samples: `labels` int64 [N] and `ids` int64 [N]."""

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class SplitLayout:
    """Rows of one split, in file order: samples, or those that images own; and the number of views V.

    The labels of RoIs are found with their features, those of samples are known before.
    """

    rows: Samples | ImageRows
    num_views: int
    rows_per_block: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> ImageRows | None:
        """What owns the rows; None where they are samples."""
        return self.rows if isinstance(self.rows, ImageRows) else None

    @property
    def blocks_per_view(self) -> int:
        return -(-len(self) // self.rows_per_block)


@dataclass(frozen=True)
class Block:
    """Rows `start` to `stop` of one view of a split: the unit in which features are written, checked and resumed."""

    split: str
    view: int
    index: int
    start: int
    stop: int


def numbered_classes(labels: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Names for classes that came without; there is one more than the largest label of any split.

    Raises:
        InputError: a label so large that it is more likely a mistake.
    """
    largest = max(int(part.max()) for part in labels.values())
    if largest >= (most := CLASSES.value()):
        hint = f"give class names; or, {CLASSES.way_out(largest + 1)}"
        raise InputError(f"label {largest} needs more than {most:,} classes", hint)
    return [f"class {label}" for label in range(largest + 1)]


def label_outside(labels: NDArray[np.int64], num_classes: int) -> int | None:
    """A label [N] that is not in 0..num_classes - 1, if there is one."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        return low
    return high if high >= num_classes else None


def plain_origin(origin: Any) -> dict[str, Any]:
    """`origin` as JSON holds it.

    Raises:
        InputError: it is not a mapping of plain values, or a part that reports read is of another kind.
    """
    try:
        tree = json.loads(json.dumps(origin, allow_nan=False))
        refuse_odd(tree)
    except InputError as error:
        raise InputError(f"origin cannot be used: {error.message}", error.hint) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"origin cannot be written as JSON: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"origin is {origin!r:.100}, expected a mapping of {', '.join(_ORIGIN)}")
    for part, fields in _ORIGIN.items():
        values = tree.get(part, {})
        if not isinstance(values, dict):
            raise InputError(f"origin's {part} is {values!r:.100}, expected a mapping", 'such as {"name": "resnet50"}')
        for name, kind in fields.items():
            if name in values and not isinstance(values[name], _KINDS[kind]):
                raise InputError(f"origin's {part} has {name} {values[name]!r:.100}, which is no {kind}")
    return tree


def rows_per_block(row_bytes: int, rois_per_image: int = 1) -> int:
    """Rows of a block of about 1 MiB, at least one; of RoIs, those of whole images."""
    return max(1, BLOCK_BYTES // (row_bytes * rois_per_image)) * rois_per_image


def blocks(name: str, split: SplitLayout) -> Iterator[Block]:
    """All blocks of a split, view by view."""
    for view in range(split.num_views):
        for index in range(split.blocks_per_view):
            start = index * split.rows_per_block
            yield Block(name, view, index, start, min(start + split.rows_per_block, len(split)))
