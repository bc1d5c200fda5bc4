"""The features file as HDF5 (docs/features-format.md): created with room for everything that is filled in later.

HDF5 is used for the metadata only, written and closed before the first feature: a process killed while HDF5 has a file
open for writing leaves a file that cannot be opened again. Features are contiguous, at offsets that HDF5 tells. Texts
are of fixed length: HDF5 keeps others in a heap without checksums, and can hang or crash where that is damaged.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

import gol_decouple
from gol_decouple.class_stats import class_counts
from gol_decouple.errors import InputError
from gol_decouple.features import metadata
from gol_decouple.features.columns import columns_of
from gol_decouple.features.layout import FORMAT, VERSION, Header, Samples, SplitLayout
from gol_decouple.features.parts import read_plan
from gol_decouple.features.plan import plan_hash
from gol_decouple.features.rois import ImageRows

ALIGNMENT = 4096
_FINGERPRINT_BYTES = 64


# A split and one of its columns.
Key = tuple[str, str]


@dataclass(frozen=True)
class Offsets:
    """Where the parts that are filled in later lie in a created file, in bytes.

    Attributes:
        columns, tables: of each column, and of the checksums of its blocks.
        counts: of what follows from the labels of RoIs, by the dataset's name.
    """

    columns: dict[Key, int]
    tables: dict[Key, int]
    counts: dict[str, int]
    fingerprint: int
    complete: int


def create(path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> Offsets:
    """Write a features file without its features: everything that is known before, and room for the rest.

    Raises:
        InputError: a class name that is no text.
        OSError: the disk does not take it.
    """
    columns, tables = {}, {}
    with _creating(path) as file:
        _add_header(file, header)
        for name, split in splits.items():
            group = _group(file, name)
            group.attrs["rows_per_block"] = split.rows_per_block
            if isinstance(split.rows, Samples):
                group["labels"] = split.rows.labels
                group["ids"] = split.rows.ids
            else:
                _add_images(group, split.rows)
            for column in columns_of(header):
                columns[name, column.name] = _reserve(group, column.name, column.shape(split), column.dtype)
                shape = (split.num_views, split.blocks_per_view)
                tables[name, column.name] = _reserve(group, column.table, shape, "<u4")
        if isinstance(train := splits["train"].rows, Samples):
            file["classes/train_counts"] = class_counts(train.labels, len(header.class_names))
        return Offsets(
            columns,
            tables,
            {name: _reserve(file, name, shape, "<i8") for name, shape in count_shapes(header, splits).items()},
            fingerprint=_reserve(file, "fingerprint", (_FINGERPRINT_BYTES,), "u1"),
            complete=_reserve(file, "complete", (1,), "u1"),
        )


def count_shapes(header: Header, splits: Mapping[str, SplitLayout]) -> dict[str, tuple[int, ...]]:
    """Name and shape of the datasets that follow from the labels of RoIs."""
    if not header.is_detection:
        return {}
    of_images = {f"{name}/images/num_rois": (len(s.images.ids),) for name, s in splits.items() if s.images is not None}
    return {"classes/train_counts": (len(header.class_names),), **of_images}


def find_offsets(path: Path, plan: str) -> Offsets | None:
    """The offsets of an unfinished file, or None if it is not one of this plan or its metadata is damaged."""
    try:
        with metadata.reading(path) as file:
            header, splits = read_plan(file)
            if plan_hash(header, splits) != plan:
                return None
            keys = [(name, column) for name in splits for column in columns_of(header)]
            return Offsets(
                {(name, column.name): file.offset(f"{name}/{column.name}") for name, column in keys},
                {(name, column.name): file.offset(f"{name}/{column.table}") for name, column in keys},
                {name: file.offset(name) for name in count_shapes(header, splits)},
                file.offset("fingerprint"),
                file.offset("complete"),
            )
    except InputError:
        return None


def _add_header(file: h5py.File, header: Header) -> None:
    file.attrs.update(
        {
            "format": np.bytes_(FORMAT),
            "version": VERSION,
            "created_by": np.bytes_(f"gol-decouple {gol_decouple.__version__}"),
            "dtype": np.bytes_(header.dtype),
            "origin": np.bytes_(json.dumps(header.origin, sort_keys=True)),
        }
    )
    if header.row_order_seed is not None:
        file.attrs["row_order_seed"] = header.row_order_seed
    classes = _group(file, "classes")
    classes["names"] = _texts(header.class_names)
    if (images := header.class_images) is not None:
        classes["image_counts"] = images.counts
        classes["frequency"] = _texts(images.frequency.tolist())
        classes.attrs["num_images"] = images.num_images
    for name, layer in (("classifier", header.classifier), ("regressor", header.regressor)):
        if layer is not None:
            group = _group(file, name)
            group["weight"] = layer.weight.astype(np.float32)
            group["bias"] = layer.bias.astype(np.float32)
    if header.regressor is not None:
        file["regressor"].attrs["coder_weights"] = np.array(header.regressor.coder_weights, np.float64)


def _add_images(split: h5py.Group, images: ImageRows) -> None:
    group = _group(split, "images")
    for name in ("ids", "heights", "widths"):
        group[name] = getattr(images, name)
    split.attrs["rois_per_image"] = images.rois_per_image
    split["image_index"] = np.repeat(np.arange(len(images.ids), dtype=np.int32), images.rois_per_image)


@contextmanager
def _creating(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, in place of what is there; its writer has a lock already, with which HDF5's own would clash."""
    creation, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    creation.set_obj_track_times(False)  # here and below: equal contents make equal files
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V110)
    access.set_alignment(ALIGNMENT, ALIGNMENT)
    access.set_file_locking(False, True)
    try:
        with h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)) as file:
            yield file
    except RuntimeError as error:
        # A disk that fills up as the file is closed is told in the text only.
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _texts(names: Sequence[str]) -> NDArray[np.bytes_]:
    encoded = []
    for name in names:
        encoded.append(name.encode(errors="replace"))
        if "\0" in name or encoded[-1].decode() != name:
            raise InputError(f"class name {name!r} is not a text that can be stored")
    return np.array(encoded, dtype=h5py.string_dtype(length=max(map(len, [b"-", *encoded]))))


def _group(file: h5py.Group, name: str) -> h5py.Group:
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=properties))


def _reserve(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str) -> int:
    """An unfilled contiguous dataset with its space allocated at once; returns the offset of its bytes."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    kind = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"), logical=True)
    space = h5py.h5s.create_simple(shape)
    offset: int = h5py.h5d.create(group.id, name.encode(), kind, space, properties).get_offset()
    return offset
