"""Images that a file names are left out, and told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gol_decouple.data import Dataset, load_data
from gol_decouple.data.images import ImageFiles
from gol_decouple.data.skipping import to_line
from gol_decouple.errors import InputError
from gol_decouple.settings import DataConfig


def make(root: Path, *names: str) -> Path:
    for position, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), position).save(root / name, format="PNG")
    return root


def make_train(root: Path, **counts: int) -> Path:
    return make(root, *(f"train/{label}/{i:03}.png" for label, count in counts.items() for i in range(count)))


def load(root: Path, *lines: str, **settings: object) -> Dataset:
    """A folder's images without those of `lines`."""
    skip = root.parent / "bad.txt"
    skip.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
    return load_data(DataConfig.model_validate({"kind": "folder", "path": str(root), "skip": str(skip)} | settings))


def names(data: Dataset, split: str) -> list[str]:
    files = data.splits[split].images
    assert isinstance(files, ImageFiles)
    return files.names


def test_images_are_left_out_of_every_split(tmp_path: Path) -> None:
    root = make(tmp_path / "a", *(f"{split}/cat/{i}.png" for split in ("train", "val", "test") for i in range(4)))
    (root / "train/cat/1.png").write_text("hello")
    (root / "test/cat/3.png").unlink()
    (root / "test/cat/3.png").symlink_to("nowhere")
    data = load(root, "train/cat/1.png\tnot an image", "test/cat/3.png\tmissing", "train/cat/2.png")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 2, "val": 4, "test": 3}
    assert names(data, "train") == ["train/cat/0.png", "train/cat/3.png"]
    assert data.splits["train"].ids.tolist() == [0, 3], "positions are those of all files"
    assert data.notes == (
        f"data.skip = {tmp_path / 'bad.txt'}: 2 of 4 train, 1 of 4 test images are left out: test/cat/3.png, "
        "train/cat/1.png, train/cat/2.png",
    )


def test_names_that_are_not_in_the_data_are_told(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "train/cat/1.png", "train/cat/2.png", "val/cat/1.png", "test/cat/1.png")
    data = load(root, "train/cat/2.png\tbad", "cat/1.png\tbad", *(f"x/{i}.png" for i in range(4)))
    assert data.notes[-1].endswith("5 of its names are not in the data: cat/1.png, x/0.png, x/1.png and 2 more")
    assert names(data, "train") == ["train/cat/1.png"]
    assert "no image is left out; 1 of its names are not in the data: x.png" in load(root, "x.png").notes[-1]
    assert load(root).notes == (f"data.skip = {tmp_path / 'bad.txt'}: no image is left out",)


@pytest.mark.parametrize(
    "line",
    ["train/cat/1.png", "train/cat/1.png\tbad", "./train//cat/1.png", "train/cat/1.png\r", "\ufefftrain/cat/1.png"],
)
def test_a_line_is_a_name_with_or_without_a_reason(tmp_path: Path, line: str) -> None:
    root = make(tmp_path / "a", "train/cat/1.png", "train/cat/2.png", "val/cat/1.png", "test/cat/1.png")
    data = load(root, line, "", "  ")
    assert names(data, "train") == ["train/cat/2.png"]
    assert "not in the data" not in data.notes[-1]


@pytest.mark.parametrize("name", ["a b.png", "a\tb.png", "a\nb.png", "caf\udce9.png", "é.png"])
def test_every_name_that_is_written_is_found_again(tmp_path: Path, name: str) -> None:
    odd = f"train/cat/{name}"
    root = make(tmp_path / "a", odd, "train/cat/2.png", "val/cat/1.png", "test/cat/1.png")
    line = to_line(odd, "some\treason\nof two lines")
    assert "\n" not in line
    for written in (line, line.rpartition("\t")[0]):
        data = load(root, written)
        assert names(data, "train") == ["train/cat/2.png"]
        assert "not in the data" not in data.notes[-1]


def test_images_are_left_out_before_others_are_held_out(tmp_path: Path) -> None:
    root = make_train(tmp_path / "a", cat=20, dog=10)
    data = load(root, *(f"train/cat/{i:03}.png" for i in range(10)))
    sizes = {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()}
    assert sizes == {"train": [7, 7], "val": [1, 1], "test": [2, 2]}
    assert "10 of 30 train images are left out" in data.notes[0], "told first"


def test_a_split_that_becomes_empty_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "train/cat/1.png", "val/cat/1.png", "test/cat/1.png")
    for split in ("train", "val", "test"):
        with pytest.raises(InputError, match=f"the {split} split has no image"):
            load(root, f"{split}/cat/1.png")


def test_lists_leave_images_out_and_keep_their_labels(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "x/0.png", "y/1.png", "z/2.png")
    (root / "train.txt").write_text("x/0.png 0\n./y/1.png 1\nz/2.png 2\nmissing.png 3\n")
    (root / "test.txt").write_text("x/0.png 0\nz/2.png 2\n")
    lists = {"train": "train.txt", "test": "test.txt"}
    data = load(root, "missing.png", "z/2.png", "y/1.png", kind="list", lists=lists)
    assert data.class_names == ["x", "y", "z", "class 3"], "C is that of the lists"
    assert data.splits["train"].labels.tolist() == [0]
    assert "3 of 4 train, 1 of 2 test images are left out" in data.notes[1]


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    root = make_train(tmp_path / "a", cat=5)
    with pytest.raises(InputError, match="data.skip = nowhere.txt cannot be read: No such file") as error:
        load(root, skip="nowhere.txt")
    assert error.value.hint == "gol-decouple check CONFIG > bad.txt writes it"
    with pytest.raises(InputError, match=r"000.png is not a text file in UTF-8"):
        load(root, skip=str(root / "train/cat/000.png"))


@pytest.mark.parametrize("kind", ["digits", "npz", "cifar10"])
def test_kinds_without_files_have_none_to_leave_out(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=f"data.skip leaves out images in files, but data.kind = '{kind}' has none"):
        load(tmp_path / "a", kind=kind)
