"""What a features file says of itself: header, labels, ids and where the features lie, read once and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import class_counts
from gol_decouple.data import SPLITS
from gol_decouple.errors import InputError
from gol_decouple.features import hdf5
from gol_decouple.features.hdf5 import UntrustedFile
from gol_decouple.features.layout import (
    FORMAT,
    VERSION,
    Classes,
    Header,
    LinearWeights,
    SplitLayout,
    fingerprint,
    label_outside,
    numbered_classes,
    plain_origin,
    plan_hash,
    rows_per_block,
)


@dataclass(frozen=True)
class StoredSplit:
    """A split as found in a file.

    Attributes:
        offset: where its features begin, in bytes; None where they have to be read through HDF5.
        crcs: the block table, uint32 [V, blocks]; None where there is none.
    """

    layout: SplitLayout
    offset: int | None
    crcs: NDArray[np.uint32] | None


@dataclass(frozen=True)
class Stored:
    """A features file's metadata, checked."""

    path: Path
    header: Header
    splits: dict[str, StoredSplit]
    fingerprint: str

    @property
    def checked(self) -> bool:
        """Whether every block has a checksum."""
        return all(split.crcs is not None for split in self.splits.values())


def read(path: Path) -> Stored:
    """Open a features file and check everything but its features.

    Raises:
        InputError: no such file, not HDF5, another format, incomplete, damaged, or built to mislead the reader.
    """
    if not os.path.isfile(path):
        kind = "is not a file" if os.path.exists(path) else "does not exist"
        raise InputError(f"features file {path} {kind}", "gol-decouple stage1 CONFIG writes one")
    with reading(path) as file:
        _check_format(file)
        # Either dataset says that the file has a seal; both must then bear out.
        sealed = file.has("complete") or file.has("fingerprint")
        if sealed and file.array("complete", 1, "u").tolist() != [1]:
            raise file.error("is incomplete: the process that wrote it did not finish")
        header, splits = _read_all(file)
        found = fingerprint(
            _plan(header, splits), {name: split.crcs for name, split in splits.items() if split.crcs is not None}
        )
        if sealed and file.array("fingerprint", 1, "u").tobytes() != found.encode("ascii"):
            raise file.error("is damaged: its metadata, labels or block table do not match its fingerprint")
        if any(split.crcs is None for split in splits.values()):
            # Nothing tells its features from those of a former file of this name, but the file's own age and size.
            status = path.stat()
            found = hashlib.sha256(f"{found} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
        return Stored(path, header, splits, found)


def read_plan(file: UntrustedFile) -> str:
    """The plan of a file, finished or not, made anew from all that it covers."""
    return _plan(*_read_all(file))


def read_unfinished(path: Path) -> tuple[Header, dict[str, SplitLayout]]:
    """What a file that is still being written will hold.

    Raises:
        InputError: it cannot be read.
    """
    with reading(path) as file:
        header, splits = _read_all(file)
        return header, {name: split.layout for name, split in splits.items()}


def read_rows(path: Path, split: str, view: int, start: int, stop: int) -> NDArray[Any]:
    """Rows of a split whose features cannot be read as bytes, [stop - start, D], through HDF5; little-endian.

    Raises:
        InputError: they cannot be read or unpacked.
    """
    with reading(path) as file:
        dataset = file.dataset(f"{split}/features")
        try:
            rows: NDArray[Any] = dataset[view, start:stop]
        except OSError as error:
            raise file.error(f"is damaged in {split}, rows {start}..{stop - 1} of view {view}: {error}") from error
        return rows.astype(rows.dtype.newbyteorder("<"), copy=False)


def reading(path: Path) -> AbstractContextManager[UntrustedFile]:
    """Open a file for reading, with the hint that suits it."""
    return hdf5.reading(path, rebuild_hint(path))


def rebuild_hint(path: Path) -> str:
    """Which command writes the file anew."""
    config = path.parent / "config.toml"
    if os.path.isfile(config):
        return f"remove {path} and run: gol-decouple stage1 {config} --runs-dir {path.parent.parent}"
    return f"write {path} again from its source (gol_decouple.features.write, or gol-decouple stage1)"


def split_names(file: UntrustedFile) -> list[str]:
    """The splits a file has, in their usual order."""
    return [name for name in SPLITS if file.has(name)]


def _check_format(file: UntrustedFile) -> None:
    if file.attribute("format") != FORMAT:
        raise file.error("is HDF5, but not a gol-decouple features file", "see docs/features-format.md")
    version = file.integer("version")
    if version != VERSION:
        newer = version is not None and version > VERSION
        told = "no format version" if version is None else f"format version {version}"
        raise file.error(f"has {told}; this program reads {VERSION}", "update gol-decouple" if newer else None)


def _plan(header: Header, splits: Mapping[str, StoredSplit]) -> str:
    return plan_hash(header, {name: split.layout for name, split in splits.items()})


def _read_all(file: UntrustedFile) -> tuple[Header, dict[str, StoredSplit]]:
    names = split_names(file)
    if "train" not in names:
        raise file.error("has no train split")
    kinds = {name: _feature_kind(file, name) for name in names}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {dtype} of size {size}" for name, (dtype, size) in kinds.items())
        raise file.error(f"has features that differ: {told}")
    dtype, size = kinds["train"]
    splits = {name: _read_split(file, name) for name in names}
    classes = _read_classes(file, {name: split.layout.labels for name, split in splits.items()})
    classifier = _read_classifier(file, (len(classes), size)) if file.has("classifier") else None
    seed = file.integer("row_order_seed")
    return Header(classes, dtype, size, classifier, _read_origin(file), seed), splits


def _feature_kind(file: UntrustedFile, name: str) -> tuple[str, int]:
    """Dtype and D of a split."""
    features = file.dataset(f"{name}/features")
    if features.ndim != 3 or features.dtype.name not in ("float16", "float32") or 0 in features.shape:
        raise file.error(
            f"has {name}/features of {features.dtype} {list(features.shape)}, expected float16 or float32 [V, N, D]"
        )
    return features.dtype.name, features.shape[2]


def _read_split(file: UntrustedFile, name: str) -> StoredSplit:
    features = file.dataset(f"{name}/features")
    views, count, size = features.shape
    if name != "train" and views > 1:
        raise file.error(f"has {views} views of {name}; only train can have more than one")
    labels = file.integers(f"{name}/labels")
    ids = file.integers(f"{name}/ids") if file.has(f"{name}/ids") else np.arange(count, dtype=np.int64)
    if len(labels) != count or len(ids) != count:
        raise file.error(f"has {count} {name} features, but {len(labels)} labels and {len(ids)} ids")
    per_block = file.integer("rows_per_block", name)
    if per_block is not None and per_block < 1:
        raise file.error(f"has {per_block} rows_per_block in {name}")
    layout = SplitLayout(labels, ids, views, per_block or rows_per_block(size * features.dtype.itemsize))
    crcs = None
    if file.has(f"{name}/block_crc32"):
        crcs = file.array(f"{name}/block_crc32", 2, "u").astype(np.uint32)
        if per_block is None or crcs.shape != (views, layout.blocks_per_view):
            raise file.error(f"has a block table of {list(crcs.shape)} for {name}, which does not fit rows_per_block")
    return StoredSplit(layout, file.find_offset(f"{name}/features"), crcs)


def _read_classes(file: UntrustedFile, labels: Mapping[str, NDArray[np.int64]]) -> Classes:
    if file.has("classes/names"):
        names = file.texts("classes/names")
    else:
        with _naming(file):
            names = numbered_classes(labels)
    for split, part in labels.items():
        if (bad := label_outside(part, len(names))) is not None:
            raise file.error(f"has label {bad} in {split}, outside 0..{len(names) - 1}")
    counts = class_counts(labels["train"], len(names))
    told = file.integers("classes/train_counts") if file.has("classes/train_counts") else counts
    if not np.array_equal(told, counts):
        raise file.error("has classes/train_counts that are not the counts of its train labels")
    return Classes(names, counts)


def _read_classifier(file: UntrustedFile, shape: tuple[int, int]) -> LinearWeights:
    weight, bias = (file.array(f"classifier/{name}", ndim, "f") for name, ndim in (("weight", 2), ("bias", 1)))
    if weight.shape != shape or bias.shape != shape[:1]:
        raise file.error(
            f"has a classifier of {list(weight.shape)} and {list(bias.shape)}, but {shape[0]} classes and features of "
            f"size {shape[1]}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise file.error("has a classifier that holds NaN or infinity")
    return LinearWeights(weight.astype(np.float32), bias.astype(np.float32))


def _read_origin(file: UntrustedFile) -> dict[str, Any]:
    text = file.attribute("origin")
    with _naming(file):
        return plain_origin({} if text is None else json.loads(text))


@contextmanager
def _naming(file: UntrustedFile) -> Iterator[None]:
    """Makes errors of what is also used apart from files name the file."""
    try:
        yield
    except InputError as error:
        raise file.error(f"cannot be used: {error.message}", error.hint) from None
