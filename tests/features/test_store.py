"""The file itself, looked at with h5py, os.pread and zlib, without our reader."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from gol_decouple import features
from gol_decouple.features import layout

D = 64
TRAIN, TEST = (np.random.default_rng(seed).normal(size=(2, 50, D)).astype(np.float16) for seed in (0, 1))
LABELS = np.arange(50) % 3
WEIGHT, BIAS = np.ones((3, D), np.float32), np.arange(3, dtype=np.float32)
ORIGIN = {"dataset": {"name": "bïrds"}, "backbone": {"name": "b"}}


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train [2, 50, 64] in 7 blocks a view of 8 rows each, test [1, 50, 64]."""
    monkeypatch.setattr(layout, "BLOCK_BYTES", 8 * 2 * D + 1)
    return features.write(
        tmp_path / "f.h5",
        {"train": (TRAIN, LABELS), "test": (TEST[0], LABELS[::-1])},
        class_names=["a", "bé", "c"],
        classifier=(WEIGHT, BIAS),
        origin=ORIGIN,
    )


def test_tree_as_documented(path: Path) -> None:
    with h5py.File(path) as file:
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        file.visititems(
            lambda name, node: (
                found.update({name: (str(node.dtype), node.shape)}) if isinstance(node, h5py.Dataset) else None
            )
        )
        attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
        assert file["classes/names"].asstr()[:].tolist() == ["a", "bé", "c"]
        assert file["train"].attrs["rows_per_block"] == 8
        assert file["complete"][:].tolist() == [1]
    assert found == {
        "classes/names": ("|S3", (3,)),
        "classes/train_counts": ("int64", (3,)),
        "classifier/weight": ("float32", (3, D)),
        "classifier/bias": ("float32", (3,)),
        "train/features": ("float16", (2, 50, D)),
        "train/labels": ("int64", (50,)),
        "train/ids": ("int64", (50,)),
        "train/block_crc32": ("uint32", (2, 7)),
        "test/features": ("float16", (1, 50, D)),
        "test/labels": ("int64", (50,)),
        "test/ids": ("int64", (50,)),
        "test/block_crc32": ("uint32", (1, 7)),
        "fingerprint": ("uint8", (64,)),
        "complete": ("uint8", (1,)),
    }
    assert attributes.pop("created_by").startswith("gol-decouple ")
    assert json.loads(attributes.pop("origin")) == ORIGIN
    assert attributes == {"format": "gol-decouple features", "version": 1, "dtype": "float16"}


def test_features_are_plain_bytes_at_an_aligned_offset(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    with h5py.File(path) as file:
        for name, given in (("train", TRAIN), ("test", TEST[:1])):
            dataset = file[name]["features"]
            offset = dataset.id.get_offset()
            assert dataset.chunks is None
            assert dataset.compression is None
            assert offset % 4096 == 0
            assert os.pread(descriptor, given.nbytes, offset) == given.tobytes()
            np.testing.assert_array_equal(np.memmap(path, np.float16, "r", offset, given.shape), given)
            np.testing.assert_array_equal(dataset[:], given)
    os.close(descriptor)


def test_block_table(path: Path) -> None:
    with h5py.File(path) as file:
        for name, given in (("train", TRAIN), ("test", TEST[:1])):
            wanted = [[zlib.crc32(view[at : at + 8].tobytes()) for at in range(0, 50, 8)] for view in given]
            assert file[name]["block_crc32"][:].tolist() == wanted


def test_fingerprint_as_documented(path: Path) -> None:
    """Made anew from docs/features-format.md, with nothing of the package."""
    with h5py.File(path) as file:
        header = {
            "class_names": ["a", "bé", "c"],
            "dtype": "float16",
            "feature_size": D,
            "format": "gol-decouple features",
            "origin": ORIGIN,
            "row_order_seed": None,
            "version": 1,
        }
        plan = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
        plan.update(np.array([17, 17, 16], "<i8").tobytes() + WEIGHT.tobytes() + BIAS.tobytes())
        for name, views, labels in (("test", 1, LABELS[::-1]), ("train", 2, LABELS)):
            plan.update(f"{name} 50 {views} 8".encode())
            plan.update(labels.astype("<i8").tobytes() + np.arange(50, dtype="<i8").tobytes())
        tables = file["test/block_crc32"][:].tobytes() + file["train/block_crc32"][:].tobytes()
        wanted = hashlib.sha256(plan.hexdigest().encode() + tables).hexdigest()
        assert file["fingerprint"][:].tobytes().decode() == wanted
    assert features.open(path).fingerprint == wanted


def test_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    def write(**changes: object) -> str:
        train, labels = changes.pop("train", TRAIN), changes.pop("labels", LABELS)
        options = {"class_names": ["a", "b", "c"], "classifier": (WEIGHT, BIAS), "origin": ORIGIN} | changes
        return features.open(
            features.write(tmp_path / "f.h5", {"train": (train, labels)}, overwrite=True, **options)
        ).fingerprint

    other = TRAIN.copy()
    other[1, 49, 63] += 1
    prints = [
        write(),
        write(train=other),
        write(train=TRAIN[:1]),
        write(labels=LABELS[::-1]),
        write(ids={"train": np.arange(50) + 1}),
        write(class_names=["a", "b", "d"]),
        write(class_names=["a", "b", "c", "d"], classifier=None),
        write(classifier=None),
        write(classifier=(WEIGHT, BIAS + 1)),
        write(origin={}),
        write(dtype="float32"),
    ]
    assert len(set(prints)) == len(prints)
    assert write() == prints[0]


def test_equal_contents_make_equal_files(path: Path) -> None:
    before = path.read_bytes()
    time.sleep(1.1)  # HDF5 would store times in seconds
    features.write(
        path,
        {"train": (TRAIN, LABELS), "test": (TEST[0], LABELS[::-1])},
        class_names=["a", "bé", "c"],
        classifier=(WEIGHT, BIAS),
        origin=ORIGIN,
        overwrite=True,
    )
    assert path.read_bytes() == before


def test_blocks_are_about_a_mebibyte(tmp_path: Path) -> None:
    assert layout.rows_per_block(2048 * 2) == 256
    assert layout.rows_per_block(3 * 2**20) == 1
    path = features.write(tmp_path / "f.h5", {"train": (np.zeros((700, 1024), np.float16), np.zeros(700, int))})
    with h5py.File(path) as file:
        assert file["train"].attrs["rows_per_block"] == 512
        assert file["train/block_crc32"].shape == (1, 2)
