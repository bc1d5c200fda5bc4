""".npz files that are damaged or made to do harm: images, and predictions in a run folder."""

from __future__ import annotations

import io
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import GIGABYTE, Corpus, Good, payload
from hostile_images import HARMLESS, flipped

NPZ = Corpus()
Members = dict[str, bytes]


def npy(array: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def header(text: str, content: bytes = b"") -> bytes:
    """An .npy file whose header is this text."""
    padded = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(padded)) + padded + content


def of_shape(shape: str, dtype: str = "|u1", content: bytes = b"") -> bytes:
    return header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", content)


def images() -> Members:
    pixels, labels = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 0, 1, 1])
    return {
        f"{split}_{what}.npy": npy(array)
        for split in ("train", "test")
        for what, array in (("images", pixels), ("labels", labels))
    }


def zipped(members: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def bomb(path: Path, name: str, start: bytes, size: int = 6 * GIGABYTE) -> None:
    """A zip archive of one member: `start`, and zeros deflated to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)  # what follows does not depend on it
    content = first + zeros * (size // 2**24) + packer.flush()
    sizes = struct.pack("<HHQQ", 1, 16, len(start) + size // 2**24 * 2**24, len(content))
    plain = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, 0, 2**32 - 1, 2**32 - 1, len(name), len(sizes))
    local = b"PK\3\4" + plain + name.encode() + sizes + content
    entry = b"PK\1\2" + struct.pack("<H", 45) + plain + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode() + sizes
    path.write_bytes(local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0))


def lying(data: bytes, name: str, size: int) -> bytes:
    """An archive whose directory says another size of a member."""
    changed = bytearray(data)
    place = data.rindex(name.encode()) - 46
    assert changed[place : place + 4] == b"PK\1\2"
    changed[place + 24 : place + 28] = struct.pack("<I", size)
    return bytes(changed)


def data(name: str, write: Callable[[Path, Path], object], codes: tuple[int, ...] = (2,), says: str = "") -> None:
    """A case: `data.kind = "npz"` of this file."""

    def make(folder: Path, good: Good) -> list[Any]:
        write(folder / "theirs.npz", folder)
        return ["check", good.config, "--data-root", folder / "theirs.npz"]

    NPZ.add(f"npz {name}", make, codes, says)


def members(
    name: str, codes: tuple[int, ...] = (2,), says: str = "", **changed: Callable[[Path], bytes] | bytes
) -> None:
    def write(path: Path, folder: Path) -> None:
        new = {f"{key}.npy": value(folder) if callable(value) else value for key, value in changed.items()}
        path.write_bytes(zipped(images() | new))

    data(name, write, codes, says)


_WHOLE = zipped(images())
data("empty", lambda path, _: path.write_bytes(b""))
data("of noise", lambda path, _: path.write_bytes(np.random.default_rng(0).bytes(9999)))
data("that is an .npy file", lambda path, _: path.write_bytes(npy(np.zeros(9))))
data("that is a pickle", lambda path, folder: path.write_bytes(payload(folder)))
data("that is an .npy file of a pickle", lambda path, folder: path.write_bytes(of_shape("()", "|O", payload(folder))))
data("of nothing", lambda path, _: path.write_bytes(zipped({})))
data("with text behind it", lambda path, _: path.write_bytes(_WHOLE + b"x" * 999), HARMLESS)
for _part in (4, 2):
    data(f"cut after 1/{_part}", lambda path, _, part=_part: path.write_bytes(_WHOLE[: len(_WHOLE) // part]))
for _seed in range(5):
    data(f"flipped {_seed}", lambda path, _, seed=_seed: path.write_bytes(flipped(_WHOLE, seed)), HARMLESS)
data(
    "deflated to 6 GB",
    lambda path, _: bomb(path, "train_images.npy", of_shape(f"({6 * GIGABYTE},)")),
    says="GOL_DECOUPLE_MAX_UNPACKED_BYTES=",
)
data(
    "of names deflated to 6 GB",
    lambda path, _: bomb(path, "class_names.npy", of_shape(f"({6 * 2**20},)", "|S1024")),
    says="GOL_DECOUPLE_MAX_UNPACKED_BYTES=",
)
data("that says a member is small", lambda path, _: path.write_bytes(lying(_WHOLE, "train_images.npy", 9)))
data(
    "that says a member is large",
    lambda path, _: path.write_bytes(lying(_WHOLE, "train_images.npy", 2**32 - 2)),
    HARMLESS,
)
data(
    "packed by a method that is not known",
    lambda path, _: path.write_bytes(
        re.sub(rb"(?s)(PK\x03\x04....|PK\x01\x02......)..", lambda found: found[1] + b"\x63\0", _WHOLE)
    ),
)
data("in lzma", lambda path, _: path.write_bytes(zipped(images(), zipfile.ZIP_LZMA)), (0,))
members("of objects", train_labels=lambda folder: of_shape("(4,)", "|O", payload(folder, 4)))
members("of names that are objects", class_names=lambda folder: of_shape("()", "|O", payload(folder)))
members(
    "of structures with objects",
    train_labels=lambda folder: header(
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", payload(folder)
    ),
)
members("that claims a terabyte", says="does not hold", train_images=of_shape(f"({2**40},)"))
members("that claims 3 GB", says="does not hold", train_images=of_shape(f"({3 * GIGABYTE},)"))
members("that claims 2^200 bytes", train_images=of_shape(f"({2**100}, {2**100})"))
members("of a negative shape", train_images=of_shape("(-1, -1)"))
members("of a shape of floats", train_images=of_shape("(1.5, nan)"))
members("of a hundred dimensions", train_images=of_shape(str((1,) * 100), content=b"\0"))
members("of values of no bytes", train_labels=of_shape(f"({2**60},)", "|V0"))
members("of names of no letters", class_names=of_shape(f"({2**40},)", "<U0"))
members("of a type of 2 GB", train_labels=of_shape("(0,)", "|V2147483647"))
members("of a type that is code", train_labels=of_shape("(1,)", "__import__('os').system('touch canary')"))
members("of a header that is code", train_labels=header("__import__('os').system('touch canary')"))
members("of a header that is deep", train_labels=header("(" * 9000))
members("of a header of 60 kB", train_labels=header("{" + " " * 60_000 + "}"))
members("of a header longer than the file", train_labels=b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1))
members("of a version that is none", train_labels=b"\x93NUMPY\x09\x09" + bytes(99))
members("of no array", train_labels=b"hello")
members("of an empty member", train_labels=b"")
members("with a label of 2^40", says="GOL_DECOUPLE_MAX_CLASSES=", train_labels=npy(np.array([0, 0, 1, 2**40])))
members("with labels that are dates", train_labels=npy(np.array(["2020-01-01"] * 4, "M8[D]")))
members("with labels that are texts", train_labels=npy(np.array(["\x1b[31m"] * 4)))
members("with labels of 128 bits", train_labels=npy(np.array([0, 0, 1, 1], np.longdouble)))
members("with names of escape sequences", (0,), class_names=npy(np.array(["\x1b[2J", "\x9b31m"])))
members("with names that are numbers", HARMLESS, class_names=npy(np.array([[1.5, 2.5]])))
members("with names not in UTF-8", HARMLESS, class_names=npy(np.array([b"\xff", b"\xfe"])))
members("with a name that is alone", HARMLESS, class_names=npy(np.array("x")))
data(
    "with names above",
    lambda path, _: path.write_bytes(
        zipped(images() | {"../../x.npy": npy(np.zeros(1)), "/etc/x.npy": npy(np.zeros(1))})
    ),
    (0,),
)


def predictions(
    name: str, write: Callable[[Path, Path], object], codes: tuple[int, ...] = (2,), says: str = ""
) -> None:
    """A case: the report on a run whose predictions are this file."""

    def make(folder: Path, good: Good) -> list[Any]:
        run = folder / "runs" / "theirs"
        shutil.copytree(good.run / "stage2", run / "stage2")
        for file in ("config.toml", "manifest.json", "per_class.csv", "predictions.npz"):
            shutil.copy(good.run / file, run)
        write(run / "predictions.npz", folder)
        return ["report", run]

    NPZ.add(f"predictions {name}", make, codes, says)


predictions("empty", lambda path, _: path.write_bytes(b""))
predictions("that are a pickle", lambda path, folder: path.write_bytes(payload(folder)))
predictions(
    "of objects",
    lambda path, folder: path.write_bytes(
        zipped({f"{key}.npy": of_shape("(1,)", "|O", payload(folder)) for key in ("id", "label", "classes")})
    ),
)
predictions(
    "deflated to 6 GB",
    lambda path, _: bomb(path, "id.npy", of_shape(f"({6 * GIGABYTE},)")),
    says="GOL_DECOUPLE_MAX_UNPACKED_BYTES=",
)
predictions(
    "that claim a terabyte",
    lambda path, _: path.write_bytes(zipped({"id.npy": of_shape(f"({2**40},)")})),
    says="does not hold",
)
predictions(
    "of values of no bytes", lambda path, _: path.write_bytes(zipped({"id.npy": of_shape(f"({2**60},)", "|V0")}))
)
predictions("flipped", lambda path, _: path.write_bytes(flipped(path.read_bytes(), 0)), HARMLESS)
predictions("cut off", lambda path, _: path.write_bytes(path.read_bytes()[:300]))
