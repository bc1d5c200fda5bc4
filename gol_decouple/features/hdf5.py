"""HDF5 files that anyone may have made: nothing read here lies outside the file or is larger than the file can hold,
and whatever the HDF5 library makes of damage ends as an InputError.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import GolDecoupleError, InputError
from gol_decouple.limits import HDF5_EXPANSION, UNPACKED_BYTES

_KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
# Many texts can share one stored text; reading few at a time bounds what a small file can unfold to.
_TEXTS_AT_ONCE = 16
# The types whose bytes NumPy can take as they lie.
_PLAIN_TYPES = (
    *(h5py.h5t.IEEE_F16LE, h5py.h5t.IEEE_F32LE),
    *(h5py.h5t.STD_I64LE, h5py.h5t.STD_U32LE, h5py.h5t.STD_U8LE),
)


@contextmanager
def reading(path: Path, hint: str) -> Iterator[UntrustedFile]:
    """Open an HDF5 file; every error but the program's own becomes an InputError that names the file.

    Args:
        hint: what helps if the file is damaged.
    """
    try:
        os.close(os.open(path, os.O_RDONLY))
        if not h5py.is_hdf5(path):
            raise InputError(f"{path} is not an HDF5 file", hint)
        with h5py.File(path, "r", locking=False) as file:
            yield UntrustedFile(path, file, hint)
    except GolDecoupleError:
        raise
    # Which exception h5py raises depends on where the damage lies, and is documented nowhere.
    except Exception as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise InputError(f"{path} is not a readable features file: {reason}", hint) from error


class UntrustedFile:
    """Access by full names ("train/labels") to an open file."""

    def __init__(self, path: Path, file: h5py.File, hint: str) -> None:
        self.path = path
        self._file = file
        self._hint = hint
        self._size = os.path.getsize(path)

    def error(self, problem: str, hint: str | None = None) -> InputError:
        """The error for a file of which `problem` is true: "has no train split"."""
        return InputError(f"{self.path} {problem}", hint or self._hint)

    def has(self, name: str) -> bool:
        """Whether the file has a group or dataset of this name."""
        return self._find(name) is not None

    def attribute(self, name: str, group: str = "") -> Any:
        """An attribute as a plain value, or None; one-element arrays, which some programs write, count as scalars."""
        node = self._find(group)
        if node is None or name not in node.attrs:
            return None
        shape = node.attrs.get_id(name).shape
        if shape is None or math.prod(shape) != 1:
            raise self.error(f"has an attribute {name!r} that is no single value")
        value = node.attrs[name]
        if isinstance(value, np.ndarray | np.generic):
            value = value.item()
        return value.decode() if isinstance(value, bytes) else value

    def integer(self, name: str, group: str = "") -> int | None:
        """An attribute that is a whole number, in whichever number type it is stored, or None."""
        value = self.attribute(name, group)
        if value is not None and (not isinstance(value, int | float) or int(value) != value):
            raise self.error(f"has an attribute {name!r} of {value!r}, expected an integer")
        return None if value is None else int(value)

    def numbers(self, name: str, group: str = "") -> tuple[float, ...] | None:
        """An attribute that is a list [N] of numbers, or None."""
        node = self._find(group)
        if node is None or name not in node.attrs:
            return None
        entry = node.attrs.get_id(name)
        if entry.shape is None or len(entry.shape) != 1 or entry.dtype.kind not in "iuf":
            raise self.error(f"has an attribute {name!r} that is no list of numbers")
        return tuple(float(value) for value in node.attrs[name])

    def array(self, name: str, ndim: int, kinds: str) -> NDArray[Any]:
        """A small dataset, whole; `kinds` are the NumPy dtype kinds that it may have."""
        dataset = self.dataset(name)
        if dataset.ndim != ndim or dataset.dtype.kind not in kinds:
            raise self.error(f"has {name} of {dataset.dtype} {list(dataset.shape)}, which does not fit the format")
        self._refuse_unpacking(dataset, name)
        values: NDArray[Any] = dataset[()]
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def integers(self, name: str) -> NDArray[np.int64]:
        """A small dataset [N] of integers."""
        values = self.array(name, 1, "iu")
        if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
            raise self.error(f"has {name} up to {values.max()}, which do not fit 64 bits with a sign")
        return values.astype(np.int64)

    def texts(self, name: str) -> list[str]:
        """A small dataset [N] of texts, in UTF-8."""
        dataset = self.dataset(name)
        kind = h5py.check_string_dtype(dataset.dtype)
        if dataset.ndim != 1 or kind is None:
            raise self.error(f"has {name} that are not a list of texts")
        self._refuse_unpacking(dataset, name)
        texts: list[bytes] = []
        length = 0
        at_once = _TEXTS_AT_ONCE if kind.length is None else max(len(dataset), 1)
        for start in range(0, len(dataset), at_once):
            texts += list(dataset[start : start + at_once])
            length += sum(map(len, texts[start:]))
            if kind.length is None and length > self._size:
                raise self.error(f"declares more text in {name} than it holds")
        return [text.decode() for text in texts]

    def dataset(self, name: str) -> h5py.Dataset:
        """A dataset that lies in this file, in full, and is not larger than its bytes can hold."""
        node = self._find(name)
        if node is None:
            raise self.error(f"has no {name}")
        if not isinstance(node, h5py.Dataset) or node.shape is None:
            raise self.error(f"has no data in {name}")
        if node.external or node.is_virtual:
            raise self.error(f"keeps {name} in other files, which is refused")
        if not self._holds(node):
            raise self.error(f"declares {node.nbytes:,} bytes of {name}, but does not hold them")
        if node.chunks:
            chunk = math.prod(node.chunks) * node.dtype.itemsize
            UNPACKED_BYTES.check(chunk, f"{self.path} unpacks {name} by {chunk:,} bytes at a time")
        return node

    def find_offset(self, name: str) -> int | None:
        """Where a dataset's bytes begin, if they lie in one piece and in little-endian order; else None."""
        dataset = self.dataset(name)
        kind = dataset.id.get_type()
        if dataset.chunks or not any(kind.equal(plain) for plain in _PLAIN_TYPES):
            return None
        offset: int | None = dataset.id.get_offset()
        if offset is not None and offset + dataset.nbytes > self._size:
            raise self.error(f"is truncated in {name}")
        return offset

    def offset(self, name: str) -> int:
        """Where a dataset's bytes begin; they must lie in one piece."""
        if (offset := self.find_offset(name)) is None:
            raise self.error(f"has {name} in pieces")
        return offset

    def _find(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """What `name` stands for, reached without following any link out of its group."""
        node: Any = self._file
        for part in filter(None, name.split("/")):
            if not isinstance(node, h5py.Group):
                raise self.error(f"has data where {name} needs a group")
            link = node.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise self.error(f"keeps {name} behind a link, which is refused")
            node = node[part]
        return node

    def _refuse_unpacking(self, dataset: h5py.Dataset, name: str) -> None:
        """A dataset that is read whole can be as large as the file, but not a thousand times that."""
        if dataset.nbytes > self._size:
            UNPACKED_BYTES.check(dataset.nbytes, f"{self.path} unpacks {name} to {dataset.nbytes:,} bytes")

    def _holds(self, dataset: h5py.Dataset) -> bool:
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(position)[0] for position in range(properties.get_nfilters())}
        stored = dataset.id.get_storage_size()
        declared = dataset.nbytes
        if dataset.chunks:
            # Chunks that were never written read as zeros without an error, and each is unpacked whole.
            chunks = math.prod(-(-extent // chunk) for extent, chunk in zip(dataset.shape, dataset.chunks, strict=True))
            if dataset.id.get_num_chunks() != chunks:
                return False
            declared = chunks * math.prod(dataset.chunks) * dataset.dtype.itemsize
        room = stored * (HDF5_EXPANSION.value() if filters else 1)
        return filters <= _KNOWN_FILTERS and declared <= room and stored <= self._size
