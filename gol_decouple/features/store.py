"""The features file as HDF5 (docs/features-format.md): creating one with room for every row, and opening one safely.

HDF5 is used for the metadata only, written and closed before the first feature: a process killed while HDF5 has a file
open for writing leaves a file that cannot be opened again. Features are contiguous, at offsets that HDF5 tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import gol_decouple
from gol_decouple.data import SPLITS
from gol_decouple.errors import InputError
from gol_decouple.features.layout import (
    FORMAT,
    VERSION,
    Classes,
    Header,
    LinearWeights,
    SplitLayout,
    fingerprint,
    plan_hash,
    rows_per_block,
)

ALIGNMENT = 4096
# Deflate cannot expand more than this; a dataset that claims to is a decompression bomb.
MAX_EXPANSION = 1100
_KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_FINGERPRINT_BYTES = 64


@dataclass(frozen=True)
class StoredSplit:
    """A split as found in a file; `offset` is None where its features are not contiguous, `crcs` [V, blocks] is None
    where the file has no block table.
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


@dataclass(frozen=True)
class Offsets:
    """Where the parts that are filled in later lie in a created file, in bytes."""

    features: dict[str, int]
    tables: dict[str, int]
    fingerprint: int
    complete: int


def create(path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> Offsets:
    """Write a features file without its features: metadata, labels and ids, and room for everything else."""
    features, tables = {}, {}
    with h5py.File(
        path, "w", libver=("v108", "v110"), alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT
    ) as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "created_by": f"gol-decouple {gol_decouple.__version__}",
                "plan": plan_hash(header, splits),
                "dtype": header.dtype,
                "origin": json.dumps(header.origin, sort_keys=True),
            }
        )
        if header.row_order_seed is not None:
            file.attrs["row_order_seed"] = header.row_order_seed
        file["classes/names"] = np.array(header.classes.names, dtype=h5py.string_dtype())
        file["classes/train_counts"] = header.classes.train_counts
        if header.classifier is not None:
            file["classifier/weight"] = header.classifier.weight.astype(np.float32)
            file["classifier/bias"] = header.classifier.bias.astype(np.float32)
        for name, split in splits.items():
            group = file.create_group(name)
            group["labels"] = split.labels
            group["ids"] = split.ids
            group.attrs["rows_per_block"] = split.rows_per_block
            shape = (split.num_views, len(split), header.feature_size)
            features[name] = _reserve(group, "features", shape, header.dtype)
            tables[name] = _reserve(group, "block_crc32", (split.num_views, split.blocks_per_view), "<u4")
        return Offsets(
            features,
            tables,
            fingerprint=_reserve(file, "fingerprint", (_FINGERPRINT_BYTES,), "u1"),
            complete=_reserve(file, "complete", (1,), "u1"),
        )


def find_offsets(path: Path, plan: str) -> Offsets | None:
    """The offsets of an unfinished file, or None if it is not one of this plan."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("plan") != plan:
                return None
            names = [name for name in SPLITS if name in file]
            return Offsets(
                {name: file[name]["features"].id.get_offset() for name in names},
                {name: file[name]["block_crc32"].id.get_offset() for name in names},
                file["fingerprint"].id.get_offset(),
                file["complete"].id.get_offset(),
            )
    except (OSError, KeyError):
        return None


def read(path: Path) -> Stored:
    """Open a features file and check everything but its features.

    Raises:
        InputError: no such file, not HDF5, another format, incomplete, damaged, or built to mislead the reader.
    """
    if not path.is_file():
        raise InputError(f"features file {path} does not exist", "gol-decouple stage1 CONFIG writes one")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _Reader(path, file).read()
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a readable features file: {error}", rebuild_hint(path)) from None


def read_rows(path: Path, split: str, view: int, start: int, stop: int) -> NDArray[Any]:
    """Rows of a split whose features are not contiguous, [stop - start, D], through HDF5."""
    with h5py.File(path, "r", locking=False) as file:
        rows: NDArray[Any] = file[f"{split}/features"][view, start:stop]
        return rows


def rebuild_hint(path: Path) -> str:
    """Which command writes the file anew."""
    config = path.parent / "config.toml"
    if config.is_file():
        return f"remove {path} and run: gol-decouple stage1 {config} --runs-dir {path.parent.parent}"
    return f"write {path} again from its source (gol_decouple.features.write, or gol-decouple stage1)"


def _reserve(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str) -> int:
    """An unfilled contiguous dataset with its space allocated at once; returns the offset of its bytes."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"), logical=True)
    space = h5py.h5s.create_simple(shape)
    offset: int = h5py.h5d.create(group.id, name.encode(), kind, space, properties).get_offset()
    return offset


