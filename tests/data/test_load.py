"""Every kind of data, made long-tailed, and what is refused."""

from __future__ import annotations

import gc
import hashlib
import pickle
import tarfile
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from gol_decouple.data import Split, load_data
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.settings import DataConfig


def save(path: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "train_images": np.zeros((6, 4, 4, 3), np.uint8),
        "train_labels": np.array([0, 0, 0, 1, 1, 2]),
        "test_images": np.zeros((3, 4, 4, 3), np.uint8),
        "test_labels": np.array([0, 1, 2]),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def npz(path: Path, **settings: object) -> DataConfig:
    return DataConfig(kind="npz", path=str(path), **settings)


def test_digits_are_real_scans_with_a_balanced_test_split() -> None:
    data = load_data(DataConfig(kind="digits"))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1297, "test": 500}
    assert np.bincount(data.splits["test"].labels).tolist() == [50] * 10
    assert data.class_names == [str(digit) for digit in range(10)]
    train = data.splits["train"]
    assert train.images.shape == (1297, 8, 8, 3)
    assert train.images.max() == 255
    assert not set(train.ids) & set(data.splits["test"].ids)


def test_digits_long_tailed_are_those_of_the_seed() -> None:
    def load(seed: int) -> Split:
        return load_data(DataConfig(kind="digits", imbalance_factor=20, seed=seed)).splits["train"]

    first = load(0)
    n0 = np.bincount(first.labels)[0]
    assert np.bincount(first.labels).tolist() == [int(n0 * 20 ** (-c / 9)) for c in range(10)]
    np.testing.assert_array_equal(first.ids, load(0).ids)
    assert not np.array_equal(first.ids, load(1).ids)


def test_npz_takes_labels_in_a_column_and_grey_images(tmp_path: Path) -> None:
    grey = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    path = save(tmp_path / "my.npz", train_images=grey, train_labels=np.array([[0], [0], [0], [1], [1], [2]]))
    data = load_data(npz(path))
    assert data.name == "my"
    assert data.class_names == ["class 0", "class 1", "class 2"]
    np.testing.assert_array_equal(data.splits["train"].images, np.stack([grey] * 3, axis=-1))
    assert data.train_counts.tolist() == [3, 2, 1]


def test_npz_keeps_val_and_class_names(tmp_path: Path) -> None:
    path = save(
        tmp_path / "my.npz",
        val_images=np.zeros((2, 4, 4, 3), np.uint8),
        val_labels=np.array([1, 2]),
        class_names=np.array(["a", "b", "c", "d"]),
    )
    data = load_data(npz(path, name="mine"))
    assert data.name == "mine"
    assert list(data.splits) == ["train", "val", "test"]
    assert data.train_counts.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("factor", [None, 1.0])
def test_without_an_imbalance_factor_the_data_stays_as_it_is(tmp_path: Path, factor: float | None) -> None:
    data = load_data(npz(save(tmp_path / "my.npz"), imbalance_factor=factor))
    np.testing.assert_array_equal(data.splits["train"].ids, np.arange(6))


