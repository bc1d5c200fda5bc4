"""The objects in a torch file before torch reads them: nothing is called, and only dicts, lists and texts are made.

torch reads without running code, but a file of a hundred bytes can still ask it for all memory there is, for a key
whose hash takes for ever, or for dicts in dicts that nobody can walk through.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

from gol_decouple.backbones.plain_pickle import FILLING, put
from gol_decouple.errors import InputError
from gol_decouple.limits import OBJECTS

_LEGACY = 5  # pickles in a file of before torch 1.6: what it is, versions, the machine, the objects, names of storages
_MAKES_ROOM = "builtins.bytearray"  # as much as a number says
_NOT_OF_TORCH = (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8),
)
_HASHES = ("collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.frozenset")


class _Name:
    """What a pickle names: `torch._utils._rebuild_tensor_v2`."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Made:
    """What something was called with, and what was put into it then."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts += (key, value)


# Python's own reader in Python: see `plain_pickle`.
class _Outline(pickle._Unpickler):
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        return _Name(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return _Made([pid])

    def _call(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        name = called.name if isinstance(called, _Name) else ""
        if name in (_MAKES_ROOM, "__builtin__.bytearray") and arguments:
            raise pickle.UnpicklingError("it asks for room for bytes that it does not hold")
        if name in _HASHES and arguments:
            pairs = arguments[0] if isinstance(arguments[0], list | tuple) else []
            keys = [pair[0] if isinstance(pair, list) and pair else pair for pair in pairs]
            put({}, [part for key in keys for part in (key, None)])
        self.append(_Made([arguments]))

    def _set_state(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Made):
            raise pickle.UnpicklingError("it sets the state of something that nothing made")
        made.parts.append(state)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it is made in a way that torch does not make files in")

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((pickle.REDUCE[0], pickle.NEWOBJ[0]), _call),
        pickle.BUILD[0]: _set_state,
        **FILLING,
        **dict.fromkeys((code[0] for code in _NOT_OF_TORCH), _refuse),
    }


def look_through(path: Path) -> None:
    """Refuse a torch file that would take more of the machine than it holds; its checksums are for others to look at.

    Raises:
        InputError: it cannot be read, is nested without an end, or of more parts than `limits.OBJECTS`.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                pickled = f"{names[0].partition('/')[0]}/data.pkl" if names else ""
                trees = [_load(io.BytesIO(_content(archive, pickled)))] if pickled in names else []
        else:
            with path.open("rb") as file:
                trees = [_load(file) for _ in range(_LEGACY if _is_legacy(file) else 1)]
        parts = sum(map(_count, trees))
    except InputError:
        raise
    except Exception as error:  # a hostile or damaged file can make the readers raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint, or truncated: {reason}") from None
    OBJECTS.check(parts, f"checkpoint {path} is refused: it has {parts:,} parts")


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry whose checksum was looked at, unless the archive was written without any."""
    with archive.open(name) as file:
        file._expected_crc = None  # type: ignore[attr-defined]
        return file.read()


def _load(file: IO[bytes]) -> Any:
    return _Outline(file, encoding="latin1").load()


def _is_legacy(file: IO[bytes]) -> bool:
    start = file.tell()
    first = _load(file)
    file.seek(start)
    return isinstance(first, int)


def _count(tree: Any) -> int:
    """The parts of a tree, those that stand in several places as often as they do."""
    found: dict[int, int] = {}  # by identity; 0: of what is being counted, which it must not hold
    stack: list[tuple[Any, bool]] = [(tree, False)]
    while stack:
        part, is_done = stack.pop()
        inner = _inner(part)
        if is_done:
            found[id(part)] = 1 + sum(found[id(one)] if _inner(one) else 1 for one in inner)
        elif inner and id(part) not in found:
            found[id(part)] = 0
            stack += [(part, True), *((one, False) for one in inner)]
        elif inner and not found[id(part)]:  # whatever comes before it is done lies in it
            raise InputError("its dicts are nested without an end")
    return found.get(id(tree), 1)


def _inner(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return [*part, *part.values()]
    if isinstance(part, list | tuple):
        return list(part)
    return part.parts if isinstance(part, _Made) else []
