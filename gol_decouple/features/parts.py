"""What of a features file is known before its features are, read and checked: the header, and its splits' layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.data import SPLITS
from gol_decouple.data.lvis_counts import by_rule
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError
from gol_decouple.features.hdf5 import UntrustedFile
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
from gol_decouple.features.rois import (
    ClassImages,
    ImageRows,
    Regressor,
    check_class_images,
    check_images,
    check_regressor,
)


def read_plan(file: UntrustedFile) -> tuple[Header, dict[str, SplitLayout]]:
    """The header and the layout of every split; of a file that is still being written too.

    Raises:
        InputError: a part is missing, contradicts another, or has values that it cannot have.
    """
    names = [name for name in SPLITS if file.has(name)]
    if "train" not in names:
        raise file.error("has no train split")
    kinds = {name: _feature_kind(file, name) for name in names}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {dtype} of size {size}" for name, (dtype, size) in kinds.items())
        raise file.error(f"has features that differ: {told}")
    dtype, size = kinds["train"]
    if len({file.has(f"{name}/boxes") for name in names}) > 1:
        raise file.error("has boxes in some of its splits only")
    splits = {name: _read_layout(file, name) for name in names}
    images = _read_class_images(file) if splits["train"].images is not None else None
    header = Header(
        _read_class_names(file, splits, images),
        dtype,
        size,
        origin=_read_origin(file),
        row_order_seed=file.integer("row_order_seed"),
        class_images=images,
    )
    return _with_layers(file, header), splits


def check_counts(file: UntrustedFile, name: str, counts: NDArray[np.int64], what: str) -> None:
    """Refuse a dataset of counts that are not those of `what`; it may be absent."""
    if file.has(name) and not np.array_equal(file.integers(name), counts):
        raise file.error(f"has {name} that are not {what}")


@contextmanager
def naming(file: UntrustedFile, what: str = "") -> Iterator[None]:
    """Makes errors of what is also used apart from files name the file, and then `what`."""
    try:
        yield
    except InputError as error:
        raise file.error(f"cannot be used: {what}{error.message}", error.hint) from None


def _feature_kind(file: UntrustedFile, name: str) -> tuple[str, int]:
    """Dtype and D of a split."""
    features = file.dataset(f"{name}/features")
    if features.ndim != 3 or features.dtype.name not in ("float16", "float32") or 0 in features.shape:
        raise file.error(
            f"has {name}/features of {features.dtype} {list(features.shape)}, expected float16 or float32 [V, N, D]"
        )
    return features.dtype.name, features.shape[2]


def _read_layout(file: UntrustedFile, name: str) -> SplitLayout:
    features = file.dataset(f"{name}/features")
    views, count, size = features.shape
    if name != "train" and views > 1:
        raise file.error(f"has {views} views of {name}; only train can have more than one")
    per_block = file.integer("rows_per_block", name)
    if per_block is not None and per_block < 1:
        raise file.error(f"has {per_block} rows_per_block in {name}")
    row_bytes = size * features.dtype.itemsize
    if not file.has(f"{name}/boxes"):
        return SplitLayout(_read_samples(file, name, count), views, per_block or rows_per_block(row_bytes))
    rows = _read_images(file, name, count)
    if views > 1:
        raise file.error(f"has {views} views of RoIs in {name}, which have one")
    per_block = per_block or rows_per_block(row_bytes, rows.rois_per_image)
    if per_block % rows.rois_per_image:
        raise file.error(f"has blocks of {per_block} rows in {name}, which are not whole images")
    return SplitLayout(rows, views, per_block)


def _read_samples(file: UntrustedFile, name: str, count: int) -> Samples:
    labels = file.integers(f"{name}/labels")
    ids = file.integers(f"{name}/ids") if file.has(f"{name}/ids") else np.arange(count, dtype=np.int64)
    if len(labels) != count or len(ids) != count:
        raise file.error(f"has {count} {name} features, but {len(labels)} labels and {len(ids)} ids")
    return Samples(labels, ids)


def _read_images(file: UntrustedFile, name: str, count: int) -> ImageRows:
    per_image = file.integer("rois_per_image", name)
    if per_image is None or per_image < 1:
        raise file.error(f"has {'no' if per_image is None else per_image} rois_per_image in {name}")
    ids, heights, widths = (file.integers(f"{name}/images/{part}") for part in ("ids", "heights", "widths"))
    rows = ImageRows(ids, heights, widths, per_image)
    if not len(ids) == len(heights) == len(widths) or len(rows) != count:
        raise file.error(
            f"has {count} {name} features, but {len(ids)} ids, {len(heights)} heights and {len(widths)} widths of "
            f"images with {per_image} rows each"
        )
    with naming(file):
        check_images(name, rows)
    index = np.repeat(np.arange(len(ids)), per_image)
    check_counts(file, f"{name}/image_index", index, f"the images of its rows, {per_image} each")
    return rows


def _read_class_names(file: UntrustedFile, splits: Mapping[str, SplitLayout], images: ClassImages | None) -> list[str]:
    labels = {name: split.rows.labels for name, split in splits.items() if isinstance(split.rows, Samples)}
    if file.has("classes/names"):
        names = file.texts("classes/names")
    elif images is not None:
        names = [f"class {label}" for label in range(len(images.counts))]
    else:
        with naming(file):
            names = numbered_classes(labels)
    if images is not None and len(images.counts) != len(names):
        raise file.error(f"has {len(names)} class names, but image_counts of {len(images.counts)} classes")
    for split, part in labels.items():
        if (bad := label_outside(part, len(names))) is not None:
            raise file.error(f"has label {bad} in {split}, outside 0..{len(names) - 1}")
    if labels:
        counts = class_counts(labels["train"], len(names))
        check_counts(file, "classes/train_counts", counts, "the counts of its train labels")
    return names


def _read_class_images(file: UntrustedFile) -> ClassImages:
    counts, num_images = file.integers("classes/image_counts"), file.integer("num_images", "classes")
    if num_images is None or len(counts) == 0:
        raise file.error("has RoIs, but no num_images and image_counts of classes")
    if file.has("classes/frequency"):
        frequency = np.array(file.texts("classes/frequency"), dtype=np.str_)
    else:
        frequency = by_rule(counts)
    if len(frequency) != len(counts):
        raise file.error(f"has image_counts of {len(counts)} classes, but frequency of {len(frequency)}")
    images = ClassImages(counts, num_images, frequency)
    with naming(file):
        check_class_images(images)
    return images


def _with_layers(file: UntrustedFile, header: Header) -> Header:
    classifier = _read_classifier(file, header) if file.has("classifier") else None
    regressor = _read_regressor(file, header) if header.is_detection and file.has("regressor") else None
    return replace(header, classifier=classifier, regressor=regressor)


def _read_classifier(file: UntrustedFile, header: Header) -> LinearWeights:
    weight, bias = (file.array(f"classifier/{name}", ndim, "f") for name, ndim in (("weight", 2), ("bias", 1)))
    shape = header.classifier_shape
    if weight.shape != shape or bias.shape != shape[:1]:
        raise file.error(
            f"has a classifier of {list(weight.shape)} and {list(bias.shape)}, but {header.classes_told} and features "
            f"of size {shape[1]}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise file.error("has a classifier that holds NaN or infinity")
    return LinearWeights(weight.astype(np.float32), bias.astype(np.float32))


def _read_regressor(file: UntrustedFile, header: Header) -> Regressor:
    weight, bias = (file.array(f"regressor/{name}", ndim, "f") for name, ndim in (("weight", 3), ("bias", 2)))
    coder = file.numbers("coder_weights", "regressor") or CODER_WEIGHTS
    regressor = Regressor(weight.astype(np.float32), bias.astype(np.float32), coder)
    with naming(file):
        check_regressor(regressor, len(header.class_names), header.feature_size)
    return regressor


def _read_origin(file: UntrustedFile) -> dict[str, Any]:
    text = file.attribute("origin")
    with naming(file):
        return plain_origin({} if text is None else json.loads(text))
