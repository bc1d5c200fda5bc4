"""Checkpoints that are damaged or made to do harm: of torch, old and new, safetensors, and pickles of arrays."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile import GIGABYTE, Corpus, Good, Payload, payload
from hostile_images import flipped
from hostile_npz import bomb

CHECKPOINTS = Corpus()


def checkpoint(
    name: str,
    suffix: str,
    content: Callable[[Path], bytes | None],
    codes: tuple[int, ...] = (2,),
    says: str = "",
) -> None:
    """A case: stage one loads this checkpoint; or `content` writes the file itself, and returns None."""

    def make(folder: Path, good: Good) -> list[Any]:
        path = folder / f"theirs{suffix}"
        written = content(folder)
        if written is not None:
            path.write_bytes(written)
        return ["stage1", good.config, "--checkpoint", path, "--runs-dir", folder / "runs"]

    CHECKPOINTS.add(f"checkpoint {name} {suffix}", make, codes, says)


def saved(tree: Any, new: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def program(*opcodes: bytes) -> bytes:
    """A pickle of protocol 2 by its opcodes."""
    return b"\x80\x02" + b"".join(opcodes) + b"."


def in_zip(data: bytes, **more: bytes) -> bytes:
    """A torch file whose objects are this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for name, content in more.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", content)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def legacy(data: bytes) -> bytes:
    """A torch file of before 1.6 whose objects are this pickle."""
    start = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, 2) for part in start) + data + pickle.dumps([], 2)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def called(name: str, *arguments: bytes) -> bytes:
    """What a function of a module is called with."""
    module, _, function = name.rpartition(".")
    return b"c" + f"{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def keyed(value: bytes, name: str = "fc.weight") -> bytes:
    """An object with one key."""
    return b"}" + text(name) + value + b"s"


def doubled(start: bytes, twice: bytes, times: int = 60) -> bytes:
    """What holds itself twice, and that twice, and so on: few bytes, 2^60 parts."""
    steps = [start]
    for step in range(times):
        steps.append(b"q" + bytes([step]) + b"h" + bytes([step]) + twice)
    return b"".join(steps)


_TUPLES = doubled(b")", b"\x86")
_STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(2**40) + b"tQ"


def _tensor(shape: int, stride: int, storage: bytes = _STORAGE) -> bytes:
    sizes = number(shape) + b"\x85" + number(stride) + b"\x85"
    return called(
        "torch._utils._rebuild_tensor_v2", storage, b"K\x00", sizes, b"\x89", called("collections.OrderedDict")
    )


_PROGRAMS: dict[str, bytes] = {
    "that asks for 16 GB": program(keyed(called("builtins.bytearray", number(16 * GIGABYTE)))),
    "that asks for a tensor of 2^40 numbers": program(keyed(called("torch.FloatTensor", number(2**40)))),
    "of a tensor that holds nothing": program(
        keyed(
            called(
                "torch._utils._rebuild_meta_tensor_no_storage",
                b"ctorch\nfloat32\n",
                number(2**40) + b"\x85",
                b"K\x01\x85",
                b"\x89",
            )
        )
    ),
    "of dicts in dicts, 2^60 of them": program(
        b"".join(
            [b"}q\x00"]
            + [
                b"}" + text("a") + b"h" + bytes([n]) + b"s" + text("b") + b"h" + bytes([n]) + b"sq" + bytes([n + 1])
                for n in range(60)
            ]
        )
    ),
    "with a key of 2^60 parts": program(b"}", _TUPLES, b"K\x01s"),
    "of a tuple of 2^60 parts": program(keyed(_TUPLES)),
    "of a dict within itself": program(b"}q\x00", text("a"), b"h\x00s"),
    "of ten thousand dicts": program(b"".join(b"}" + text("a") for _ in range(10_000)), b"}", b"s" * 10_000),
    "of nothing": program(b"N"),
    "of a number": program(b"K\x07"),
    "of texts": program(keyed(text("\x1b[31m"))),
    "of a name with escape sequences": program(keyed(b"K\x01", "\x1b[2J")),
    "without an end": b"\x80\x02" + b"}" * 1000,
    "that takes from an empty stack": program(b"000"),
    "of a memo that is not there": program(b"h\x63"),
    "of an unknown opcode": program(b"\xff"),
    "of a text longer than the file": program(b"X\xff\xff\xff\xff"),
    "that needs numpy's objects": program(
        keyed(called("numpy.core.multiarray.scalar", called("numpy.dtype", text("O8"), b"K\x00", b"K\x01"), text("x")))
    ),
    "that needs a type of 2 GB": program(
        keyed(
            called(
                "numpy.core.multiarray.scalar",
                called("numpy.dtype", text("V2147483647"), b"K\x00", b"K\x01"),
                b"U\x01x",
            )
        )
    ),
    "that sets an attribute": program(called("argparse.Namespace"), b"}", text("__class__"), b"K\x01sb"),
}
for _name, _program in _PROGRAMS.items():
    checkpoint(_name, ".pth", lambda _, data=_program: in_zip(data))
    checkpoint(f"of old {_name}", ".pt", lambda _, data=_program: legacy(data))
    checkpoint(_name, ".pkl", lambda _, data=_program: data)
