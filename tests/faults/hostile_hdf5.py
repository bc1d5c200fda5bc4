"""HDF5 files of features that are damaged or made to do harm."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hostile import Corpus, Good
from hostile_images import HARMLESS, flipped

HDF5 = Corpus()
_N, _D = 40, 6


def features(name: str, change: Callable[[h5py.File], object], codes: tuple[int, ...] = (2,), says: str = "") -> None:
    """A case: stage two on a small features file, right but for this."""

    def make(folder: Path, good: Good) -> list[Any]:
        stream = np.random.default_rng(0)
        with h5py.File(folder / "theirs.h5", "w") as file:
            file.attrs.update({"format": "gol-decouple features", "version": 1})
            for split in ("train", "test"):
                file[f"{split}/features"] = stream.normal(size=(1, _N, _D)).astype(np.float32)
                file[f"{split}/labels"] = np.repeat(np.arange(4), 10)
                file[f"{split}/ids"] = np.arange(_N)
            file["classes/names"] = [b"one", b"two", b"three", b"four"]
            change(file)
        return _stage2(folder)

    HDF5.add(f"features {name}", make, codes, says)


def _stage2(folder: Path) -> list[Any]:
    settings = ["--set", "stage2.epochs=1"]
    return [
        "stage2",
        folder / "theirs.h5",
        "--runs-dir",
        folder / "runs",
        "--activation",
        "gumbel",
        "--device",
        "cpu",
        *settings,
    ]


def _replaced(name: str, **how: Any) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **how)

    return change


def _packed(name: str, shape: tuple[int, ...], dtype: str) -> Callable[[h5py.File], object]:
    """Chunks of zeros, each deflated once and stored whole."""

    def change(file: h5py.File) -> None:
        del file[name]
        chunk = (min(shape[0], 2**27 // np.dtype(dtype).itemsize),)
        dataset = file.create_dataset(name, shape, dtype, chunks=chunk, compression="gzip")
        packed = zlib.compress(bytes(chunk[0] * dataset.dtype.itemsize), 9)
        for start in range(0, shape[0], chunk[0]):
            dataset.id.write_direct_chunk((start,), packed)

    return change


def _linked(name: str, link: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def _attribute(name: str, value: Any, group: str = "/") -> Callable[[h5py.File], object]:
    return lambda file: file[group].attrs.__setitem__(name, value)


features("as they should be", lambda file: None, (0,))
for _name in ("train/features", "train/labels", "train", "classes/names"):
    features(
        f"with {_name} in another file", _linked(_name, h5py.ExternalLink("/etc/passwd", "x")), says="behind a link"
    )
    features(f"with {_name} behind a soft link", _linked(_name, h5py.SoftLink("/")), says="behind a link")
    features(
        f"with {_name} behind a soft link to itself", _linked(_name, h5py.SoftLink(f"/{_name}")), says="behind a link"
    )
features(
    "with labels in /etc/passwd",
    _replaced("train/labels", shape=(_N,), dtype="u1", external=[("/etc/passwd", 0, 999)]),
    says="in other files",
)
features(
    "with features of 2^60 rows", _replaced("train/features", shape=(1, 2**60, _D), dtype="f4", chunks=(1, 64, _D))
)
features("with labels of 2^60 rows", _replaced("train/labels", shape=(2**60,), dtype="i8", chunks=(64,)))
features(
    "with labels of 4 GB in a few MB", _packed("train/labels", (2**29,), "i8"), says="GOL_DECOUPLE_MAX_UNPACKED_BYTES="
)
features(
    "with names of 4 GB in a few MB",
    _packed("classes/names", (2**22,), "S1024"),
    says="GOL_DECOUPLE_MAX_UNPACKED_BYTES=",
)
features("with features of no rows", _replaced("train/features", shape=(1, 0, _D), dtype="f4"))
features(
    "with features without a shape",
    lambda file: (file.pop("train/features"), file["train"].__setitem__("features", h5py.Empty("f4"))),
)
features("with features that are texts", _replaced("train/features", data=np.array([[[b"x"]]])))
features("with features that are complex", _replaced("train/features", data=np.ones((1, _N, _D), np.complex64)))
features("with features that are structures", _replaced("train/features", data=np.zeros((1, _N, _D), [("a", "f4")])))
features("with features of arrays", _replaced("train/features", shape=(1, _N, _D), dtype=np.dtype(("f4", (3,)))))
features("with labels that are references", _replaced("train/labels", shape=(_N,), dtype=h5py.ref_dtype))
features("with labels of lists", _replaced("train/labels", shape=(_N,), dtype=h5py.vlen_dtype("i4")))
features("with labels that are groups", lambda file: (file.pop("train/labels"), file.create_group("train/labels")))
features(
    "with a label of 2^62",
    lambda file: (file.pop("classes"), file["train/labels"].__setitem__(0, 2**62)),
    says="GOL_DECOUPLE_MAX_CLASSES=",
)
features("with a split that is itself", lambda file: file.__setitem__("train/train", file["train"]), (0,))
features("with a split that is the file", lambda file: (file.pop("test"), file.__setitem__("test", file["/"])))
features(
    "with names of escape sequences",
    _replaced("classes/names", data=[b"\x1b[2J", b"\x1b[31m", b"\x07", b"[red]"]),
    HARMLESS,
)
features("with names not in UTF-8", _replaced("classes/names", data=[b"\xff", b"\xfe", b"\xfd", b"x"]))
features("with a format of 60 kB", _attribute("format", "x" * 60_000))
features("with a format that is a list", _attribute("format", [b"a", b"b"]))
features("with a format that is a reference", lambda file: file.attrs.__setitem__("format", file.ref))
features("with a version of a huge number", _attribute("version", 1e300))
features("with a version of NaN", _attribute("version", float("nan")))
features("with an origin that is deep", _attribute("origin", "[" * 30_000))
features(
    "with an origin that is deep and closed",
    _attribute("origin", '{"backbone": {"x": ' + "[" * 900 + "]" * 900 + "}}"),
    HARMLESS,
)
features("with an origin of NaN", _attribute("origin", '{"dataset": {"imbalance_factor": NaN}}'))
features("with an origin of infinity", _attribute("origin", '{"dataset": {"imbalance_factor": 1e999}}'))
features(
    "with an origin of a long number",
    _attribute("origin", '{"dataset": {"imbalance_factor": ' + "9" * 4000 + "}}"),
    HARMLESS,
)
features(
    "with an origin of escape sequences",
    _attribute("origin", '{"dataset": {"name": "\\u001b[31mx"}, "backbone": {"name": "\\u001b[2J"}}'),
    (0,),
)
features("with an origin that is no text", _attribute("origin", np.void(b"\xff" * 99)))
features(
    "with an attribute of an array of arrays",
    _attribute("origin", np.zeros((), np.dtype(("f8", (10, 10))))),
    HARMLESS,
)


def _bytes_of_features(name: str, change: Callable[[bytes], bytes], codes: tuple[int, ...] = (2,)) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        (folder / "theirs.h5").write_bytes(change(good.features.read_bytes()))
        return _stage2(folder)

    HDF5.add(f"features {name}", make, codes)


_bytes_of_features("empty", lambda data: b"")
_bytes_of_features("of the signature alone", lambda data: data[:8])
_bytes_of_features("of noise behind the signature", lambda data: data[:8] + np.random.default_rng(0).bytes(9999))
_bytes_of_features("cut in half", lambda data: data[: len(data) // 2])
_bytes_of_features("of zeros behind the superblock", lambda data: data[:96] + bytes(len(data) - 96))
for _seed in range(8):
    _bytes_of_features(
        f"with flipped metadata {_seed}", lambda data, seed=_seed: flipped(data[:4096], seed) + data[4096:], HARMLESS
    )
