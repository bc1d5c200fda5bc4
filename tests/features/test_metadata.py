"""Files written elsewhere: what fits the format is read, and what does not is refused with an error that says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_reader import LABELS, D, N, X, flip, hand_made, offset_of, refusal, write_small

from gol_decouple import features
from gol_decouple.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests copy it before they change it."""
    return write_small(tmp_path_factory.mktemp("written"))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refusal(tmp_path / "none.h5", r"none\.h5 does not exist$")
    refusal(tmp_path, "is not a file$")


@pytest.mark.parametrize("content", [b"", b"label,feature\n0,1\n", b"\x89HDF\r\n\x1a\n", bytes(5000)])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(content)
    refusal(path, "is not an HDF5 file|is not a readable features file")


@pytest.mark.parametrize("value", [None, np.bytes_("other"), 5, np.array([1, 2]), h5py.Empty("S5"), np.bytes_(b"\xff")])
def test_foreign_hdf5(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "f.h5"
    with hand_made(path) as file:
        del file.attrs["format"]
        if value is not None:
            file.attrs["format"] = value
    refusal(path, "is HDF5, but not a gol-decouple features file|'format'|is not a readable")


def test_versions(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    for version, message in (
        (2, "has format version 2; this program reads 1"),
        (0, "version 0"),
        (1.5, "'version' of 1"),
    ):
        with hand_made(path) as file:
            file.attrs["version"] = version
        error = refusal(path, message)
        assert (error.hint == "update gol-decouple") == (version == 2)
    for strange in (np.bytes_("one"), np.array([1, 1]), h5py.Empty("i4"), np.inf, np.nan):
        with hand_made(path) as file:
            file.attrs["version"] = strange
        refusal(path, "'version'|is not a readable")
    with hand_made(path) as file:
        del file.attrs["version"]
    refusal(path, "has no format version; this program reads 1")


STORAGE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (1, 7, 2)},
    "gzip": {"chunks": (2, 16, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (1, 30, 4), "compression": "lzf"},
    "growable": {"chunks": (1, 64, 4), "maxshape": (None, None, D)},
    "float16": {"x": X.astype(np.float16)},
    "big-endian": {"x": X.astype(">f4")},
    "big-endian chunks": {"x": X.astype(">f4"), "chunks": True},
    "user block": {"userblock": True},
}


@pytest.mark.parametrize("storage", STORAGE.values(), ids=STORAGE)
def test_minimal_files_are_read_and_called_unchecked(tmp_path: Path, storage: dict[str, Any]) -> None:
    hand_made(tmp_path / "f.h5", **dict(storage)).close()
    file = features.open(tmp_path / "f.h5")
    assert not file.checked
    read = file["train"].features[:]
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, storage.get("x", X))
    np.testing.assert_array_equal(file["train"].features[1, 3:25:4], storage.get("x", X)[1, 3:25:4])
    assert file["train"].ids.tolist() == list(range(N))
    assert file.classes.names == ["class 0", "class 1", "class 2"]
    assert file.classes.train_counts.tolist() == [10, 10, 10]
    assert (file.classifier, file.origin, file.splits) == (None, {}, ["train"])
    assert len(file.fingerprint) == 64


def test_compact_storage(tmp_path: Path) -> None:
    with hand_made(tmp_path / "f.h5", None) as file:
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(X.shape)
        h5py.h5d.create(file["train"].id, b"features", h5py.h5t.IEEE_F32LE, space, compact)
        file["train/features"][:] = X
    np.testing.assert_array_equal(features.open(tmp_path / "f.h5")["train"].features[:], X)


def test_number_types_and_texts_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with hand_made(path) as file:
        file.attrs["format"] = np.array(["gol-decouple features"], dtype=h5py.string_dtype())
        file.attrs["version"] = np.array([1.0])
        file.attrs["origin"] = '{"dataset": {"name": "x"}}'
        file["classes/names"] = np.array(["a", "bé", "c"], dtype=h5py.string_dtype())
        file["classifier/weight"] = np.ones((3, D))
        file["classifier/bias"] = np.ones(3, ">f4")
        del file["train/labels"]
        file["train/labels"] = LABELS.astype(">u2")
        file["train/ids"] = LABELS.astype(np.int8)
    read = features.open(path)
    assert read.classes.names == ["a", "bé", "c"]
    assert read.origin == {"dataset": {"name": "x"}}
    np.testing.assert_array_equal(read["train"].labels, LABELS)
    np.testing.assert_array_equal(read["train"].ids, LABELS)
    assert read.classifier is not None
    assert read.classifier.bias.dtype == np.dtype("float32")
    assert read.classifier.bias.dtype.isnative


