"""A features file from arrays: features made by any program, ready for stage two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.data import SPLITS
from gol_decouple.errors import InputError, unknown
from gol_decouple.features.layout import (
    Classes,
    Header,
    LinearWeights,
    SplitLayout,
    label_outside,
    numbered_classes,
    plain_origin,
    rows_per_block,
)
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.files import disk_errors
from gol_decouple.settings import FeatureDtype


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
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists", "choose another path, or pass overwrite=True")
    if path.parent.is_file():
        raise InputError(f"{path.parent} is a file, not a folder")
    if "train" not in splits:
        raise InputError(f"a features file needs a train split; given: {', '.join(splits) or 'none'}")
    for name in (*splits, *(ids or {})):
        if name not in SPLITS or name not in splits:
            raise unknown("split", name, SPLITS if name in splits else splits)
    pairs = {name: _pair(f"{name} split", splits[name], "(features, labels)") for name in SPLITS if name in splits}
    features = {name: _features(name, pair[0]) for name, pair in pairs.items()}
    labels = {name: _integers(f"{name} labels", pair[1], features[name].shape[1]) for name, pair in pairs.items()}
    sizes = {name: part.shape[2] for name, part in features.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"features have different sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
        )
    classes = _classes(labels, class_names)
    header = Header(
        classes,
        _dtype(dtype, features),
        sizes["train"],
        None if classifier is None else _classifier(classifier, (len(classes), sizes["train"])),
        plain_origin(origin or {}),
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
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with FeatureWriter(path, header, layouts, resume=False) as writer:
        for block in writer.pending:
            writer.write(block, features[block.split][block.view, block.start : block.stop])
        writer.publish()
    return path


def _array(what: str, values: Any) -> NDArray[Any]:
    """NumPy from NumPy or torch, without importing torch."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} cannot be made an array: {error}") from None


def _pair(what: str, values: Any, expected: str) -> tuple[Any, Any]:
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise InputError(f"{what} is {type(values).__name__}, expected a pair {expected}")
    return values[0], values[1]


def _features(name: str, values: Any) -> NDArray[Any]:
    features = _array(f"{name} features", values)
    if features.ndim not in (2, 3) or features.dtype.kind != "f":
        raise InputError(
            f"{name} features are {features.dtype} {list(features.shape)}, expected floats [N, D] or [V, N, D]"
        )
    if 0 in features.shape:
        raise InputError(f"{name} features are empty: {list(features.shape)}")
    features = features[None] if features.ndim == 2 else features
    if name != "train" and len(features) > 1:
        raise InputError(f"{name} has {len(features)} views; only train can have more than one")
    return features


def _integers(what: str, values: Any, count: int) -> NDArray[np.int64]:
    integers = _array(what, values)
    if integers.ndim != 1 or integers.dtype.kind not in "iu" or len(integers) != count:
        raise InputError(f"{what} are {integers.dtype} {list(integers.shape)}, expected {count} integers")
    if integers.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} reach {integers.max()}, which does not fit 64 bits with a sign")
    return integers.astype(np.int64)


def _dtype(wanted: Any, features: Mapping[str, NDArray[Any]]) -> str:
    if wanted is None:
        return "float16" if all(part.dtype == np.float16 for part in features.values()) else "float32"
    name = str(getattr(wanted, "__name__", wanted)).removeprefix("torch.")
    if name not in get_args(FeatureDtype):
        raise unknown("dtype", name, get_args(FeatureDtype))
    return name


def _classes(labels: Mapping[str, NDArray[np.int64]], names: Sequence[str] | None) -> Classes:
    known = numbered_classes(labels) if names is None else [str(name) for name in names]
    for split, part in labels.items():
        if (bad := label_outside(part, len(known))) is not None:
            raise InputError(f"label {bad} in {split} is outside 0..{len(known) - 1}")
    return Classes(known, class_counts(labels["train"], len(known)))


def _classifier(values: tuple[Any, Any], shape: tuple[int, int]) -> LinearWeights:
    given = _pair("classifier", values, "(weight, bias)")
    weight, bias = (_array("the classifier's weight and bias", part) for part in given)
    if weight.shape != shape or bias.shape != shape[:1]:
        raise InputError(
            f"the classifier is {list(weight.shape)} and {list(bias.shape)}, expected {list(shape)} and [{shape[0]}]",
            "class_names says how many classes there are; without it, the largest label does",
        )
    with np.errstate(over="ignore"):
        weights = LinearWeights(weight.astype(np.float32), bias.astype(np.float32))
    if not (np.isfinite(weights.weight).all() and np.isfinite(weights.bias).all()):
        raise InputError("the classifier holds NaN or infinity")
    return weights
