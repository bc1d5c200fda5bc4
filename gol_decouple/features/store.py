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
from gol_decouple.errors import InputError
from gol_decouple.features import metadata
from gol_decouple.features.layout import FORMAT, VERSION, Header, SplitLayout

ALIGNMENT = 4096
_FINGERPRINT_BYTES = 64


@dataclass(frozen=True)
class Offsets:
    """Where the parts that are filled in later lie in a created file, in bytes."""

    features: dict[str, int]
    tables: dict[str, int]
    fingerprint: int
    complete: int


def create(path: Path, header: Header, splits: Mapping[str, SplitLayout]) -> Offsets:
    """Write a features file without its features: metadata, labels and ids, and room for everything else.

    Raises:
        InputError: a class name that is no text.
        OSError: the disk does not take it.
    """
    features, tables = {}, {}
    with _creating(path) as file:
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
        classes["names"] = _texts(header.classes.names)
        classes["train_counts"] = header.classes.train_counts
        if header.classifier is not None:
            classifier = _group(file, "classifier")
            classifier["weight"] = header.classifier.weight.astype(np.float32)
            classifier["bias"] = header.classifier.bias.astype(np.float32)
        for name, split in splits.items():
            group = _group(file, name)
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
    """The offsets of an unfinished file, or None if it is not one of this plan or its metadata is damaged."""
    try:
        with metadata.reading(path) as file:
            if metadata.read_plan(file) != plan:
                return None
            names = metadata.split_names(file)
            return Offsets(
                {name: file.offset(f"{name}/features") for name in names},
                {name: file.offset(f"{name}/block_crc32") for name in names},
                file.offset("fingerprint"),
                file.offset("complete"),
            )
    except InputError:
        return None


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


def _group(file: h5py.File, name: str) -> h5py.Group:
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
