"""Safetensors with a checksum: the format notices a file that is cut off, but not a bit that has changed in a tensor.

The seal is one more entry of the file's metadata, so that whatever reads safetensors reads these files too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes

from gol_decouple.files import atomic_path

SEAL = "gol_decouple.seal"
_LENGTH_BYTES = 8  # of the header's length, with which a file begins
_COMPACT = (",", ":")


class Loaded(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: by name, on the CPU.
        metadata: without the seal.
        is_sealed: whether there was one, and all is as it was written; files of other programs have none.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]
    is_sealed: bool


def save(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors of any device to `path`, atomically and sealed.

    Raises:
        EnvironmentFailure: the disk is full or the folder cannot be written; `path` is then as it was.
    """
    with atomic_path(path) as temporary:
        write(tensors, temporary, metadata)


def write(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a temporary file, sealed. Equal tensors and metadata make equal files."""
    there = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    told = dict(metadata or {})
    # Not the library's own way to a file, which leaves a temporary one of its own when the process is killed.
    data = memoryview(save_bytes(there, told | {SEAL: _seal(there, told)}))
    begin = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    with path.open("wb") as file:
        file.write(data[:_LENGTH_BYTES])
        file.write(_sorted(bytes(data[_LENGTH_BYTES:begin])))
        file.write(data[begin:])


def load(path: Path) -> Loaded:
    """The tensors in a file and what it says of them, none of it damaged if it is sealed.

    Raises:
        ValueError: it is not there, no safetensors file, cut off, or not as it was written; tells which of these.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: _copied(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # no mapping
            metadata = dict(file.metadata() or {})
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file, or cut off ({error})") from None
    seal = metadata.pop(SEAL, None)
    if seal is not None and seal != _seal(tensors, metadata):
        raise ValueError("it is damaged: its checksum is not that of its content")
    return Loaded(tensors, metadata, seal is not None)


def _seal(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """A CRC-32 over metadata, and every tensor's name, dtype, shape and bytes."""
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode(), crc)
        crc = zlib.crc32(_bytes(tensor).numpy().data, crc)
    return f"crc32:{crc:08x}"


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """The same bytes in memory: the library's are views of the file, and could be others after they were checked."""
    return _bytes(tensor).clone().view(tensor.dtype).reshape(tensor.shape)  # as bytes: a bool's copy would be 0 or 1


def _sorted(text: bytes) -> bytes:
    """A header with its metadata in one order: the library writes another one each time."""
    header = json.loads(text)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=_COMPACT, ensure_ascii=False).encode()
    assert len(ordered) <= len(text), "the same entries take as much room in any order"
    return ordered.ljust(len(text))