def test_a_block_table_without_a_seal_is_used(written: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(written, tmp_path / "copy.h5"))
    with h5py.File(copy, "r+") as file:
        del file["complete"], file["fingerprint"]
    assert features.open(copy).checked
    flip(copy, offset_of(copy, "test/features"))
    refusal(copy, "test rows 0..7 of view 0 do not match their checksum")
    with h5py.File(copy, "r+") as file:
        del file["test/block_crc32"]
    assert not features.open(copy).checked


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 7, 2)}])
def test_nan_in_an_unchecked_file_is_found_on_reading(tmp_path: Path, storage: dict[str, Any]) -> None:
    bad = X.copy()
    bad[2, 21, 3] = np.nan
    hand_made(tmp_path / "f.h5", bad, **storage).close()
    array = features.open(tmp_path / "f.h5")["train"].features
    np.testing.assert_array_equal(array[0], X[0])
    for key in (np.s_[:], np.s_[2, [21]]):
        with pytest.raises(InputError, match="train features of row 21, view 2 hold NaN or infinity"):
            array[key]


def test_a_damaged_chunk_names_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with hand_made(path, chunks=(1, 10, 4), compression="gzip", fletcher32=True) as file:
        chunk = file["train/features"].id.get_chunk_info_by_coord((1, 10, 0))
    flip(path, chunk.byte_offset + chunk.size // 2)
    array = features.open(path)["train"].features
    np.testing.assert_array_equal(array[0], X[0])
    with pytest.raises(InputError, match=r"f\.h5 is damaged in train, rows 12\.\.14 of view 1"):
        array[1, 12:15]


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


def repacked(source: Path, target: Path) -> h5py.File:
    """Our file as h5repack would compress it; open for changes."""
    shutil.copy(source, target)
    file = h5py.File(target, "r+")
    for name in ("train", "test"):
        values = file[f"{name}/features"][:].astype(">f4")
        del file[f"{name}/features"]
        file.create_dataset(f"{name}/features", data=values, chunks=(1, 7, 3), compression="gzip")
    return file


def test_a_repacked_file_stays_checked(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "repacked.h5"
    repacked(written, path).close()
    file = features.open(path)
    assert file.checked
    assert file.fingerprint == features.open(written).fingerprint
    np.testing.assert_array_equal(file["train"].features[:], X)
    np.testing.assert_array_equal(file["train"].features[1, ::9], X[1, ::9])
    with repacked(written, path) as changed:
        changed["train/features"][1, 17, 2] += 1
    array = features.open(path)["train"].features
    np.testing.assert_array_equal(array[0], X[0])
    with pytest.raises(InputError, match=r"train rows 16\.\.23 of view 1 do not match their checksum"):
        array[1, 20]


def attribute(name: str, value: Any, group: str = "/") -> Callable[[h5py.File], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


def table(shape: tuple[int, ...], per_block: int | None = 8) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file["train/block_crc32"] = np.zeros(shape, np.uint32)
        if per_block is not None:
            file["train"].attrs["rows_per_block"] = per_block

    return change


def second_split(x: np.ndarray, name: str = "test") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[f"{name}/features"] = x
        file[f"{name}/labels"] = np.zeros(x.shape[1], int)

    return change


MISFITS: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no train": (lambda file: file.move("train", "val"), "has no train split$"),
    "train is data": (replaced("train", [1.0]), "has data where train/features needs a group"),
    "features are a group": (
        lambda file: (file.pop("train/features"), file.create_group("train/features")),
        "no data in",
    ),
    "no features": (lambda file: file.pop("train/features"), "has no train/features"),
    "no labels": (lambda file: file.pop("train/labels"), "has no train/labels"),
    "two axes": (replaced("train/features", X[0]), r"float32 \[30, 4\], expected float16 or float32 \[V, N, D\]"),
    "integers": (replaced("train/features", np.ones((1, N, D), int)), "train/features of int64"),
    "float64": (replaced("train/features", X.astype(float)), "train/features of float64"),
    "compound": (replaced("train/features", np.zeros((1, N, D), [("a", "f4")])), "train/features of"),
    "no rows": (replaced("train/features", X[:, :0]), r"\[3, 0, 4\], expected"),
    "null space": (replaced("train/features", h5py.Empty("f4")), "has no data in train/features"),
    "null labels": (replaced("train/labels", h5py.Empty("i8")), "has no data in train/labels"),
    "labels too short": (replaced("train/labels", LABELS[1:]), "has 30 train features, but 29 labels and 30 ids"),
    "ids too long": (replaced("train/ids", np.arange(31)), "has 30 train features, but 30 labels and 31 ids"),
    "labels in two axes": (replaced("train/labels", LABELS[:, None]), r"train/labels of int64 \[30, 1\]"),
    "labels as floats": (replaced("train/labels", LABELS.astype(float)), "train/labels of float64"),
    "labels as texts": (replaced("train/labels", ["a"] * N), "train/labels of object"),
    "negative label": (replaced("train/labels", LABELS - 1), r"has label -1 in train, outside 0\.\.1"),
    "only negative labels": (replaced("train/labels", LABELS - 9), r"has label -9 in train"),
    "absurd label": (
        replaced("train/labels", LABELS + 10**12),
        "cannot be used: label 1000000000002 needs more than 1,048,576 classes",
    ),
    "label beyond 64 bits": (replaced("train/labels", LABELS.astype("u8") + 2**63), "train/labels up to 922337203685"),
    "big-endian label beyond": (
        replaced("train/labels", (LABELS.astype("u8") + 2**63).astype(">u8")),
        "train/labels up to 922337203685",
    ),
    "too few names": (replaced("classes/names", ["a", "b"]), r"has label 2 in train, outside 0\.\.1"),
    "names as numbers": (replaced("classes/names", [1, 2, 3]), "classes/names that are not a list of texts"),
    "names in two axes": (replaced("classes/names", [["a"], ["b"], ["c"]]), "classes/names that are not a list"),
    "names not UTF-8": (replaced("classes/names", np.array([b"\xff", b"b", b"c"])), "is not a readable features file"),
    "counts": (replaced("classes/train_counts", [10, 10, 9]), "are not the counts of its train labels"),
    "counts of more": (replaced("classes/train_counts", [10, 10, 10, 0]), "are not the counts of its train labels"),
    "no bias": (replaced("classifier/weight", np.ones((3, D))), "has no classifier/bias"),
    "rows_per_block 0": (attribute("rows_per_block", 0, "train"), "has 0 rows_per_block in train"),
    "rows_per_block -8": (attribute("rows_per_block", -8, "train"), "has -8 rows_per_block in train"),
    "rows_per_block text": (
        attribute("rows_per_block", "many", "train"),
        "'rows_per_block' of 'many', expected an int",
    ),
    "table of one view": (table((1, 4)), r"block table of \[1, 4\] for train"),
    "table too long": (table((3, 5)), r"block table of \[3, 5\] for train"),
    "table without rows_per_block": (table((3, 1), None), r"block table of \[3, 1\] for train"),
    "table in one axis": (table((4,)), r"train/block_crc32 of uint32 \[4\]"),
    "other size": (second_split(X[:1, :, :3]), "features that differ: train float32 of size 4, test float32 of size 3"),
    "other dtype": (second_split(X[:1].astype("f2")), "train float32 of size 4, test float16 of size 4"),
    "views in val": (second_split(X, "val"), "has 3 views of val; only train can have more than one"),
    "origin no JSON": (attribute("origin", "{"), "is not a readable features file"),
    "origin a list": (attribute("origin", "[]"), "cannot be used: origin is"),
    "origin a number": (attribute("origin", 5), "is not a readable features file"),
    "origin too deep": (attribute("origin", "[" * 5000), "is not a readable features file"),
    "origin NaN": (attribute("origin", '{"a": NaN}'), "cannot be used: origin cannot be written as JSON"),
    "backbone a text": (
        attribute("origin", '{"backbone": "r50"}'),
        "cannot be used: origin's backbone is 'r50', expected a mapping",
    ),
    "factor a text": (attribute("origin", '{"dataset": {"imbalance_factor": "9"}}'), "which is no number"),
    "seed a text": (attribute("row_order_seed", "x"), "'row_order_seed' of 'x', expected an integer"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[[h5py.File], object], message: str) -> None:
    with hand_made(tmp_path / "f.h5") as file:
        change(file)
    refusal(tmp_path / "f.h5", message)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (np.ones((D, 3)), np.ones(3), r"classifier of \[4, 3\] and \[3\], but 3 classes and features of size 4"),
        (np.ones((4, D)), np.ones(4), r"classifier of \[4, 4\] and \[4\], but 3 classes"),
        (np.ones((3, D)), np.ones(2), r"classifier of \[3, 4\] and \[2\]"),
        (np.ones((3, D)), np.ones((3, 1)), r"classifier/bias of float64 \[3, 1\]"),
        (np.ones((3, D), int), np.ones(3), "classifier/weight of int64"),
        (np.full((3, D), np.nan), np.ones(3), "classifier that holds NaN or infinity"),
    ],
)
def test_classifiers_that_do_not_fit(tmp_path: Path, weight: np.ndarray, bias: np.ndarray, message: str) -> None:
    with hand_made(tmp_path / "f.h5") as file:
        file["classifier/weight"], file["classifier/bias"] = weight, bias
    refusal(tmp_path / "f.h5", message)
