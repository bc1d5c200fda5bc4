"""Lists of JSON objects as columns: one NumPy pass where all are well-formed, else one that says which are not."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError
from gol_decouple.files import read_bytes
from gol_decouple.limits import JSON_BYTES

Row = dict[str, Any]
_INT64 = range(-(2**63), 2**63)
_ZIP = b"PK\x03\x04"
_LARGE = 1e100  # no number of pixels; whole numbers can be too large for a float, and products of floats too
_SHOWN = 60  # characters of a bad value


class Column(NamedTuple):
    """Values by row, and what is wrong with those of some rows: theirs are 0."""

    values: NDArray[Any]
    bad: dict[int, str]


def load_json(path: Path, object_hook: Callable[[Row], Row] | None = None) -> Any:
    """What a JSON file holds.

    Args:
        object_hook: gives what an object becomes, as soon as it is read.

    Raises:
        InputError: no such file, or it is no JSON.
    """
    try:
        data = read_bytes(path, JSON_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    if data.startswith(_ZIP):
        raise InputError(f"{path} is a zip archive, not JSON", f"unzip {path}, and name what was in it")
    collecting = gc.isenabled()
    gc.disable()  # or half of the time goes into looking for garbage among millions of new lists, none of which is
    try:
        text = data.decode(json.detect_encoding(data))
        del data  # which can be a gigabyte
        return json.loads(text, object_hook=object_hook)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}", "if it was downloaded, compare its size") from None
    finally:
        if collecting:
            gc.enable()


def integers(rows: Sequence[Mapping[str, Any]], key: str, default: int | None = None) -> Column:
    """The whole numbers int64 [N] called `key`; `default` stands for those that are missing, which else are bad."""
    try:
        values = [row[key] for row in rows]
    except KeyError:
        values = [row.get(key, default) for row in rows]
    if set(map(type, values)) == {int} and (array := np.array(values)).dtype.kind == "i":
        return Column(array.astype(np.int64), {})
    found, bad = np.zeros(len(rows), np.int64), {}
    for at, value in enumerate(values):
        if _is_integer(value):
            found[at] = value
        else:
            bad[at] = _wrong(rows[at], key, "a whole number")
    return Column(found, bad)


def numbers(rows: Sequence[Mapping[str, Any]], key: str, width: int) -> Column:
    """The lists of `width` finite numbers called `key`, float64 [N, width]; of single numbers if that is 0, [N]."""
    shape = (len(rows), width) if width else (len(rows),)
    try:
        values = np.array([row[key] for row in rows])
        if values.shape == shape and values.dtype.kind in "iuf":
            values = values.astype(np.float64, copy=False)
            if np.abs(values).max(initial=0) < _LARGE:
                return Column(values, {})
    except (KeyError, ValueError):  # of lists that are not equally long
        pass
    expected = f"{width} finite numbers" if width else "a finite number"
    found, bad = np.zeros(shape), {}
    for at, row in enumerate(rows):
        value = row.get(key)
        if _all_finite(value, width):
            found[at] = value
        else:
            bad[at] = _wrong(row, key, expected)
    return Column(found, bad)


def integer_lists(rows: Sequence[Row], key: str) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, str]]:
    """The lists of whole numbers called `key`, end to end [M], the row of each [M], and what is wrong with some."""
    lists: list[list[int]] = [row.get(key, []) for row in rows]
    bad: dict[int, str] = {}
    if not _all_integers(lists):
        for at, some in enumerate(lists):
            if type(some) is not list or not all(map(_is_integer, some)):
                bad[at] = _wrong(rows[at], key, "a list of whole numbers")
                lists[at] = []
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    flat = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
    return flat, np.repeat(np.arange(len(lists)), lengths), bad


def text(row: Row, key: str) -> str | None:
    """The text called `key`, without the lone surrogates that JSON can hold and nothing can print; None: no text."""
    value = row.get(key)
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def shown(value: object) -> str:
    """A value in a message, cut off where it is long."""
    written = json.dumps(value) if isinstance(value, (str, int, float, list, dict, bool, type(None))) else repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."


def _all_integers(lists: Sequence[object]) -> bool:
    if set(map(type, lists)) != {list}:
        return False
    values: list[object] = list(chain.from_iterable(lists))  # type: ignore[arg-type]  # lists, all of them
    return set(map(type, values)) <= {int} and np.array([0, *values]).dtype.kind == "i"


def _is_integer(value: object) -> bool:
    """Whether it is a whole number of Python or NumPy, of 64 bits."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) in _INT64


def _all_finite(value: Any, width: int) -> bool:
    if not width:
        return _is_finite(value)
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) == width and all(map(_is_finite, value))


def _is_finite(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and bool(abs(value) < _LARGE)


def _wrong(row: Mapping[str, Any], key: str, expected: str) -> str:
    return f"{key} is {shown(row[key])}, expected {expected}" if key in row else f"{key} is missing"
