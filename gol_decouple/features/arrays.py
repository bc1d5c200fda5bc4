"""A features file from arrays: features made by any program, ready for stage two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data import SPLITS
from gol_decouple.errors import InputError, unknown
from gol_decouple.features.given import array, integers, pair
from gol_decouple.features.layout import (
    Header,
    LinearWeights,
    Samples,
    SplitLayout,
    label_outside,
    numbered_classes,
    plain_origin,
    rows_per_block,
)
from gol_decouple.features.roi_arrays import Detection
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
    detection: Detection | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a features file from NumPy arrays or torch tensors.

    Args:
        splits: "train" and, where there are any, "val" and "test", each as (features, labels): features [N, D], or
            [V, N, D] with V views of which view 0 is the clean one; labels [N] in 0..C-1. Only train has several views.
        class_names: C texts; without them, C is one more than the largest label.
        classifier: weight [C, D] and bias [C] of the Softmax classifier trained with the backbone; of detection, with a
            row more, the last, for background.
        ids: for each split, an integer a sample, [N]; without them, 0..N-1.
        dtype: float16 or float32; without it, float16 if all features are, else float32.
        origin: where the features come from, as plain values: `backbone`, `dataset`, `transform`.
        detection: what there is beside, where rows are RoIs. Then label C is background, -1 a row that is no RoI; there
            is one view and there are no ids; C is the number of `image_counts`.

    Raises:
        InputError: shapes that do not fit, labels out of range, values that are not finite or overflow float16, or a
            file that exists already.
    """
    path = Path(path)
    check_path(path, overwrite)
    _check_names(splits, ids or {}, detection)
    pairs = {name: pair(f"{name} split", splits[name], "(features, labels)") for name in SPLITS if name in splits}
    features = {name: _features(name, given[0]) for name, given in pairs.items()}
    labels = {name: integers(f"{name} labels", given[1], features[name].shape[1]) for name, given in pairs.items()}
    header = _header(features, labels, class_names, dtype, plain_origin(origin or {}), detection)
    if classifier is not None:
        header = replace(header, classifier=linear_weights(classifier, header))
    layouts, of_rois = _layouts(features, labels, ids or {}, header, detection)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with FeatureWriter(path, header, layouts, resume=False) as writer:
        for block in writer.pending:
            rows = slice(block.start, block.stop)
            columns = {name: values[rows] for name, values in of_rois.get(block.split, {}).items()}
            writer.write(block, features[block.split][block.view, rows], **columns)
        writer.publish()
    return path


def check_path(path: Path, overwrite: bool) -> None:
    """Raise an InputError where no file can be written, or one is that is not to be replaced."""
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists", "choose another path, or pass overwrite=True")
    if path.parent.is_file():
        raise InputError(f"{path.parent} is a file, not a folder")


def _check_names(splits: Mapping[str, Any], ids: Mapping[str, Any], detection: Detection | None) -> None:
    """Refuse splits that there are not."""
    if "train" not in splits:
        raise InputError(f"a features file needs a train split; given: {', '.join(splits) or 'none'}")
    of_rois = {} if detection is None else detection.rois
    for name in (*splits, *ids, *of_rois):
        if name not in SPLITS or name not in splits:
            raise unknown("split", name, SPLITS if name in splits else splits)
    if detection is not None and ids:
        raise InputError("RoIs have no ids", "a RoI is known by its image and its place among its rows")
    if detection is not None and (missing := [name for name in splits if name not in of_rois]):
        raise InputError(f"there are no rois of {', '.join(missing)}", "Detection(rois={...}) has those of every split")


def _header(
    features: Mapping[str, NDArray[Any]],
    labels: Mapping[str, NDArray[np.int64]],
    class_names: Sequence[str] | None,
    dtype: Any,
    origin: dict[str, Any],
    detection: Detection | None,
) -> Header:
    sizes = {name: part.shape[2] for name, part in features.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"features have different sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
        )
    size, stored_as = sizes["train"], stored_dtype(dtype, features)
    if detection is None:
        return Header(_class_names(labels, class_names), stored_as, size, origin=origin)
    return roi_header(detection, size, stored_as, class_names, origin)


