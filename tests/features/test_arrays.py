"""features.write: what goes in comes out again, and what cannot be used is refused before a file is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gol_decouple import features
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import arrays, layout
from gol_decouple.features.writer import FeatureWriter

N, D = 12, 5
LABELS = np.arange(N) % 3


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


NDARRAYS = {
    "float32": (draw(N, D), "float32"),
    "float16": (draw(N, D).astype(np.float16), "float16"),
    "float64": (draw(N, D).astype(np.float64), "float32"),
    "big-endian": (draw(N, D).astype(">f4"), "float32"),
    "transposed": (draw(D, N).T, "float32"),
    "every second": (draw(2 * N, 2 * D)[::2, ::2], "float32"),
    "read-only": (np.broadcast_to(draw(1, D), (N, D)), "float32"),
    "views": (draw(3, N, D), "float32"),
    "float16 views": (draw(3, N, D).astype(np.float16), "float16"),
    "lists": (draw(N, D).tolist(), "float32"),
}
TENSORS = {
    "float32": (torch.from_numpy(draw(N, D)), "float32"),
    "float16": (torch.from_numpy(draw(N, D)).half(), "float16"),
    "bfloat16": (torch.from_numpy(draw(N, D)).bfloat16(), "float32"),
    "float64": (torch.from_numpy(draw(N, D)).double(), "float32"),
    "gradient": (torch.from_numpy(draw(N, D)).requires_grad_(), "float32"),
    "transposed": (torch.from_numpy(draw(D, N)).t(), "float32"),
    "views": (torch.from_numpy(draw(2, N, D)), "float32"),
}


@pytest.mark.parametrize(("given", "dtype"), NDARRAYS.values(), ids=NDARRAYS)
def test_numpy_round_trip(tmp_path: Path, given: Any, dtype: str) -> None:
    path = features.write(tmp_path / "f.h5", {"train": (given, LABELS)})
    file = features.open(path)
    stored = file["train"].features
    expected = np.asarray(given)
    expected = (expected if expected.ndim == 3 else expected[None]).astype(dtype)
    assert (stored.shape, stored.dtype) == (expected.shape, np.dtype(dtype))
    read = stored[:]
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(file["train"].labels, LABELS)
    assert file["train"].labels.dtype == file["train"].ids.dtype == np.int64
    assert files_in(tmp_path) == ["f.h5"]


@pytest.mark.parametrize(("given", "dtype"), TENSORS.values(), ids=TENSORS)
def test_torch_round_trip(tmp_path: Path, given: torch.Tensor, dtype: str) -> None:
    path = features.write(tmp_path / "f.h5", {"train": (given, torch.from_numpy(LABELS))})
    file = features.open(path)
    expected = given.detach().to(getattr(torch, dtype)).numpy()
    read = file["train"].features[:]
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, expected if expected.ndim == 3 else expected[None])
    np.testing.assert_array_equal(file["train"].labels, LABELS)


def test_everything_that_describes_the_features_comes_back(tmp_path: Path) -> None:
    weight, bias = draw(4, D, seed=1), draw(4, seed=2)
    origin = {
        "backbone": {"name": "vit"},
        "dataset": {"name": "birds", "imbalance_factor": 10},
        "transform": {"s": [1]},
    }
    path = features.write(
        tmp_path / "new" / "folder" / "f.h5",
        {"test": (draw(6, D), LABELS[:6]), "val": (draw(3, D), [3, 3, 3]), "train": (draw(2, N, D), LABELS)},
        class_names=["häher", "雀", "", "owl"],
        classifier=(torch.from_numpy(weight).double(), bias),
        ids={"test": np.arange(6, dtype=np.uint16) * 10, "train": [10**18 + i for i in range(N)]},
        origin=origin,
    )
    file = features.open(str(path))
    assert file.splits == ["train", "val", "test"]
    assert ("val" in file, "trian" in file) == (True, False)
    assert [len(file[name]) for name in file.splits] == [N, 3, 6]
    assert file.classes.names == ["häher", "雀", "", "owl"]
    assert file.classes.train_counts.tolist() == [4, 4, 4, 0]
    assert len(file.classes) == 4
    assert file.classifier is not None
    np.testing.assert_array_equal(file.classifier.weight, weight)
    np.testing.assert_array_equal(file.classifier.bias, bias)
    assert file.classifier.weight.dtype == np.float32
    assert file["test"].ids.tolist() == [0, 10, 20, 30, 40, 50]
    assert file["val"].ids.tolist() == [0, 1, 2]
    assert file["train"].ids[-1] == 10**18 + N - 1
    assert file.origin == origin
    assert file.feature_size == D
    assert file.checked
    assert file.path == path
    with pytest.raises(InputError, match="has no trian split") as caught:
        file["trian"]
    assert caught.value.hint == "it has: train, val, test"


def test_defaults(tmp_path: Path) -> None:
    """Without names the largest label of any split tells the number of classes."""
    file = features.open(features.write(tmp_path / "f.h5", {"train": (draw(N, D), LABELS), "test": (draw(1, D), [4])}))
    assert file.classes.names == [f"class {label}" for label in range(5)]
    assert file.classes.train_counts.tolist() == [4, 4, 4, 0, 0]
    assert file.classifier is None
    assert file.origin == {}


def test_an_origin_whose_keys_are_numbers_is_kept_as_json_has_it(tmp_path: Path) -> None:
    """Otherwise the order of the keys, and with it the fingerprint, would change between writing and reading."""
    path = features.write(tmp_path / "f.h5", {"train": (draw(N, D), LABELS)}, origin={"crops": {10: 1, 9: (2, 3)}})
    assert features.open(path).origin == {"crops": {"10": 1, "9": [2, 3]}}


def test_long_origin_and_many_class_names(tmp_path: Path) -> None:
    names = [f"class number {label}" for label in range(5000)]
    origin = {"note": "x" * 100_000}
    path = features.write(tmp_path / "f.h5", {"train": (draw(N, D), LABELS)}, class_names=names, origin=origin)
    assert features.open(path).classes.names == names
    assert features.open(path).origin == origin


@pytest.mark.parametrize("dtype", ["float16", "float32", np.float16, np.dtype("float32"), torch.float16])
def test_chosen_dtype(tmp_path: Path, dtype: Any) -> None:
    path = features.write(tmp_path / "f.h5", {"train": (draw(N, D), LABELS)}, dtype=dtype)
    name = "float16" if "16" in str(dtype) else "float32"
    np.testing.assert_array_equal(features.open(path)["train"].features[0], draw(N, D).astype(name))


def test_one_split_in_float32_makes_all_float32(tmp_path: Path) -> None:
    path = features.write(
        tmp_path / "f.h5", {"train": (draw(N, D).astype(np.float16), LABELS), "test": (draw(N, D), LABELS)}
    )
    file = features.open(path)
    assert file["train"].features.dtype == np.float32
    np.testing.assert_array_equal(file["test"].features[0], draw(N, D))


def test_largest_float16_is_no_overflow(tmp_path: Path) -> None:
    given = np.full((N, D), 65504.0, np.float32)
    path = features.write(tmp_path / "f.h5", {"train": (given, LABELS)}, dtype="float16")
    assert (features.open(path)["train"].features[0] == 65504).all()


def replaced(position: tuple[int, ...], value: float, dtype: str = "float32") -> np.ndarray:
    array = draw(N, D).astype(dtype)
    array[position] = value
    return array


def arguments(train: Any = None, labels: Any = LABELS, **more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"splits": {"train": (draw(N, D) if train is None else train, labels)}, **more}


def with_split(name: str, rows: Any, labels: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"splits": {"train": (draw(N, D), LABELS), name: (rows, labels)}}


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "NaN": (arguments(replaced((7, 2), np.nan)), r"^train features of row 7, view 0 hold NaN or infinity$"),
    "infinity": (arguments(np.stack([draw(N, D), replaced((3, 0), -np.inf)])), r"row 3, view 1 hold NaN or infinity"),
    "NaN in test": (with_split("test", replaced((11, 4), np.nan), LABELS), "test features of row 11, view 0 hold NaN"),
    "float16 overflow": (
        arguments(replaced((5, 1), -70000.0), dtype="float16"),
        r"^train features of row 5, view 0 reach 70000, which overflows float16$",
    ),
    "float32 overflow": (arguments(replaced((5, 1), 1e300, "float64")), r"reach 1e\+300, which overflows float32$"),
    "label too large": (arguments(labels=[0, 1, 2, 3] * 3, class_names="abc"), r"^label 3 in train is outside 0\.\.2$"),
    "negative label": (arguments(labels=[0, 1, -1] * 4), r"^label -1 in train is outside 0\.\.1$"),
    "test label too large": (
        lambda: {**with_split("test", draw(2, D), [0, 9])(), "class_names": ["a", "b", "c"]},
        r"^label 9 in test is outside 0\.\.2$",
    ),
    "absurd label": (arguments(labels=[10**12] * N), r"^label 1000000000000 needs more than"),
    "labels beyond 64 bits": (arguments(labels=np.full(N, 2**63, np.uint64)), "reach 9223372036854775808"),
    "too few labels": (arguments(labels=LABELS[:-1]), rf"^train labels are int64 \[11\], expected {N} integers$"),
    "labels as floats": (arguments(labels=LABELS.astype(float)), r"^train labels are float64 \[12\], expected 12 int"),
    "labels one-hot": (arguments(labels=np.eye(3, dtype=int)[LABELS]), r"^train labels are int64 \[12, 3\], expected"),
    "ragged labels": (arguments(labels=[[1], [1, 2]]), "^train labels cannot be made an array"),
    "no train": (lambda: {"splits": {"test": (draw(N, D), LABELS)}}, "needs a train split; given: test"),
    "no split": (lambda: {"splits": {}}, "needs a train split; given: none"),
    "unknown split": (with_split("vall", draw(N, D), LABELS), "^unknown split 'vall'$"),
    "no pair": (lambda: {"splits": {"train": draw(2, N, D)}}, r"^train split is ndarray, expected a pair"),
    "integers": (arguments(np.ones((N, D), int)), r"^train features are int64 \[12, 5\], expected floats"),
    "one axis": (arguments(draw(N)), r"^train features are float32 \[12\], expected floats \[N, D\] or \[V, N, D\]$"),
    "four axes": (arguments(draw(N, D, 2, 2)), r"^train features are float32 \[12, 5, 2, 2\], expected floats"),
    "no row": (arguments(draw(0, D), []), r"^train features are empty: \[0, 5\]$"),
    "no feature": (arguments(draw(N, 0)), r"^train features are empty: \[12, 0\]$"),
    "views in test": (
        with_split("test", draw(2, N, D), LABELS),
        "^test has 2 views; only train can have more than one",
    ),
    "sizes differ": (with_split("val", draw(N, 4), LABELS), "^features have different sizes: train 5, val 4$"),
    "classifier transposed": (
        arguments(classifier=(draw(D, 3), draw(3))),
        r"^the classifier is \[5, 3\] and \[3\], expected \[3, 5\] and \[3\]$",
    ),
    "bias too long": (arguments(classifier=(draw(3, D), draw(4))), r"\[3, 5\] and \[4\], expected \[3, 5\] and \[3\]"),
    "classifier NaN": (arguments(classifier=(draw(3, D) * np.nan, draw(3))), "^the classifier holds NaN or infinity$"),
    "no classifier": (arguments(classifier=draw(3, D)), "^classifier is ndarray, expected a pair"),
    "dtype": (arguments(dtype="float64"), "^unknown dtype 'float64'$"),
    "ids too short": (arguments(ids={"train": [1]}), r"^train ids are int64 \[1\], expected 12 integers$"),
    "ids too large": (arguments(ids={"train": np.full(N, 2**63, np.uint64)}), "^train ids reach 9223372036854775808"),
    "ids of no split": (arguments(ids={"test": [1]}), "^unknown split 'test'$"),
    "class name with NUL": (arguments(class_names=["a", "b\0", "c"]), r"^class name 'b\\x00' is not a text that can"),
    "class name no text": (
        arguments(class_names=["a", "\ud800", "c"]),
        r"^class name '\\ud800' is not a text that can",
    ),
    "origin no mapping": (arguments(origin=["a"]), r"^origin is \['a'\], expected a mapping"),
    "origin no JSON": (arguments(origin={"model": draw(2)}), "^origin cannot be written as JSON"),
    "backbone no mapping": (arguments(origin={"backbone": "dinov2"}), "^origin's backbone is 'dinov2', expected a map"),
    "dataset name": (arguments(origin={"dataset": {"name": ["a"]}}), "^origin's dataset has name .* is no text$"),
    "factor": (arguments(origin={"dataset": {"imbalance_factor": "9"}}), "imbalance_factor '9', which is no number$"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, make: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        features.write(tmp_path / "f.h5", **make())
    assert files_in(tmp_path) == []


def test_hints_name_what_helps(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        features.write(tmp_path / "f.h5", **arguments(replaced((0, 0), 1e5), dtype="float16")())
    assert caught.value.hint == "use float32 (features.dtype)"
    with pytest.raises(InputError) as caught:
        features.write(tmp_path / "f.h5", **arguments(replaced((0, 0), 1e300, "float64"))())
    assert caught.value.hint == "scale the features down"
    with pytest.raises(InputError) as caught:
        features.write(tmp_path / "f.h5", **with_split("vall", draw(N, D), LABELS)())
    assert caught.value.hint == "did you mean 'val'? choose from: test, train, val"


def test_an_existing_file_stays_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"f\.h5 exists$") as caught:
        features.write(path, {"train": (draw(N, D), LABELS)})
    assert caught.value.hint is not None
    assert "overwrite=True" in caught.value.hint
    with pytest.raises(InputError, match="NaN"):
        features.write(path, {"train": (replaced((0, 0), np.nan), LABELS)}, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert files_in(tmp_path) == ["f.h5"]
    features.write(path, {"train": (draw(N, D), LABELS)}, overwrite=True)
    assert len(features.open(path)["train"]) == N


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "f.h5").mkdir()
    with pytest.raises(InputError, match=r"f\.h5 exists$"):
        features.write(tmp_path / "f.h5", {"train": (draw(N, D), LABELS)}, overwrite=True)


@pytest.mark.parametrize(("name", "error"), [("file/f.h5", InputError), ("file/deeper/f.h5", EnvironmentFailure)])
def test_a_file_where_a_folder_is_needed(tmp_path: Path, name: str, error: type[Exception]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match="file"):
        features.write(tmp_path / name, {"train": (draw(N, D), LABELS)})


def test_blocks_of_a_former_attempt_are_never_taken_for_these_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan does not tell arrays apart: labels and shapes are equal, yet the features are others."""
    monkeypatch.setattr(layout, "BLOCK_BYTES", 4 * D * 2)
    path = tmp_path / "f.h5"
    with monkeypatch.context() as killed:
        killed.setattr(arrays, "FeatureWriter", lambda *given, **_: FeatureWriter(*given))
        with pytest.raises(InputError, match="row 11"):
            features.write(path, {"train": (replaced((11, 0), np.nan), LABELS)})
    assert files_in(tmp_path) == ["f.h5.partial", "f.h5.partial.0.log"]
    features.write(path, {"train": (draw(N, D, seed=5), LABELS)})
    np.testing.assert_array_equal(features.open(path)["train"].features[0], draw(N, D, seed=5))
    assert files_in(tmp_path) == ["f.h5"]
