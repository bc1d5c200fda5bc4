"""What tells features files apart: the plan, which is known before the features are, and the fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.features.layout import FORMAT, VERSION, Header, Samples, SplitLayout


def plan_hash(header: Header, splits: Mapping[str, SplitLayout]) -> str:
    """sha256 of all that is known before the features: two files with equal plans are the same file, done or not."""
    digest = hashlib.sha256(describe(header).encode())
    train = splits["train"].rows
    if isinstance(train, Samples):
        digest.update(class_counts(train.labels, len(header.class_names)).astype("<i8").tobytes())
    if header.class_images is not None:
        digest.update(header.class_images.counts.astype("<i8").tobytes())
    for layer in (header.classifier, header.regressor):
        if layer is not None:
            digest.update(layer.weight.astype("<f4").tobytes())
            digest.update(layer.bias.astype("<f4").tobytes())
    for name in sorted(splits):
        split = splits[name]
        digest.update(f"{name} {len(split)} {split.num_views} {split.rows_per_block}".encode())
        rows = split.rows
        if isinstance(rows, Samples):
            parts = [rows.labels, rows.ids]
        else:
            digest.update(f" {rows.rois_per_image}".encode())
            parts = [rows.ids, rows.heights, rows.widths]
        for part in parts:
            digest.update(part.astype("<i8").tobytes())
    return digest.hexdigest()


def fingerprint(plan: str, tables: Mapping[tuple[str, str], NDArray[np.uint32]]) -> str:
    """sha256 of a finished file's plan and of its blocks' checksums, uint32 [V, blocks] for each split and column."""
    digest = hashlib.sha256(plan.encode())
    for _, table in sorted(tables.items(), key=lambda item: item[0]):
        digest.update(table.astype("<u4").tobytes())
    return digest.hexdigest()


def facts(header: Header, splits: Mapping[str, SplitLayout]) -> dict[str, Any]:
    """What a features file is made of, in plain values, part by part (see `belonging`)."""
    images = {name: len(split) if split.images is None else len(split.images.ids) for name, split in splits.items()}
    tree: dict[str, Any] = {
        **header.origin,
        "classes": list(header.class_names),
        "images": images,
        "views": splits["train"].num_views,
        "dtype": header.dtype,
        "size": header.feature_size,
        "row_order_seed": header.row_order_seed,
    }
    if header.class_images is not None:
        owned = {name: split.images.rois_per_image for name, split in splits.items() if split.images is not None}
        tree |= {"rois_per_image": owned, "frequency": "".join(header.class_images.frequency.tolist())}
    return tree


def describe(header: Header) -> str:
    """The header's plain values as canonical JSON."""
    tree: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": header.dtype,
        "feature_size": header.feature_size,
        "class_names": header.class_names,
        "row_order_seed": header.row_order_seed,
        "origin": header.origin,
    }
    if header.class_images is not None:
        tree["detection"] = {
            "coder_weights": None if header.regressor is None else list(header.regressor.coder_weights),
            "frequency": "".join(header.class_images.frequency.tolist()),
            "num_images": header.class_images.num_images,
        }
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))
