"""Hostile and damaged HDF5: nothing outside the file is read, nothing absurd allocated, no foreign error escapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_reader import D, N, X, hand_made, offset_of, read_all, refusal, write_small

from gol_decouple import features
from gol_decouple.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests copy it before they change it."""
    return write_small(tmp_path_factory.mktemp("written"))


@pytest.mark.parametrize(
    "name", ["train", "train/features", "train/labels", "train/ids", "val", "classes", "classifier"]
)
@pytest.mark.parametrize("kind", ["external", "dangling external", "soft", "dangling soft"])
def test_links_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    """Even where what they lead to would fit, and where the part could be left out."""
    path, elsewhere = tmp_path / "f.h5", tmp_path / "other.h5"
    hand_made(elsewhere).close()
    with hand_made(path) as file:
        if name in file:
            file.move(name, "moved")
        file[name] = {
            "external": h5py.ExternalLink(str(elsewhere), name),
            "dangling external": h5py.ExternalLink("/nowhere/at/all.h5", name),
            "soft": h5py.SoftLink("/moved"),
            "dangling soft": h5py.SoftLink("/nowhere"),
        }[kind]
    refusal(path, rf"keeps {name}\S* behind a link, which is refused")


@pytest.mark.parametrize("secret", ["/etc/passwd", "own"])
def test_external_storage_is_never_read(tmp_path: Path, secret: str) -> None:
    target = tmp_path / "secret" if secret == "own" else Path(secret)
    if secret == "own":
        target.write_bytes(bytes(range(100)))
    path = tmp_path / "f.h5"
    for name, shape, dtype in (("labels", (N,), "u1"), ("ids", (N,), "u1"), ("features", (1, 2, 3), "f2")):
        with hand_made(path) as file:
            if name in file["train"]:
                del file[f"train/{name}"]
            file.create_dataset(f"train/{name}", shape, dtype, external=[(str(target), 0, h5py.h5f.UNLIMITED)])
        refusal(path, f"keeps train/{name} in other files, which is refused")


def test_virtual_datasets_are_refused(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "f.h5", tmp_path / "other.h5"
    hand_made(elsewhere).close()
    virtual = h5py.VirtualLayout(X.shape, np.float32)
    virtual[:] = h5py.VirtualSource(str(elsewhere), "train/features", X.shape)
    with hand_made(path, None) as file:
        file.create_virtual_dataset("train/features", virtual)
    refusal(path, "keeps train/features in other files, which is refused")


def double_deflate(file: h5py.File) -> None:
    """Packed twice, 16 MiB of zeros take less than 1 kB."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, 2**20, D))
    properties.set_deflate(9)
    properties.set_deflate(9)
    space = h5py.h5s.create_simple((1, 2**20, D))
    dataset = h5py.Dataset(h5py.h5d.create(file["train"].id, b"features", h5py.h5t.IEEE_F32LE, space, properties))
    dataset[:] = 0


def half_filled(file: h5py.File) -> None:
    dataset = file.create_dataset("train/features", X.shape, "f4", chunks=(1, 10, D), compression="gzip")
    dataset[:, :20] = X[:, :20]


ABSURD: dict[str, Callable[[h5py.File], object]] = {
    "sparse": lambda file: file.create_dataset("train/features", (1, 2**40, 1024), "f4", chunks=(1, 1024, 1024)),
    "sparse and packed": lambda file: file.create_dataset(
        "train/features", (1, 2**40, 1024), "f4", chunks=(1, 1024, 1024), compression="gzip"
    ),
    "many views": lambda file: file.create_dataset("train/features", (2**40, N, D), "f4", chunks=(1, N, D)),
    "unwritten": lambda file: file.create_dataset("train/features", X.shape, "f4"),
    "half filled": half_filled,
    "bomb": double_deflate,
    "chunk larger than the data": lambda file: file.create_dataset(
        "train/features", (1, N, D), "f4", chunks=(1, 2**24, D), maxshape=(1, None, D)
    ),
    "unknown filter": lambda file: file.create_dataset("train/features", data=X, chunks=True, scaleoffset=3),
}


@pytest.mark.parametrize("make", ABSURD.values(), ids=ABSURD)
def test_what_a_file_declares_but_does_not_hold(tmp_path: Path, make: Callable[[h5py.File], object]) -> None:
    with hand_made(tmp_path / "f.h5", None) as file:
        make(file)
    assert (tmp_path / "f.h5").stat().st_size < 2**20
    refusal(tmp_path / "f.h5", r"declares [\d,]+ bytes of train/features, but does not hold them")


def test_absurd_labels(tmp_path: Path) -> None:
    with hand_made(tmp_path / "f.h5") as file:
        del file["train/labels"]
        file.create_dataset("train/labels", (2**40,), "i8", chunks=(1024,))
    refusal(tmp_path / "f.h5", "declares 8,796,093,022,208 bytes of train/labels")


def test_many_names_that_share_one_long_text(tmp_path: Path) -> None:
    """A variable-length text is a reference of 16 bytes; all can point to the same one."""
    path, count = tmp_path / "f.h5", 4000
    with hand_made(path) as file:
        file["classes/names"] = np.array(["x" * 500_000] + ["y"] * (count - 1), dtype=h5py.string_dtype())
    offset = offset_of(path, "classes/names")
    with path.open("r+b") as raw:
        raw.seek(offset)
        reference = raw.read(16)
        raw.seek(offset)
        raw.write(reference * count)
    refusal(path, "declares more text in classes/names than it holds")


def fuzzed(content: bytes, stream: np.random.Generator) -> bytes:
    if stream.random() < 0.2:
        return content[: stream.integers(len(content))]
    damaged = bytearray(content)
    meaningful = np.flatnonzero(np.frombuffer(content, np.uint8))
    for _ in range(stream.integers(1, 5)):
        position = int(stream.choice(meaningful)) if stream.random() < 0.7 else int(stream.integers(len(damaged)))
        damaged[position] ^= int(stream.integers(1, 256))
    return bytes(damaged)


def test_fuzzed_files_give_the_original_or_an_input_error(written: Path, tmp_path: Path) -> None:
    content, path, stream = written.read_bytes(), tmp_path / "f.h5", np.random.default_rng(0)
    original, refused = read_all(features.open(written)), 0
    for case in range(60):
        path.write_bytes(fuzzed(content, stream))
        try:
            read = read_all(features.open(path))
        except InputError:
            refused += 1
        else:
            assert all(map(np.array_equal, read, original)), case
            assert len(read) == len(original)
    assert refused > 30


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 7, 2), "compression": "gzip"}])
def test_fuzzed_files_without_checksums_give_something_or_an_input_error(
    tmp_path: Path, storage: dict[str, Any]
) -> None:
    path, stream = tmp_path / "f.h5", np.random.default_rng(1)
    hand_made(path, **storage).close()
    content, refused = path.read_bytes(), 0
    for _ in range(60):
        path.write_bytes(fuzzed(content, stream))
        try:
            read_all(features.open(path))
        except InputError:
            refused += 1
    assert 20 < refused < 60
