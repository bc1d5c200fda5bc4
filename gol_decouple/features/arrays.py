"""A features file from arrays: features made by any program, ready for stage two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.config import FeatureDtype
from gol_decouple.data import SPLITS
from gol_decouple.errors import InputError, unknown
from gol_decouple.features.layout import Classes, Header, LinearWeights, SplitLayout, rows_per_block
from gol_decouple.features.writer import FeatureWriter


def write(
    path: str | Path,
    splits: Mapping[str, tuple[Any, Any]],
    *,
    class_names: Sequence[str] | None = None,
    classifier: tuple[Any, Any] | None = None,
    ids: Mapping[str, Any] | None = None,
    dtype: FeatureDtype | None = None,
    origin: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a features file from NumPy arrays or torch tensors.

    Args:
        splits: "train" and, where there are any, "val" and "test", each as (features, labels): features [N, D], or
            [V, N, D] with V views of which view 0 is the clean one; labels [N] in 0..C-1. Only train has several views.
        class_names: C texts; without them, C is one more than the largest label.
        classifier: weight [C, D] and bias [C] of the Softmax classifier trained with the backbone.
        ids: for each split, an integer a sample, [N]; without them, 0..N-1.
        dtype: float16 or float32; without it, float16 if all features are, else float32.
        origin: where the features come from, as plain values: `backbone`, `dataset`, `transform`.

    Raises:
        InputError: shapes that do not fit, labels out of range, values that are not finite or overflow float16, or a
            file that exists already.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists", "choose another path, or pass overwrite=True")
    if "train" not in splits:
        raise InputError(f"a features file needs a train split; given: {', '.join(splits) or 'none'}")
    for name in splits:
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
    features = {name: _features(name, splits[name][0]) for name in SPLITS if name in splits}
    labels = {name: _integers(f"{name} labels", splits[name][1], part.shape[1]) for name, part in features.items()}
    sizes = {part.shape[2] for part in features.values()}
    if len(sizes) > 1:
        raise InputError(
            f"features have different sizes: {', '.join(f'{n} {f.shape[2]}' for n, f in features.items())}"
        )
    if dtype is None:
        dtype = "float16" if all(part.dtype == np.float16 for part in features.values()) else "float32"
    classes = _classes(labels, class_names)
    header = Header(
        classes, dtype, sizes.pop(), _classifier(classifier, len(classes), features["train"].shape[2]), origin or {}
    )
    layouts = {
        name: SplitLayout(
            labels[name],
            _integers(f"{name} ids", (ids or {}).get(name, np.arange(part.shape[1])), part.shape[1]),
            part.shape[0],
            rows_per_block(header.row_bytes),
        )
        for name, part in features.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with FeatureWriter(path, header, layouts) as writer:
        for block in writer.pending:
            writer.write(block, features[block.split][block.view, block.start : block.stop])
        writer.publish()
    return path


def _array(values: Any) -> NDArray[Any]:
    """NumPy from NumPy or torch, without importing torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def _features(name: str, values: Any) -> NDArray[Any]:
    features = _array(values)
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or features.dtype.kind != "f":
        raise InputError(
            f"{name} features are {features.dtype} {list(features.shape)}, expected floats [N, D] or [V, N, D]"
        )
    if 0 in features.shape:
        raise InputError(f"{name} features are empty: {list(features.shape)}")
    if name != "train" and len(features) > 1:
        raise InputError(f"{name} has {len(features)} views; only train can have more than one")
    return features


def _integers(what: str, values: Any, count: int) -> NDArray[np.int64]:
    integers = _array(values)
    if integers.ndim != 1 or integers.dtype.kind not in "iu" or len(integers) != count:
        raise InputError(f"{what} are {integers.dtype} {list(integers.shape)}, expected {count} integers")
    return integers.astype(np.int64)


def _classes(labels: Mapping[str, NDArray[np.int64]], names: Sequence[str] | None) -> Classes:
    largest = max(int(part.max()) for part in labels.values())
    known = [f"class {label}" for label in range(largest + 1)] if names is None else [str(name) for name in names]
    for split, part in labels.items():
        if part.min() < 0 or part.max() >= len(known):
            bad = part.min() if part.min() < 0 else part.max()
            raise InputError(f"label {bad} in {split} is outside 0..{len(known) - 1}")
    return Classes(known, class_counts(labels["train"], len(known)))


def _classifier(pair: tuple[Any, Any] | None, num_classes: int, feature_size: int) -> LinearWeights | None:
    if pair is None:
        return None
    weight, bias = (_array(part).astype(np.float32) for part in pair)
    if weight.shape != (num_classes, feature_size) or bias.shape != (num_classes,):
        raise InputError(
            f"the classifier is {list(weight.shape)} and {list(bias.shape)}, expected "
            f"[{num_classes}, {feature_size}] and [{num_classes}]"
        )
    return LinearWeights(weight, bias)
