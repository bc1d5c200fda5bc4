"""Pickles of NumPy arrays, as detectron2's model zoo has them, read without running anything that they name.

Nothing of NumPy is called by the file either: arrays and their types are rebuilt by the few lines here, which check
each number before they believe it.
"""

from __future__ import annotations

import codecs
import math
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError

_PLAIN_KEYS = (str, bytes, int, float, type(None))
_KIND = re.compile(r"(?:[biu][1248]|f[248])\Z")  # of numbers that are as many bytes as they say
_SIDES = 64  # of an array, at most
_MODULES = ("numpy.core", "numpy._core")  # before and since NumPy 2


class Kind:
    """A type of numbers, as a pickle describes it: first what it is called, then its order of bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not _KIND.match(name):
            told = repr(name[:50]) if isinstance(name, str) else "of none"
            raise pickle.UnpicklingError(f"it has values of type {told}, and only numbers are read")
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it has values of several parts, and only numbers are read")
        self.dtype = self.dtype.newbyteorder(order)

    __setstate__ = set_state  # as torch's reader calls it


class _Array:
    """An array, empty until its state is set."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def set_state(self, state: Any) -> None:
        _, shape, kind, by_column, content = state
        self.values = _filled(content, kind, shape, "F" if by_column else "C")


def _filled(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    """The array of these bytes, not copied, since many can be of the same; a shape that they do not fill is refused."""
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    if not isinstance(kind, Kind) or not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError("it has an array of something that is no number")
    sides = len(shape) <= _SIDES and all(isinstance(side, int) and 0 <= side < 2**63 for side in shape)
    if not sides or order not in ("C", "F"):
        told = list(shape[:_SIDES]) if all(isinstance(side, int) for side in shape[:_SIDES]) else "no numbers"
        raise pickle.UnpicklingError(f"it has an array of shape {str(told)[:100]}")
    if math.prod(shape) * kind.dtype.itemsize != len(content):
        raise pickle.UnpicklingError(f"an array of shape {list(shape)} claims {math.prod(shape):,} values it has not")
    values: NDArray[Any] = np.frombuffer(content, kind.dtype).reshape(shape, order=order)
    return values


def _reconstruct(made: Any, shape: Any, _code: Any) -> _Array:
    if made is not _Array or shape != (0,):
        raise pickle.UnpicklingError("it makes an array in a way that NumPy does not")
    return _Array()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.values = _filled(content, kind, shape, order)
    return made


def scalar(kind: Any, content: Any) -> Any:
    """A number of NumPy's, as Python's."""
    return _filled(content, kind, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError("it encodes what is no text in latin1")
    return text.encode("latin1")


def _nothing() -> bytes:
    return b""


_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": Kind,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _nothing,  # of an array without values, before protocol 3
    "collections.OrderedDict": OrderedDict,
    **{f"{module}.multiarray._reconstruct": _reconstruct for module in _MODULES},
    **{f"{module}.multiarray.scalar": scalar for module in _MODULES},
    **{f"{module}.numeric._frombuffer": _frombuffer for module in _MODULES},
}


def put(mapping: Any, items: list[Any]) -> None:
    """Put keys and values, in turn, into what a pickle fills; a key of tuples in tuples could take for ever to hash.

    Raises:
        pickle.UnpicklingError: a key that is neither plain nor a tuple of plain values.
    """
    for key in items[::2]:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, _PLAIN_KEYS) for part in parts):
            raise pickle.UnpicklingError("it has keys that are no texts or numbers")
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[key] = value


def _set_item(reader: Any) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    put(reader.stack[-1], [key, value])


def _set_items(reader: Any) -> None:
    items = reader.pop_mark()
    put(reader.stack[-1], items)


# Of a reader's `dispatch`: what fills dicts.
FILLING: dict[int, Callable[..., None]] = {pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}


# Python's own reader in Python: in the one in C, a few bytes that number a memo can ask for all memory there is.
class _Reader(pickle._Unpickler):
    """Reads plain containers, numbers and arrays; refuses whatever else a pickle names."""

    stack: list[Any]
    read: Callable[[int], bytes]

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get(f"{module}.{name}")
        if found is None:
            raise InputError(
                f"it needs code to be read, which is refused: {module}.{name}",
                "load it where it was made and save its weights alone, as safetensors or with torch.save",
            )
        return found

    def _set_state(self) -> None:
        """Give the object before the last its state: only arrays and their types take one."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | Kind):
            raise pickle.UnpicklingError("it sets the state of something that is no array")
        self.stack[-1].set_state(state)

    def _read_bytearray(self) -> None:
        """Bytes that can be changed, as long as the file has them; Python's own would fill as many first."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(length)))

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _set_state,
        **FILLING,
        pickle.BYTEARRAY8[0]: _read_bytearray,
    }


def read_pickle(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a pickle of {"model": {name: array}}, or of {name: array}, in this machine's order of bytes.

    Raises:
        InputError: damaged, of another form, or one that names anything but what plain arrays need.
    """
    try:
        with path.open("rb") as file:
            tree = _Reader(file, encoding="latin1").load()
    except InputError as error:
        raise InputError(f"checkpoint {path} is refused: {error.message}", error.hint) from None
    except Exception as error:  # a hostile or damaged file can make the reader raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable pickle of arrays: {reason}") from None
    tree = tree.get("model", tree) if isinstance(tree, dict) else tree
    if not isinstance(tree, dict):
        raise InputError(f"checkpoint {path} holds no tensors", 'a pickle should hold {"model": {name: array}}')
    arrays = {str(name): value.values for name, value in tree.items() if isinstance(value, _Array)}
    claimed, there = sum(values.nbytes for values in arrays.values()), path.stat().st_size
    if claimed > there:
        raise InputError(f"checkpoint {path} is refused: {there:,} bytes claim to be {claimed:,} bytes of arrays")
    return {name: np.array(values, values.dtype.newbyteorder("="), order="C") for name, values in arrays.items()}