for _call in (
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.getattr",
    "subprocess.Popen",
    "torch.load",
    "runpy.run_path",
    "numpy.load",
    "torch.hub.load",
    "pickle.loads",
):
    _evil = program(keyed(called(_call, text("touch canary"))))
    checkpoint(f"that calls {_call}", ".pth", lambda _, data=_evil: in_zip(data), says="refused")
    checkpoint(f"of old that calls {_call}", ".pt", lambda _, data=_evil: legacy(data))
    checkpoint(f"that calls {_call}", ".pkl", lambda _, data=_evil: data, says="refused")
for _protocol in range(6):
    checkpoint(
        f"that runs code by protocol {_protocol}",
        ".pkl",
        lambda folder, protocol=_protocol: payload(folder, protocol),
        says="refused",
    )
checkpoint(
    "that runs code", ".pth", lambda folder: saved({"state_dict": Payload(folder)}), says="needs code to be read"
)
checkpoint("of old that runs code", ".pth", lambda folder: saved({"state_dict": Payload(folder)}, new=False))
checkpoint("that is a bare pickle that runs code", ".pth", payload)
checkpoint("that is a pickle and no safetensors", ".safetensors", payload)
checkpoint(
    "of a tensor of few bytes and many strides",
    ".pth",
    lambda _: in_zip(program(keyed(_tensor(2**40, 0, _STORAGE.replace(number(2**40), number(1))))), _0=bytes(4)),
)
checkpoint(
    "of a storage that is larger than the file",
    ".pth",
    lambda _: in_zip(program(keyed(_tensor(2**40, 1))), _0=bytes(4)),
)
checkpoint(
    "of old of a storage that is larger than the file", ".pt", lambda _: legacy(program(keyed(_tensor(2**40, 1))))
)
checkpoint(
    "of a sparse tensor",
    ".pth",
    lambda _: saved({"fc.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (2**30, 2**30))}),
)
checkpoint("of a meta tensor", ".pth", lambda _: saved({"fc.weight": torch.empty(2**40, device="meta")}))
checkpoint("of a tensor of nothing", ".pth", lambda _: saved({"fc.weight": torch.empty(0)}))
checkpoint("of a module", ".pth", lambda _: saved(torch.nn.Linear(2, 2)), says="needs code to be read")
_WHOLE = saved({"state_dict": {"conv1.weight": torch.zeros(16, 3, 3, 3)}})
for _part in (4, 2):
    checkpoint(f"cut after 1/{_part}", ".pth", lambda _, part=_part: _WHOLE[: len(_WHOLE) // part])
for _seed in range(4):
    checkpoint(f"flipped {_seed}", ".pth", lambda _, seed=_seed: flipped(_WHOLE, seed))
_OLD = saved({"state_dict": {"conv1.weight": torch.zeros(16, 3, 3, 3)}}, new=False)
for _seed in range(4):
    checkpoint(f"of old flipped {_seed}", ".pt", lambda _, seed=_seed: flipped(_OLD, seed))
checkpoint("of old cut in half", ".pt", lambda _: _OLD[: len(_OLD) // 2])
for _suffix in (".pth", ".pt", ".pkl", ".safetensors"):
    checkpoint("empty", _suffix, lambda _: b"")
    checkpoint("of noise", _suffix, lambda _: np.random.default_rng(0).bytes(9999))
    checkpoint("that is an image", _suffix, lambda _: b"\x89PNG\r\n\x1a\n" + bytes(99))
    checkpoint("that is an empty zip", _suffix, lambda _: b"PK\5\6" + bytes(18))
    checkpoint(
        "that ends like a zip", _suffix, lambda _: bytes(999) + b"PK\5\6" + b"\0" * 8 + b"\xff\xff\0\0\xff\xff\0\0\0\0"
    )
checkpoint(
    "deflated to 6 GB",
    ".pth",
    lambda folder: bomb(folder / "theirs.pth", "archive/data/0", b""),
    says="torch never compresses",
)
checkpoint("of two that are one", ".pth", lambda _: in_zip(program(b"}")) + in_zip(program(b"N")))
checkpoint("in tar", ".pth", lambda _: b"storages\0" + bytes(248) + b"ustar\x0000" + bytes(2000))


# Pickles of arrays


def _array(shape: bytes, content: bytes) -> bytes:
    """A NumPy array of protocol 2, as NumPy writes it."""
    kind = called("numpy.dtype", text("f4"), b"K\x00", b"K\x01")
    made = called("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    return made + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


for _name, _shape in {
    "of a terabyte": number(2**38) + b"\x85",
    "of a shape of 2^60 parts": _TUPLES,
    "of fifty thousand sides": b"(" + number(2**62) * 50_000 + b"t",
    "of a negative side": number(-1) + b"\x85",
    "of a side that is a text": text("x") + b"\x85",
}.items():
    checkpoint(f"of an array {_name}", ".pkl", lambda _, shape=_shape: program(keyed(_array(shape, b"C\x04aaaa"))))
checkpoint("of a type of 2^60 parts", ".pkl", lambda _: program(keyed(called("numpy.dtype", _TUPLES))))
checkpoint("of a memo of 4 billion", ".pkl", lambda _: program(b"Nr\xff\xff\xff\xff"))
checkpoint("of bytes longer than the file", ".pkl", lambda _: program(b"\x8e" + struct.pack("<Q", 2**60)))
checkpoint("of an extension", ".pkl", lambda _: program(b"\x82\x01"))
checkpoint("of a persistent name", ".pkl", lambda _: program(b"Pfile:///etc/passwd\n"))


# Safetensors


def tensors(head: bytes, length: int | None = None, content: bytes = b"") -> bytes:
    return struct.pack("<Q", len(head) if length is None else length) + head + content


def _described(**changed: Any) -> bytes:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changed
    return tensors(json.dumps({"fc.weight": entry}).encode(), content=bytes(4))


for _name, _data in {
    "whose head is 2^63 bytes": tensors(b"{}", 2**63),
    "whose head is 99 MB": tensors(b"{}", 99_000_000),
    "whose head is nothing": tensors(b""),
    "whose head is no JSON": tensors(b"hello"),
    "whose head is deep": tensors(b"[" * 100_000),
    "whose head is a list": tensors(b"[]"),
    "of no tensor": tensors(b"{}"),
    "of a shape of 2^64": _described(shape=[2**32, 2**32]),
    "of a shape of long numbers": _described(shape=[10**30]),
    "of a negative shape": _described(shape=[-1]),
    "of offsets beyond the end": _described(data_offsets=[0, 2**40]),
    "of offsets that turn back": _described(data_offsets=[4, 0]),
    "of an unknown type": _described(dtype="F99"),
    "of a type that is not for torch": _described(dtype="F4", shape=[8]),
    "of texts that are metadata": tensors(
        json.dumps(
            {
                "__metadata__": {"gol_decouple.detector": "[" * 5000},
                "a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
            }
        ).encode()
    ),
    "of metadata that is no text": tensors(json.dumps({"__metadata__": {"a": [1]}}).encode()),
    "of a name with escape sequences": tensors(
        json.dumps({"\x1b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(), content=bytes(4)
    ),
}.items():
    checkpoint(_name, ".safetensors", lambda _, data=_data: data)