def test_only_train_is_made_long_tailed(tmp_path: Path) -> None:
    path = save(
        tmp_path / "my.npz", train_images=np.zeros((30, 4, 4, 3), np.uint8), train_labels=np.repeat([0, 1, 2], 10)
    )
    data = load_data(npz(path, imbalance_factor=5, imbalance_type="step"))
    assert data.train_counts.tolist() == [10, 10, 2]
    assert len(data.splits["test"]) == 3
    assert data.imbalance_factor == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "has no test_labels; it holds test_images, train_images, train_labels"),
        ({"val_images": np.zeros((1, 4, 4, 3), np.uint8)}, "has no val_labels"),
        ({"train_labels": np.zeros((6, 2), np.int64)}, r"train: labels are int64 \[6, 2\], expected one integer"),
        ({"train_labels": np.zeros(6)}, r"train: labels are float64 \[6\]"),
        ({"train_labels": np.zeros(5, np.int64)}, "train: 6 images but 5 labels"),
        ({"train_images": np.zeros((6, 4, 4, 3))}, r"train: images are float64 \[6, 4, 4, 3\], expected uint8"),
        ({"train_images": np.zeros((6, 3, 4, 4), np.uint8)}, r"train: images are uint8 \[6, 3, 4, 4\]"),
        ({"test_labels": np.array([0, 1, 3])}, r"label 3 in the test split is outside 0..2"),
        ({"train_labels": np.array([0, 0, -1, 1, 1, 2])}, r"label -1 in the train split is outside 0..2"),
        (
            {"test_images": np.zeros((0, 4, 4, 3), np.uint8), "test_labels": np.zeros(0, np.int64)},
            "the test split has no image",
        ),
    ],
)
def test_npz_that_cannot_be_used_is_refused_with_what_and_where(
    tmp_path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_data(npz(save(tmp_path / "my.npz", **changes)))


def test_pickled_arrays_are_refused_and_never_run(tmp_path: Path) -> None:
    path = save(tmp_path / "my.npz", class_names=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(InputError, match="not a readable .npz file: object arrays cannot be loaded"):
        load_data(npz(path))


def test_npz_missing_damaged_or_unnamed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_data(npz(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="not a readable .npz file"):
        load_data(npz(tmp_path / "text.npz"))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="not a readable .npz file"):
        load_data(npz(tmp_path / "one.npy"))
    with pytest.raises(InputError, match="needs data.path"):
        load_data(DataConfig(kind="npz"))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that offers `tmp_path / "server"`."""
    handler = partial(QuietHandler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_address[1]}"
        web.shutdown()
        thread.join()
    with warnings.catch_warnings():  # torchvision leaves the sockets of failed requests to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def cifar_archive(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny archive in CIFAR-10's layout on a server of our own, fetched by torchvision's real download code."""
    source = tmp_path / "server" / "cifar-10-batches-py"
    source.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (source / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((source / name).read_bytes()).hexdigest()]

    images = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    train = write("data_batch_1", {"data": images, "labels": [0, 1] * 10})
    test = write("test_batch", {"data": images[:4], "labels": [0, 1, 2, 3]})
    meta = write("batches.meta", {"label_names": [f"thing {i}" for i in range(10)]})
    archive = tmp_path / "server" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "url", f"{server}/{archive.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [train])
    monkeypatch.setattr(CIFAR10, "test_list", [test])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return archive


def test_cifar_is_downloaded_once_and_then_read(cifar_archive: Path, tmp_path: Path) -> None:
    config = DataConfig(kind="cifar10", path=str(tmp_path / "data"))
    first = load_data(config)
    cifar_archive.unlink()
    second = load_data(config)
    assert first.class_names[3] == "thing 3"
    assert first.splits["train"].images.shape == (20, 32, 32, 3)
    assert first.train_counts.tolist() == [10, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(first.splits["train"].images, second.splits["train"].images)


def test_cifar_offline_names_the_file_and_where_to_put_it(cifar_archive: Path, tmp_path: Path) -> None:
    cifar_archive.unlink()
    with pytest.raises(EnvironmentFailure, match="cifar-10-python.tar.gz is not in .*data and could not be") as error:
        load_data(DataConfig(kind="cifar10", path=str(tmp_path / "data")))
    assert f"put it at {tmp_path / 'data' / CIFAR10.filename}" in (error.value.hint or "")


def test_cifar_damaged(cifar_archive: Path, tmp_path: Path) -> None:
    config = DataConfig(kind="cifar10", path=str(tmp_path / "data"))
    load_data(config)
    (tmp_path / "data" / CIFAR10.filename).write_bytes(b"not an archive")
    (tmp_path / "data" / "cifar-10-batches-py" / "test_batch").write_bytes(b"not a batch")
    cifar_archive.write_bytes(b"nor here")
    with pytest.raises(EnvironmentFailure, match="damaged"):
        load_data(config)


def test_real_cifar100_lt(real_data: Path) -> None:
    path = real_data / "cifar100_lt" / "cifar100_if50.npz"
    data = load_data(npz(path, imbalance_factor=100))
    assert len(data.splits["train"]) == 10_847
    assert len(data.splits["test"]) == 10_000
    assert (data.class_names[0], data.class_names[99]) == ("apple", "worm")
    assert (data.train_counts[0], data.train_counts[99]) == (500, 5)
