"""Files of tensors made elsewhere, read without running them: safetensors, torch's in layouts of any depth, and
detectron2's pickles of arrays.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gol_decouple import sealed_tensors
from gol_decouple.backbones.pickle_outline import look_through
from gol_decouple.backbones.plain_pickle import Kind, read_pickle, scalar
from gol_decouple.errors import InputError
from gol_decouple.zip_files import damaged_entry, entries_of

Keys = tuple[str | int, ...]  # that lead to a tensor in the file; a key may contain dots

# Where training scripts keep the weights; of several, the first one counts, and the two of a split model together.
CONTAINERS = (("state_dict_best",), ("state_dict_model", "state_dict_classifier"), ("state_dict",), ("model",))

# Plain data that old training scripts store beside their weights; rebuilding it runs no code of the file's.
_SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    (Kind, "numpy.dtype"),
    *((scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
]
_NOT_ALLOWED = re.compile(r"Unsupported global: GLOBAL (\S+) was not|Trying to load unsupported GLOBAL (\S+) whose")


class Contents(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        tensors: the weights by the keys that lead to them, on the CPU.
        notes: plain data beside them: the metadata of a safetensors file, `meta` of a torch file.
    """

    tensors: dict[Keys, torch.Tensor]
    notes: Mapping[str, Any]


def is_safetensors(path: Path) -> bool:
    """Whether a file is read as safetensors."""
    return path.suffix == ".safetensors"


def format_of(path: Path) -> str:
    """What a file is read as: safetensors, pickle, or torch."""
    if is_safetensors(path):
        return "safetensors"
    return "pickle" if path.suffix == ".pkl" and not zipfile.is_zipfile(path) else "torch"


def dotted(keys: Keys) -> str:
    """A tensor's name, as messages show it."""
    return ".".join(str(key) for key in keys)


def read_tensors(path: Path) -> dict[Keys, torch.Tensor]:
    """The weights of `read_contents`."""
    return read_contents(path).tensors


def read_contents(path: Path) -> Contents:
    """The weights in a checkpoint and what it says of them; nothing in the file is executed.

    Raises:
        InputError: no such file, damaged, no checkpoint, or one that needs code to be read.
    """
    if not path.is_file():
        raise InputError(
            f"checkpoint {path} does not exist", "--checkpoint names a .pth, .pt, .pkl or .safetensors file"
        )
    if is_safetensors(path):
        try:
            there = sealed_tensors.load(path)
        except ValueError as error:
            told = f"checkpoint {path} is not a readable safetensors file: {error}"
            raise InputError(told, "copy it again from where it was made, or make it again") from None
        return Contents({(name,): tensor for name, tensor in there.tensors.items()}, there.metadata)
    if format_of(path) == "pickle":
        return Contents(_select(_of_arrays(path), path), {})
    _refuse_packed(path)
    _refuse_damage(path)
    look_through(path)
    tree = _read_torch(path)
    notes = tree.get("meta") if isinstance(tree, Mapping) else None
    try:
        tensors = dict(_flatten(tree))
    except RecursionError:
        raise InputError(f"checkpoint {path} is refused: its dicts are nested without an end") from None
    return Contents(_select(tensors, path), notes if isinstance(notes, Mapping) else {})


def _refuse_packed(path: Path) -> None:
    """torch stores tensors as they are; a file whose entries are compressed unpacks to far more than its size."""
    entries = entries_of(path) or []
    for entry in sorted(entries, key=lambda entry: -entry.file_size):
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > path.stat().st_size:
            raise InputError(
                f"checkpoint {path} is refused: {entry.filename} unpacks from {entry.compress_size:,} to "
                f"{entry.file_size:,} bytes, and torch never compresses",
                "save it again with torch.save",
            )
    if len({entry.filename for entry in entries}) < len(entries):
        raise InputError(f"checkpoint {path} is refused: it has two entries of one name", "save it with torch.save")


def _refuse_damage(path: Path) -> None:
    """torch takes flipped bits of a tensor for its values."""
    if zipfile.is_zipfile(path) and (damaged := damaged_entry(path)) is not None:
        raise InputError(
            f"checkpoint {path} is damaged: {damaged} is not what its checksum says",
            "copy or download it again, and compare its size and its sha256 with the original's",
        )


def _of_arrays(path: Path) -> dict[Keys, torch.Tensor]:
    return {("model", name): torch.from_numpy(array) for name, array in read_pickle(path).items()}


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a hostile or damaged file can make the reader raise anything
        if needs := _unsafe_globals(path, str(error)):
            raise InputError(
                f"checkpoint {path} needs code to be read, which is refused: {', '.join(needs)}",
                "load it where it was made and save its state_dict() alone (mmdetection's: publish_model.py does)",
            ) from None
        raise InputError(f"{path} is not a readable checkpoint, or truncated: {_reason(error)}") from None


def _unsafe_globals(path: Path, told: str) -> list[str]:
    """What a file names that is not read: all that torch finds, or what it stopped at."""
    stopped = [found[1] or found[2] for found in _NOT_ALLOWED.finditer(told)]
    if not stopped:
        return []
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)) or stopped
    except Exception:  # of files before torch 1.6, or damaged ones
        return stopped


def _reason(error: Exception) -> str:
    """The first line of what torch says that is about the file: before it stands how to read it with its code."""
    lines = [line for line in str(error).splitlines() if line.strip() and "eights only load failed" not in line]
    return lines[0].strip() if lines else type(error).__name__


def _flatten(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield keys, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flatten(value, (*keys, key))


def _select(tensors: dict[Keys, torch.Tensor], path: Path) -> dict[Keys, torch.Tensor]:
    """The weights among everything a training script stored, each really as large as it says."""
    for containers in CONTAINERS:
        chosen = {keys: value for keys, value in tensors.items() if keys and keys[0] in containers}
        if chosen:
            tensors = chosen
            break
    if not tensors:
        raise InputError(f"checkpoint {path} holds no tensors", "it should hold a model's state_dict()")
    for keys, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
            what = f"{dotted(keys)} is no plain tensor: {tensor.layout}, {tensor.device.type}, {tensor.dtype}"
            raise InputError(f"checkpoint {path} is refused: {what}", "save it with dense tensors of numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            claimed = f"{dotted(keys)} claims {tensor.numel():,} values it does not hold"
            raise InputError(f"checkpoint {path} is refused: {claimed}")
    return tensors
