"""Reading: slices are NumPy's, and damage ends in an InputError that says where it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features import layout
from gol_decouple.features.reader import FeaturesFile

V, N, D = 3, 30, 4
X = np.random.default_rng(0).normal(size=(V, N, D)).astype(np.float32)
LABELS = np.arange(N) % 3
ROWS_PER_BLOCK = 8


def write_small(folder: Path) -> Path:
    """Our own file with blocks of 8 rows: train [3, 30, 4], test [1, 30, 4]."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", ROWS_PER_BLOCK * D * 4)
        return features.write(
            folder / "f.h5",
            {"train": (X, LABELS), "test": (X[0] + 1, LABELS)},
            class_names=["a", "bé", "c"],
            classifier=(np.ones((3, D)), np.arange(3)),
            origin={"backbone": {"name": "b"}},
        )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests copy it before they change it."""
    return write_small(tmp_path_factory.mktemp("written"))


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.h5"))


def hand_made(path: Path, x: np.ndarray | None = X, **storage: Any) -> h5py.File:
    """A file in the format as another program may write it: no block table, no seal; open for additions."""
    file = h5py.File(path, "w", **({"userblock_size": 512} if storage.pop("userblock", False) else {}))
    file.attrs["format"] = np.bytes_("gol-decouple features")
    file.attrs["version"] = 1
    if x is not None:
        file.create_dataset("train/features", data=x, **storage)
    file["train/labels"] = LABELS
    return file


def offset_of(path: Path, name: str) -> int:
    with h5py.File(path) as file:
        offset: int = file[name].id.get_offset()
        return offset


def flip(path: Path, offset: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def read_all(file: FeaturesFile) -> list[np.ndarray]:
    return [part for name in file.splits for part in (file[name].features[:], file[name].labels, file[name].ids)]


def refusal(path: Path, message: str) -> InputError:
    """Opening and reading `path` is refused with `message`, which names the file."""
    with pytest.raises(InputError, match=message) as caught:
        read_all(features.open(path))
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


MASK = np.arange(N) % 4 == 1
KEYS = {
    "all": np.s_[:],
    "ellipsis": np.s_[...],
    "empty tuple": (),
    "view": 0,
    "last view": -1,
    "numpy integer": np.int64(1),
    "array of no axis": np.array(1),
    "rows": np.s_[:, 3:11],
    "rows within a block": np.s_[0, 9:14],
    "rows across blocks": np.s_[1, 5:29],
    "one row": np.s_[0, 17],
    "last row": np.s_[:, -1],
    "one value": np.s_[2, 29, 3],
    "past the end": np.s_[0, 25:99],
    "none": np.s_[0, 7:7],
    "backwards and empty": np.s_[:, 9:3],
    "no view": np.s_[3:],
    "step": np.s_[0, ::7],
    "negative step": np.s_[:, 28:2:-3],
    "reversed views": np.s_[::-1, ::-1, ::-1],
    "features": np.s_[..., 1:3],
    "features of one view": np.s_[0, ..., 2],
    "ellipsis of nothing": np.s_[1, 2, 3, ...],
    "list": np.s_[0, [3, 29, 3, 0]],
    "list of all views": np.s_[:, [12, 2]],
    "negative list": np.s_[1, [-1, -30, 4]],
    "empty list": np.s_[0, []],
    "unsigned": np.s_[0, np.array([5, 2], np.uint8)],
    "mask": np.s_[0, MASK],
    "mask of all views": np.s_[:, MASK],
    "mask of nothing": np.s_[0, np.zeros(N, bool)],
    "two axes of rows": np.s_[0, np.array([[1, 2], [28, 9]])],
    "list of views": np.s_[[2, 0]],
    "list of views and a slice": np.s_[[2, 0], 4:6],
    "views and rows pair up": np.s_[[0, 2, 1], [5, 6, 29]],
    "views and rows broadcast": np.s_[[[0], [2]], [5, 6, 29]],
    "rows and features pair up": np.s_[0, [1, 20, 3], [0, 3, 2]],
    "step and features": np.s_[0, ::5, [0, 2]],
    "views step and features": np.s_[::2, ::5, [0, 2]],
    "views and features": np.s_[[0, 2], 3:9, [1, 2]],
    "list and one feature": np.s_[:, [4, 9], 1],
    "feature mask": np.s_[0, 2:5, np.array([True, False, True, False])],
}


@pytest.fixture(scope="module", params=["contiguous", "chunked"])
def stored(request: pytest.FixtureRequest, written: Path, tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    if request.param == "contiguous":
        return features.open(written)
    path = tmp_path_factory.mktemp("chunked") / "f.h5"
    with hand_made(path, chunks=(1, 7, 2), compression="gzip") as file:
        file["train"].attrs["rows_per_block"] = ROWS_PER_BLOCK
    return features.open(path)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_slicing_is_numpys(stored: FeaturesFile, key: Any) -> None:
    read, expected = stored["train"].features[key], X[key]
    assert read.shape == expected.shape
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "index 3 is out of bounds for an axis of 3"),
        (np.s_[0, 30], "index 30 is out of bounds for an axis of 30"),
        (np.s_[0, [1, -31]], "index -31 is out of bounds"),
        (np.s_[0, 1, 2, 3], "3 axes"),
        (np.s_[..., 0, ...], "3 axes"),
        (np.s_[0, 1.5], "1.5 is no index"),
        (np.s_[0, "a"], "'a' is no index"),
        (None, "None is no index"),
        (np.s_[0, MASK[:-1]], "is no index of an axis of 30"),
    ],
)
def test_what_is_no_index(stored: FeaturesFile, key: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        stored["train"].features[key]


def test_random_keys(stored: FeaturesFile) -> None:
    stream = np.random.default_rng(0)
    for _ in range(60):
        start, stop = stream.integers(-40, 40, 2)
        step = int(stream.integers(1, 9)) * int(stream.choice([-1, 1]))
        rows = slice(start, stop, step) if stream.random() < 0.5 else stream.integers(-N, N, stream.integers(0, 9))
        np.testing.assert_array_equal(stored["train"].features[:, rows], X[:, rows])


def test_features_behave_like_a_sequence_of_views(stored: FeaturesFile) -> None:
    array = stored["train"].features
    assert (len(array), array.shape, array.dtype) == (V, (V, N, D), np.float32)
    assert len(stored["train"]) == N
    np.testing.assert_array_equal(np.stack(list(array)), X)


def test_scattered_rows_do_not_read_what_lies_between(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = features.open(written)["train"].features
    array[:]
    read, real = [], os.preadv

    def count(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        read.append(sum(len(buffer) for buffer in buffers))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr("os.preadv", count)
    array[0, [0, 29]]
    assert read == [D * 4, D * 4]


def test_short_reads_are_continued(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr("os.preadv", lambda descriptor, buffers, offset: real(descriptor, [buffers[0][:5]], offset))
    np.testing.assert_array_equal(features.open(written)["train"].features[:], X)


def test_one_flipped_bit_is_found_when_its_block_is_read(copy: Path) -> None:
    """Row 17 of view 1 lies in rows 16..23."""
    flip(copy, offset_of(copy, "train/features") + ((N + 17) * D + 2) * 4 + 1, bit=5)
    array = features.open(copy)["train"].features
    message = r"copy\.h5 is damaged: train rows 16\.\.23 of view 1 do not match their checksum"
    for key in (np.s_[1, 20], np.s_[1, 23:25], np.s_[:], np.s_[1, [0, 16]]):
        with pytest.raises(InputError, match=message):
            array[key]
    np.testing.assert_array_equal(array[0], X[0])
    np.testing.assert_array_equal(array[2], X[2])
    np.testing.assert_array_equal(array[1, :16], X[1, :16])
    np.testing.assert_array_equal(array[1, 24:], X[1, 24:])
    np.testing.assert_array_equal(features.open(copy)["test"].features[0], X[0] + 1)


def test_a_block_is_checked_the_first_time_only(copy: Path) -> None:
    array = features.open(copy)["train"].features
    array[0, 0]
    flip(copy, offset_of(copy, "train/features"))
    assert (array[0, 0] != X[0, 0]).any()
    refusal(copy, "do not match their checksum")


SEALED = {
    "label": "train/labels",
    "id": "test/ids",
    "class name": "classes/names",
    "weight": "classifier/weight",
    "bias": "classifier/bias",
    "block table": "train/block_crc32",
    "fingerprint": "fingerprint",
}


@pytest.mark.parametrize("name", SEALED.values(), ids=SEALED)
def test_flipped_metadata(copy: Path, name: str) -> None:
    flip(copy, offset_of(copy, name))
    refusal(copy, "is damaged: its metadata, labels or block table do not match its fingerprint|train_counts that are")


@pytest.mark.parametrize("attribute", ["origin", "row_order_seed"])
def test_changed_attributes(copy: Path, attribute: str) -> None:
    with h5py.File(copy, "r+") as file:
        file.attrs[attribute] = {"origin": np.bytes_("{}"), "row_order_seed": 1}[attribute]
    refusal(copy, "do not match its fingerprint")


@pytest.mark.parametrize("name", ["test", "classifier", "test/block_crc32", "train/ids"])
def test_a_part_taken_away(copy: Path, name: str) -> None:
    with h5py.File(copy, "r+") as file:
        if name == "train/ids":
            file[name][:] = np.arange(N)[::-1]
        else:
            del file[name]
    refusal(copy, "do not match its fingerprint")


@pytest.mark.parametrize(("name", "missing"), [("complete", "has no complete"), ("fingerprint", "has no fingerprint")])
def test_half_a_seal_is_refused(copy: Path, name: str, missing: str) -> None:
    with h5py.File(copy, "r+") as file:
        del file[name]
    refusal(copy, missing)


def test_incomplete(copy: Path) -> None:
    flip(copy, offset_of(copy, "complete"))
    refusal(copy, "is incomplete: the process that wrote it did not finish")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.999])
def test_truncated(copy: Path, share: float) -> None:
    os.truncate(copy, int(copy.stat().st_size * share))
    refusal(copy, "truncated|is not an HDF5 file")


def test_truncated_after_opening(copy: Path) -> None:
    array = features.open(copy)["train"].features
    os.truncate(copy, offset_of(copy, "train/features") + 100)
    with pytest.raises(InputError, match=r"copy\.h5 is truncated in train"):
        array[:]


def test_removed_after_opening(copy: Path) -> None:
    array = features.open(copy)["train"].features
    copy.unlink()
    with pytest.raises(InputError, match=r"copy\.h5 can no longer be read: No such file"):
        array[:]


def test_damage_names_the_command_that_rebuilds(copy: Path) -> None:
    flip(copy, offset_of(copy, "complete"))
    assert "gol_decouple.features.write" in str(refusal(copy, "incomplete").hint)
    (copy.parent / "config.toml").write_text("")
    folder = copy.parent
    command = f"gol-decouple stage1 {folder}/config.toml --runs-dir {folder.parent} --name {folder.name}"
    assert refusal(copy, "incomplete").hint == f"remove {copy} and run: {command}"


@pytest.mark.parametrize("split", ["train", "test"])
def test_checksums_do_not_vouch_for_nan(tmp_path: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's writer may store what ours refuses, with a block table that is right."""
    parts = {name: (np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])) for name in ("train", "test")}
    parts[split][0][2, 1] = np.nan
    monkeypatch.setattr("gol_decouple.features.writer.as_stored", lambda column, rows, *_: rows)
    path = features.write(tmp_path / "a.h5", parts)
    file = features.open(path)
    assert file.checked
    with pytest.raises(InputError, match=f"{split} features of row 2, view 0 hold NaN or infinity"):
        file[split].features[0]
