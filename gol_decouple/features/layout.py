"""What a features file holds, apart from how it is stored: the header, the splits, and the blocks they divide into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError

FORMAT = "gol-decouple features"
VERSION = 1
BLOCK_BYTES = 2**20
MAX_UNNAMED_CLASSES = 2**20
# The parts of an origin, and the kinds of their values that reports read.
_ORIGIN: dict[str, dict[str, str]] = {
    "backbone": {"name": "text"},
    "dataset": {"name": "text", "imbalance_factor": "number"},
    "transform": {},
}
_KINDS: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float)}


@dataclass(frozen=True)
class LinearWeights:
    """A linear classifier: `weight` float32 [C, D] and `bias` float32 [C]."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Classes:
    """The classes in label order: `names`, and `train_counts` int64 [C], the train samples of each."""

    names: list[str]
    train_counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Header:
    """Everything about a features file that is known before its features are.

    Attributes:
        dtype: "float16" or "float32", of the features.
        feature_size: D.
        classifier: the stage-one Softmax classifier, if there is one.
        origin: where the features come from: `backbone`, `dataset`, `transform` (each a mapping of plain values).
        row_order_seed: seed of the order of rows; None where rows stand as they were given.
    """

    classes: Classes
    dtype: str
    feature_size: int
    classifier: LinearWeights | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    row_order_seed: int | None = None

    @property
    def row_bytes(self) -> int:
        return self.feature_size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class SplitLayout:
    """Rows of one split, in file order: `labels` int64 [N], `ids` int64 [N], and the number of views V."""

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    num_views: int
    rows_per_block: int

    def __len__(self) -> int:
        return len(self.labels)

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
    if largest >= MAX_UNNAMED_CLASSES:
        raise InputError(f"label {largest} needs more than {MAX_UNNAMED_CLASSES:,} classes", "give class names")
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


def rows_per_block(row_bytes: int) -> int:
    """Rows of a block of about 1 MiB, at least one."""
    return max(1, BLOCK_BYTES // row_bytes)


def blocks(name: str, split: SplitLayout) -> Iterator[Block]:
    """All blocks of a split, view by view."""
    for view in range(split.num_views):
        for index in range(split.blocks_per_view):
            start = index * split.rows_per_block
            yield Block(name, view, index, start, min(start + split.rows_per_block, len(split)))


def plan_hash(header: Header, splits: Mapping[str, SplitLayout]) -> str:
    """sha256 of everything but the features: two files with equal plans are the same file, done or not."""
    digest = hashlib.sha256(describe(header).encode())
    digest.update(header.classes.train_counts.astype("<i8").tobytes())
    if header.classifier is not None:
        digest.update(header.classifier.weight.astype("<f4").tobytes())
        digest.update(header.classifier.bias.astype("<f4").tobytes())
    for name in sorted(splits):
        split = splits[name]
        digest.update(f"{name} {len(split)} {split.num_views} {split.rows_per_block}".encode())
        digest.update(split.labels.astype("<i8").tobytes())
        digest.update(split.ids.astype("<i8").tobytes())
    return digest.hexdigest()


def fingerprint(plan: str, tables: Mapping[str, NDArray[np.uint32]]) -> str:
    """sha256 of a finished file's plan and of its blocks' checksums, uint32 [V, blocks] a split."""
    digest = hashlib.sha256(plan.encode())
    for name in sorted(tables):
        digest.update(tables[name].astype("<u4").tobytes())
    return digest.hexdigest()


def describe(header: Header) -> str:
    """The header's plain values as canonical JSON."""
    tree = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": header.dtype,
        "feature_size": header.feature_size,
        "class_names": header.classes.names,
        "row_order_seed": header.row_order_seed,
        "origin": header.origin,
    }
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))