class _Reader:
    """Reads the metadata of an open file, taking nothing in it on trust."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size

    def read(self) -> Stored:
        attrs = self.file.attrs
        if attrs.get("format") != FORMAT:
            raise self.error("is HDF5, but not a gol-decouple features file", "see docs/features-format.md")
        if int(attrs.get("version", 0)) != VERSION:
            raise self.error(f"has format version {attrs.get('version')}, this program reads {VERSION}")
        tables_known = "complete" in self.file
        if tables_known and self.array("complete", 1, "u")[0] != 1:
            raise self.error("is incomplete: the process that wrote it did not finish")
        names = [name for name in SPLITS if name in self.file]
        if "train" not in names:
            raise self.error("has no train split")
        splits = {name: self.split(name) for name in names}
        header = self.header(splits)
        for name, split in splits.items():
            self.check_labels(name, split, len(header.classes))
        plan = plan_hash(header, {name: split.layout for name, split in splits.items()})
        found = fingerprint(plan, {n: s.crcs for n, s in splits.items() if s.crcs is not None})
        if tables_known and found != self.array("fingerprint", 1, "u").tobytes().decode("ascii", "replace"):
            raise self.error("is damaged: its metadata, labels or block table do not match its fingerprint")
        return Stored(self.path, header, splits, found)

    def header(self, splits: Mapping[str, StoredSplit]) -> Header:
        features = self.dataset("train/features")
        labels = {name: split.layout.labels for name, split in splits.items()}
        classifier = None
        if "classifier" in self.file:
            weight, bias = self.array("classifier/weight", 2, "f"), self.array("classifier/bias", 1, "f")
            if weight.shape[1] != features.shape[2] or bias.shape != weight.shape[:1]:
                raise self.error(
                    f"has a classifier of {list(weight.shape)} and {list(bias.shape)} for features of size "
                    f"{features.shape[2]}"
                )
            classifier = LinearWeights(weight.astype(np.float32), bias.astype(np.float32))
        seed = self.file.attrs.get("row_order_seed")
        origin = json.loads(self.file.attrs.get("origin", "{}"))
        classes = self.classes(labels)
        if classifier is not None and len(classifier.bias) != len(classes):
            raise self.error(f"has {len(classes)} classes, but a classifier for {len(classifier.bias)}")
        return Header(
            classes, features.dtype.name, features.shape[2], classifier, origin, None if seed is None else int(seed)
        )

    def classes(self, labels: Mapping[str, NDArray[np.int64]]) -> Classes:
        if "classes/names" in self.file:
            stored = self.dataset("classes/names")
            if stored.ndim != 1 or h5py.check_string_dtype(stored.dtype) is None:
                raise self.error("has classes/names that are no list of texts")
            names = [str(name) for name in stored.asstr()[:]]
        else:
            names = [f"class {label}" for label in range(1 + max(int(part.max()) for part in labels.values()))]
        in_range = labels["train"][(labels["train"] >= 0) & (labels["train"] < len(names))]
        counts = np.bincount(in_range, minlength=len(names)).astype(np.int64)
        if "classes/train_counts" in self.file:
            counts = self.array("classes/train_counts", 1, "iu").astype(np.int64)
            if len(counts) != len(names):
                raise self.error(f"has {len(names)} class names, but train counts for {len(counts)}")
        return Classes(names, counts)

    def split(self, name: str) -> StoredSplit:
        features = self.dataset(f"{name}/features")
        if features.ndim != 3 or features.dtype.name not in ("float16", "float32") or 0 in features.shape:
            raise self.error(
                f"has {name}/features of {features.dtype} {list(features.shape)}, expected float16 or float32 [V, N, D]"
            )
        views, count, size = features.shape
        if size != self.dataset("train/features").shape[2]:
            raise self.error(f"has {name} features of size {size}, but train features of another")
        labels = self.array(f"{name}/labels", 1, "iu").astype(np.int64)
        ids = self.array(f"{name}/ids", 1, "iu").astype(np.int64) if "ids" in self.file[name] else np.arange(count)
        if len(labels) != count or len(ids) != count:
            raise self.error(f"has {count} {name} features, but {len(labels)} labels and {len(ids)} ids")
        per_block = int(self.file[name].attrs.get("rows_per_block", 0))
        layout = SplitLayout(labels, ids, views, per_block or rows_per_block(size * features.dtype.itemsize))
        crcs = self.array(f"{name}/block_crc32", 2, "u").astype(np.uint32) if "block_crc32" in self.file[name] else None
        if crcs is not None and (per_block < 1 or crcs.shape != (views, layout.blocks_per_view)):
            raise self.error(f"has a block table of {list(crcs.shape)} for {name}, expected one entry a view and block")
        little_endian = features.dtype.newbyteorder("<") == features.dtype
        contiguous = features.chunks is None and features.id.get_offset() is not None and little_endian
        return StoredSplit(layout, features.id.get_offset() if contiguous else None, crcs if contiguous else None)

    def check_labels(self, name: str, split: StoredSplit, num_classes: int) -> None:
        low, high = int(split.layout.labels.min()), int(split.layout.labels.max())
        if low < 0 or high >= num_classes:
            raise self.error(f"has label {low if low < 0 else high} in {name}, outside 0..{num_classes - 1}")

    def array(self, name: str, ndim: int, kinds: str) -> NDArray[Any]:
        """A small dataset, whole."""
        dataset = self.dataset(name)
        if dataset.ndim != ndim or dataset.dtype.kind not in kinds:
            raise self.error(f"has {name} of {dataset.dtype} {list(dataset.shape)}")
        values: NDArray[Any] = dataset[()]
        return values

    def dataset(self, name: str) -> h5py.Dataset:
        """A dataset that lies in this file, in full, and is not larger than its bytes can hold."""
        group: h5py.Group = self.file
        for part in name.split("/"):
            link = group.get(part, getlink=True)
            if link is None:
                raise self.error(f"has no {name}")
            if not isinstance(link, h5py.HardLink):
                raise self.error(f"keeps {name} behind a link, which is refused")
            group = group[part]
        if not isinstance(group, h5py.Dataset):
            raise self.error(f"has a group where {name} should be data")
        if group.external or group.is_virtual:
            raise self.error(f"keeps {name} in other files, which is refused")
        properties = group.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        stored = group.id.get_storage_size()
        room = stored * (MAX_EXPANSION if filters else 1)
        if filters - _KNOWN_FILTERS or group.nbytes > room or stored > self.size:
            raise self.error(f"declares {group.nbytes:,} bytes of {name}, but does not hold them")
        return group

    def error(self, problem: str, hint: str | None = None) -> InputError:
        return InputError(f"{self.path} {problem}", hint or rebuild_hint(self.path))
