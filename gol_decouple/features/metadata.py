"""What a features file holds but features: header, labels and where everything lies, read once and checked."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.features import hdf5
from gol_decouple.features.columns import LABELS, Column, columns_of
from gol_decouple.features.hdf5 import UntrustedFile
from gol_decouple.features.layout import FORMAT, VERSION, Header, Samples, SplitLayout, blocks
from gol_decouple.features.parts import check_counts, naming, read_plan
from gol_decouple.features.plan import fingerprint, plan_hash
from gol_decouple.features.rois import num_rois, roi_counts


@dataclass(frozen=True)
class StoredColumn:
    """A column as found in a split.

    Attributes:
        offset: where it begins, in bytes; None where it has to be read through HDF5.
        crcs: its block table, uint32 [V, blocks]; None where there is none.
    """

    column: Column
    offset: int | None
    crcs: NDArray[np.uint32] | None


@dataclass(frozen=True)
class StoredSplit:
    """A split as found in a file: its columns by name, its labels [N], and of detection the RoIs [I] of each image."""

    layout: SplitLayout
    columns: dict[str, StoredColumn]
    labels: NDArray[np.int64]
    num_rois: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Stored:
    """A features file's metadata and labels, checked."""

    path: Path
    header: Header
    splits: dict[str, StoredSplit]
    train_counts: NDArray[np.int64]
    fingerprint: str

    @property
    def checked(self) -> bool:
        """Whether every block has checksums."""
        return not _without_table(self.splits)


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
        header, layouts = read_plan(file)
        splits = {name: _read_split(file, name, header, layout) for name, layout in layouts.items()}
        counts = roi_counts(splits["train"].labels, len(header.class_names))
        check_counts(file, "classes/train_counts", counts, "the counts of its train labels")
        tables = {
            (name, stored.column.name): stored.crcs
            for name, split in splits.items()
            for stored in split.columns.values()
            if stored.crcs is not None
        }
        found = fingerprint(plan_hash(header, layouts), tables)
        if sealed and file.array("fingerprint", 1, "u").tobytes() != found.encode("ascii"):
            raise file.error("is damaged: its metadata, labels or block table do not match its fingerprint")
        if _without_table(splits):
            # Nothing tells its features from those of a former file of this name, but the file's own age and size.
            status = path.stat()
            found = hashlib.sha256(f"{found} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
        return Stored(path, header, splits, counts, found)


def read_unfinished(path: Path) -> tuple[Header, dict[str, SplitLayout]]:
    """What a file that is still being written will hold.

    Raises:
        InputError: it cannot be read.
    """
    with reading(path) as file:
        return read_plan(file)


def read_rows(path: Path, split: str, column: Column, view: int, start: int, stop: int) -> NDArray[Any]:
    """Rows of a column that cannot be read as bytes, [stop - start, width], through HDF5; little-endian.

    Raises:
        InputError: they cannot be read or unpacked.
    """
    with reading(path) as file:
        dataset = file.dataset(f"{split}/{column.name}")
        try:
            rows: NDArray[Any] = dataset[view, start:stop] if column.has_views else dataset[start:stop]
        except OSError as error:
            what = split if column.has_views else f"{split} {column.name}"
            raise file.error(f"is damaged in {what}, rows {start}..{stop - 1} of view {view}: {error}") from error
        return rows.astype(column.dtype, copy=False).reshape(len(rows), -1)


def reading(path: Path) -> AbstractContextManager[UntrustedFile]:
    """Open a file for reading, with the hint that suits it."""
    return hdf5.reading(path, rebuild_hint(path))


def rebuild_hint(path: Path) -> str:
    """Which command writes the file anew."""
    if (path.parent / runs.CONFIG).is_file():
        return f"remove {path} and run: {runs.stage1_command(path.parent)}"
    return f"write {path} again from its source (gol_decouple.features.write, or gol-decouple stage1)"


def _without_table(splits: Mapping[str, StoredSplit]) -> bool:
    return any(stored.crcs is None for split in splits.values() for stored in split.columns.values())


def _check_format(file: UntrustedFile) -> None:
    if file.attribute("format") != FORMAT:
        raise file.error("is HDF5, but not a gol-decouple features file", "see docs/features-format.md")
    version = file.integer("version")
    if version != VERSION:
        newer = version is not None and version > VERSION
        told = "no format version" if version is None else f"format version {version}"
        raise file.error(f"has {told}; this program reads {VERSION}", "update gol-decouple" if newer else None)


def _read_split(file: UntrustedFile, name: str, header: Header, layout: SplitLayout) -> StoredSplit:
    columns = {column.name: _read_column(file, name, column, layout) for column in columns_of(header)}
    if isinstance(layout.rows, Samples):
        return StoredSplit(layout, columns, layout.rows.labels)
    labels = file.integers(f"{name}/labels")
    if (crcs := columns[LABELS.name].crcs) is not None:
        _check_labels(file, name, labels, layout, crcs)
    with naming(file, f"{name} labels: "):
        counts = num_rois(labels, layout.rows.rois_per_image, len(header.class_names))
    check_counts(file, f"{name}/images/num_rois", counts, f"how many {name} rows of each image have a label")
    return StoredSplit(layout, columns, labels, counts)


def _read_column(file: UntrustedFile, name: str, column: Column, layout: SplitLayout) -> StoredColumn:
    where, shape = f"{name}/{column.name}", column.shape(layout)
    dataset = file.dataset(where)
    kinds = "iu" if column == LABELS else "f"
    if dataset.shape != shape or dataset.dtype.kind not in kinds:
        raise file.error(f"has {where} of {dataset.dtype} {list(dataset.shape)}, expected {list(shape)}")
    if column != LABELS and dataset.dtype.itemsize != np.dtype(column.dtype).itemsize:
        raise file.error(f"has {where} of {dataset.dtype}, expected {np.dtype(column.dtype).name}")
    crcs = None
    if file.has(table := f"{name}/{column.table}"):
        crcs = file.array(table, 2, "u").astype(np.uint32)
        if file.integer("rows_per_block", name) is None or crcs.shape != (layout.num_views, layout.blocks_per_view):
            told = f"has a block table of {list(crcs.shape)} for {where}, which does not fit rows_per_block"
            raise file.error(told)
    return StoredColumn(column, file.find_offset(where), crcs)


def _check_labels(
    file: UntrustedFile, name: str, labels: NDArray[np.int64], layout: SplitLayout, crcs: NDArray[np.uint32]
) -> None:
    """Refuse labels of RoIs that do not match their checksums."""
    for block in blocks(name, layout):
        if zlib.crc32(labels[block.start : block.stop].astype("<i8").tobytes()) != int(crcs[0, block.index]):
            rows = f"{block.start}..{block.stop - 1}"
            raise file.error(f"is damaged: {name} labels of rows {rows} do not match their checksum")