def roi_header(
    detection: Detection, size: int, stored_as: str, class_names: Sequence[str] | None, origin: dict[str, Any]
) -> Header:
    """The header of a file of RoIs with features of a size, but for a classifier.

    Raises:
        InputError: classes or a box regressor that cannot be.
    """
    images = detection.class_images()
    num_classes = len(images.counts)
    names = [f"class {label}" for label in range(num_classes)] if class_names is None else list(map(str, class_names))
    if len(names) != num_classes:
        raise InputError(f"there are {len(names)} class names, but image_counts of {num_classes} classes")
    regressor = detection.box_regressor(num_classes, size)
    return Header(names, stored_as, size, origin=origin, class_images=images, regressor=regressor)


def _layouts(
    features: Mapping[str, NDArray[Any]],
    labels: Mapping[str, NDArray[np.int64]],
    ids: Mapping[str, Any],
    header: Header,
    detection: Detection | None,
) -> tuple[dict[str, SplitLayout], dict[str, dict[str, NDArray[Any]]]]:
    """The layout of each split, and of RoIs, what columns it has beside the features."""
    layouts = {}
    of_rois: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (num_views, count, _) in ((name, part.shape) for name, part in features.items()):
        if detection is None:
            of_split = integers(f"{name} ids", ids.get(name, np.arange(count)), count)
            rows = Samples(labels[name], of_split)
            layouts[name] = SplitLayout(rows, num_views, rows_per_block(header.row_bytes))
            continue
        if num_views > 1:
            raise InputError(f"{name} has {num_views} views; RoIs have one")
        images = detection.images(name, count)
        layouts[name] = SplitLayout(images, 1, rows_per_block(header.row_bytes, images.rois_per_image))
        of_rois[name] = {"labels": labels[name], **detection.columns(name, count)}
    return layouts, of_rois


def _features(name: str, values: Any) -> NDArray[Any]:
    features = array(f"{name} features", values)
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


def stored_dtype(wanted: Any, features: Mapping[str, NDArray[Any]]) -> str:
    """`wanted`, or where it is None, float16 if all features are, else float32.

    Raises:
        InputError: a dtype that the file does not have.
    """
    if wanted is None:
        return "float16" if all(part.dtype == np.float16 for part in features.values()) else "float32"
    name = str(getattr(wanted, "__name__", wanted)).removeprefix("torch.")
    if name not in get_args(FeatureDtype):
        raise unknown("dtype", name, get_args(FeatureDtype))
    return name


def _class_names(labels: Mapping[str, NDArray[np.int64]], names: Sequence[str] | None) -> list[str]:
    known = numbered_classes(labels) if names is None else [str(name) for name in names]
    for split, part in labels.items():
        if (bad := label_outside(part, len(known))) is not None:
            raise InputError(f"label {bad} in {split} is outside 0..{len(known) - 1}")
    return known


def linear_weights(values: tuple[Any, Any], header: Header) -> LinearWeights:
    """The classifier (weight, bias) of a header.

    Raises:
        InputError: one of other classes or features, or with values that are not finite.
    """
    shape, given = header.classifier_shape, pair("classifier", values, "(weight, bias)")
    weight, bias = (array("the classifier's weight and bias", part) for part in given)
    if weight.shape != shape or bias.shape != shape[:1]:
        raise InputError(
            f"the classifier is {list(weight.shape)} and {list(bias.shape)}, expected {list(shape)} and [{shape[0]}]",
            "its last row is that of background"
            if header.is_detection
            else "class_names says how many classes there are; without it, the largest label does",
        )
    with np.errstate(over="ignore"):
        weights = LinearWeights(weight.astype(np.float32), bias.astype(np.float32))
    if not (np.isfinite(weights.weight).all() and np.isfinite(weights.bias).all()):
        raise InputError("the classifier holds NaN or infinity")
    return weights
