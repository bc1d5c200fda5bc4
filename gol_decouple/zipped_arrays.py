"""NumPy's .npz files, of which anyone may have made one: looked at before they are unpacked, and never run.

`numpy.load` makes room for whatever shape a member claims, and unpacks whatever a zip archive holds.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.limits import UNPACKED_BYTES

_SUFFIX = ".npy"
# An archive that is no bomb, of images with plain backgrounds; larger ones may unpack to more than the limit.
_PLAUSIBLE = 20
_AT_ONCE = 2**24
_KINDS = "biufcSUMm"  # numbers, texts and dates: no objects, whose pickles would be run, and no structures of them


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name.

    Args:
        names: of those that are wanted; None: all.

    Raises:
        InputError: no such archive; one that is damaged, holds objects, claims arrays that it does not hold, or unpacks
            to more than `limits.UNPACKED_BYTES` (and 20 times its size). Hints are for the limit alone.
    """
    if not os.path.isfile(path):
        raise InputError("it is not a file" if os.path.exists(path) else "there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename.removesuffix(_SUFFIX): entry for entry in archive.infolist()}
            wanted = {name: entry for name, entry in members.items() if names is None or name in names}
            _refuse_bombs(list(wanted.values()), path.stat().st_size)
            return {name: _array(archive, entry) for name, entry in wanted.items()}
    except InputError:
        raise
    # What zipfile, its decoders and NumPy raise of damage is documented nowhere; memory is the machine's.
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(str(error) or type(error).__name__) from None


def _refuse_bombs(entries: list[zipfile.ZipInfo], size: int) -> None:
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    unpacked = sum(entry.file_size for entry in packed)
    if unpacked > _PLAUSIBLE * size:
        UNPACKED_BYTES.check(unpacked, f"it unpacks from {size:,} to {unpacked:,} bytes")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that older versions of NumPy wrote
        shape, by_column, dtype = _header(file)
        if dtype.hasobject:
            raise InputError(f"object arrays cannot be loaded, which would run code ({entry.filename})")
        if dtype.kind not in _KINDS or dtype.itemsize == 0:
            raise InputError(f"{entry.filename} is of {dtype!s:.50}, and only numbers and texts are read")
        if any(side < 0 for side in shape) or len(shape) > 32:
            raise InputError(f"{entry.filename} is of a shape that no array has")
        needed, left = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if needed > left:
            raise InputError(f"{entry.filename} claims {needed:,} bytes of values, and does not hold them")
        content = np.empty(needed, np.uint8)
        filled = 0
        while filled < needed:
            more = file.readinto(content[filled : filled + _AT_ONCE])  # type: ignore[attr-defined]
            if not more:
                raise InputError(f"{entry.filename} is cut off")
            filled += more
        file.read(1)  # at its end, the checksum is looked at
    return content.view(dtype).reshape(shape, order="F" if by_column else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise InputError(f"it is of version {version[0]}.{version[1]} of NumPy's format, and 1.0 and 2.0 are read")
