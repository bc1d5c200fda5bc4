"""Image lists: what a line may be, whose classes they are, and what is told and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_folder import counts, names

from gol_decouple.class_stats import class_counts, group_masks
from gol_decouple.data import Dataset, load_data
from gol_decouple.data.lists import LINE, PATHS, read_list, read_names
from gol_decouple.errors import InputError
from gol_decouple.settings import DataConfig


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def make(root: Path, **lists: list[str]) -> Path:
    """Lists `train.txt`, ... and their images of 2x2 pixels below `root`."""
    for name, lines in lists.items():
        write(root / f"{name}.txt", *lines)
        for line in lines:
            file = root / line.rsplit(None, 1)[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2)).save(file)
    return root


def config(root: Path, *splits: str, **settings: object) -> DataConfig:
    lists = {split: f"{split}.txt" for split in splits}
    return DataConfig.model_validate({"kind": "list", "path": str(root), "lists": lists} | settings)


def load(root: Path, *splits: str, **settings: object) -> Dataset:
    return load_data(config(root, *splits, **settings))


def numbered(folder: str, label: int, count: int) -> list[str]:
    return [f"{folder}/{i:03}.png {label}" for i in range(count)]


# Lines


@pytest.mark.parametrize(
    "data",
    [
        b"a/1.jpg 0\nb/2.jpg 12\n",
        b"a/1.jpg 0\r\nb/2.jpg 12\r\n",
        b"\xef\xbb\xbfa/1.jpg 0\nb/2.jpg 12\n",
        b"a/1.jpg 0\nb/2.jpg 12",
        b"\n\na/1.jpg 0\n \n\t\nb/2.jpg 12\n\n",
        b"  a/1.jpg\t0 \nb/2.jpg   012\n",
        b"./a/1.jpg 0\nb/./c/..//2.jpg 12\n",
    ],
    ids=["plain", "CRLF", "BOM", "no final newline", "empty lines", "white space", "dots"],
)
def test_lines_are_paths_and_labels(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    found = read_list(tmp_path / "a.txt")
    assert (found.name, found.paths, found.labels.tolist()) == ("a.txt", ["a/1.jpg", "b/2.jpg"], [0, 12])
    assert found.labels.dtype == np.int64
    assert not found.published


def test_a_path_may_hold_spaces_and_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("my cat/a  b.jpg 3\ncafé/ü.jpg 4\n".encode() + b"caf\xe9/1.jpg 5\n")
    odd = b"caf\xe9/1.jpg".decode(errors="surrogateescape")
    assert read_list(tmp_path / "a.txt").paths == ["my cat/a  b.jpg", "café/ü.jpg", odd]


@pytest.mark.parametrize(
    "line",
    ["a/2.jpg", "3", "a/2.jpg,3", "a/2.jpg -1", "a/2.jpg 1.0", "a/2.jpg cat", "a/2.jpg 1000000", "a/2.jpg \u0663"],
)
def test_a_malformed_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "my.txt", "a/1.jpg 0", "", line, "a/3.jpg 1")
    with pytest.raises(InputError) as error:
        read_list(path)
    assert error.value.message == f"{path}, line 3: {line!r} is not a path and a label"
    assert error.value.hint == LINE


@pytest.mark.parametrize(
    "path",
    ["/etc/1.jpg", "../1.jpg", "a/../../1.jpg", "..", ".", "a\\1.jpg", "..\\1.jpg", "C:/1.jpg", "//server/1.jpg", "/"],
)
def test_a_path_that_leaves_the_root_is_refused_with_its_line(tmp_path: Path, path: str) -> None:
    file = write(tmp_path / "my.txt", "a/1.jpg 0", f"{path} 1")
    with pytest.raises(InputError) as error:
        read_list(file)
    assert error.value.message == f"{file}, line 2: {f'{path} 1'!r} does not name a file below the data root"
    assert error.value.hint == PATHS


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes("a/1.jpg 0\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"my.txt is not a text file in UTF-8: it holds zero bytes"):
        read_list(path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_list(tmp_path)


def test_a_line_without_end_is_not_quoted_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_list(write(tmp_path / "my.txt", "x" * 10_000))
    assert len(error.value.message) < 500


# Datasets


def test_labels_paths_and_positions_are_the_lists(tmp_path: Path) -> None:
    root = make(
        tmp_path / "pets",
        train=["train/dog/b.png 2", "train/cat/1.png 0", "train/dog/a.png 2"],
        val=["val/z.png 0"],
        test=["test/my cat.png 3", "train/cat/2.png 0"],
    )
    data = load(root, "train", "val", "test")
    assert data.name == "pets", "train.txt says little"
    assert list(data.splits) == ["train", "val", "test"]
    assert data.class_names == ["cat", "class 1", "dog", "class 3"], "one more than the largest label of all lists"
    assert names(data, "train") == ["train/dog/b.png", "train/cat/1.png", "train/dog/a.png"]
    assert names(data, "test") == ["test/my cat.png", "train/cat/2.png"]
    for split, labels in (("train", [2, 0, 2]), ("val", [0]), ("test", [3, 0])):
        assert data.splits[split].labels.tolist() == labels
        assert data.splits[split].ids.tolist() == list(range(len(labels)))
        assert data.splits[split].ids.dtype == np.int64
    assert data.splits["train"].images[0].shape == (2, 2, 3)
    assert data.notes == ("train.txt, val.txt, test.txt have a layout of its own (train/dog/b.png)",)
    assert data.warnings == ()


def test_lists_lie_in_a_folder_of_their_own_or_anywhere(tmp_path: Path) -> None:
    root = make(tmp_path / "images", one=numbered("a", 0, 4), two=numbered("b", 1, 4))
    (root / "one.txt").rename(tmp_path / "Pets_LT_train.txt")
    lists = {"folder": str(tmp_path), "train": "Pets_LT_train.txt", "test": str(root / "two.txt")}
    data = load(root, lists=lists)
    assert data.name == "Pets_LT"
    assert names(data, "test")[0] == "b/000.png"
    assert load(root, lists=lists, name="mine").name == "mine"


def test_links_below_the_root_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", train=["1.png 0"])
    root = tmp_path / "root"
    write(root / "train.txt", "link/1.png 0")
    write(root / "test.txt", "link/1.png 0")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert load(root, "train", "test").splits["train"].images[0].shape == (2, 2, 3)


def test_missing_splits_are_held_out_with_a_folders_shares(tmp_path: Path) -> None:
    root = make(tmp_path, train=numbered("a", 0, 50) + numbered("b", 1, 10) + numbered("c", 2, 1))
    data = load(root, "train")
    assert counts(data) == {"train": [36, 7, 1], "val": [4, 1, 0], "test": [10, 2, 0]}
    assert sorted(np.concatenate([split.ids for split in data.splits.values()]).tolist()) == list(range(61))
    assert data.notes[1:] == (
        "there is no test split: 12 train images, 20% of each class, are held out",
        "there is no val split: 5 train images, 10% of each class, are held out",
    )
    assert counts(load(root, "train", test_fraction=0.5))["test"] == [25, 5, 0]


def test_an_empty_name_unsets_a_list(tmp_path: Path) -> None:
    root = make(tmp_path, train=numbered("a", 0, 5) + numbered("b", 1, 5))
    lists = {"train": "train.txt", "val": "", "test": ""}
    assert "there is no test split" in load(root, lists=lists).notes[1]


def test_train_can_be_made_long_tailed(tmp_path: Path) -> None:
    root = make(tmp_path, train=numbered("a", 0, 20) + numbered("b", 1, 20), test=["t.png 0"], val=["v.png 1"])
    assert counts(load(root, "train", "val", "test", imbalance_factor=10))["train"] == [20, 2]


def test_sha256_follows_the_names(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.png 0", "b.png 1"], test=["c.png 0"], other=["a.png 0", "c.png 1"])
    first = load(root, "train", "test").sha256
    assert first == load(root, "train", "test").sha256
    (root / "other.txt").replace(root / "train.txt")
    assert first != load(root, "train", "test").sha256


# What is refused


def test_settings_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.kind = 'list' needs data.lists.train") as error:
        load(tmp_path)
    assert (error.value.hint or "").startswith("--set data.lists.train=my_train.txt")
    with pytest.raises(InputError, match="data.kind = 'list' needs data.path") as error:
        load_data(DataConfig.model_validate({"kind": "list", "lists": {"train": "a.txt"}}))
    assert error.value.hint == "--data-root images"
    with pytest.raises(InputError, match="data.path = nowhere: there is no such folder"):
        load(Path("nowhere"), "train")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.png 0"])
    with pytest.raises(InputError) as error:
        load(root, "train", "test")
    assert error.value.message == f"data.lists.test: there is no file {root / 'test.txt'}"
    assert "--set data.lists.folder=..." in (error.value.hint or "")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_list_without_lines_is_an_empty_split(tmp_path: Path, split: str) -> None:
    root = make(tmp_path, train=["a.png 0"], val=["b.png 0"], test=["c.png 0"])
    (root / f"{split}.txt").write_text("\n")
    with pytest.raises(InputError, match=f"the {split} split has no image"):
        load(root, "train", "val", "test")


def test_missing_images_are_named_with_a_hint_at_the_folder(tmp_path: Path) -> None:
    root = make(tmp_path, train=["train/airfield/00000001.jpg 0", "train/airfield/00000002.jpg 0"], test=["a.png 0"])
    (root / "train/airfield/00000002.jpg").unlink()
    with pytest.raises(InputError) as error:
        load(root, "train", "test")
    named = "train/airfield/00000002.jpg (No such file or directory)"
    assert error.value.message == f"{root}: 1 of 2 images cannot be decoded: {named}"
    assert "gol-decouple check CONFIG ... > bad.txt" in (error.value.hint or "")
    write(root / "train.txt", "data_256/a/airfield/00000001.jpg 0")
    with pytest.raises(InputError) as error:
        load(root, "train", "test")
    assert "holds Places365's easy-directory layout, but the images are listed in Places365's data_256 layout" in (
        error.value.hint or ""
    )


@pytest.mark.parametrize(
    "settings", [{"lists": {"train": "a.txt"}}, {"class_names": "names.txt"}], ids=["lists", "class_names"]
)
def test_settings_of_lists_do_nothing_silently(settings: dict[str, object]) -> None:
    (key,) = settings
    with pytest.raises(InputError, match=f"data.{key} is set, but data.kind = 'digits' has no lists"):
        load_data(DataConfig.model_validate({"kind": "digits"} | settings))


# What is told


def test_lists_of_different_layouts_are_told_apart(tmp_path: Path) -> None:
    root = make(tmp_path, train=["train/n01440764/1.JPEG 0"], val=["val/n01440764/1.JPEG 0"], test=["t.png 0"])
    assert load(root, "train", "val", "test").notes == (
        "train.txt, val.txt have ImageNet's layout (train/n01440764/1.JPEG)",
        "test.txt has a layout of its own (t.png)",
    )


def test_lines_that_say_the_same_are_told_and_kept(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.png 0", "b.png 1", "./b.png 1", "a.png 0", "b.png 1"], test=["c.png 0"])
    data = load(root, "train", "test")
    told = [note for note in data.notes if "already" in note]
    assert told == ["train.txt: 3 lines stand there already, such as b.png: each line counts"]
    assert sum(counts(data)["train"]) + sum(counts(data)["val"]) == 5


def test_images_in_two_splits_are_warned_of(tmp_path: Path) -> None:
    train = ["a.png 0", "b.png 0", "c.png 1"]
    root = make(tmp_path, train=train, val=["c.png 1"], test=["d.png 1", "c.png 1", "b.png 0", "b.png 0"])
    said = "accuracies on {0} are not those of images never seen"
    assert load(root, "train", "val", "test").warnings == (
        f"1 images are in train and in val, such as c.png: {said.format('val')}",
        f"2 images are in train and in test, such as b.png: {said.format('test')}",
        f"1 images are in val and in test, such as c.png: {said.format('test')}",
    )


def test_images_with_two_labels_are_warned_of(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.png 0", "b.png 1", "a.png 2", "a.png 2"], val=["v.png 0"], test=["b.png 0"])
    assert load(root, "train", "val", "test").warnings[1:] == (
        "2 images have more than one label, such as a.png: 0 and 2",
    )


def test_duplicates_that_holding_out_drives_apart_are_warned_of(tmp_path: Path) -> None:
    root = make(tmp_path, train=[line for line in numbered("a", 0, 10) for _ in range(2)])
    assert any("are in train and in test" in warning for warning in load(root, "train").warnings)


# Class names


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["cat", "big dog", "18 wheeler"], ["cat", "big dog", "18 wheeler"]),
        (
            ["0 cat", "1 n01443537 goldfish, Carassius auratus", "2 x"],
            ["cat", "n01443537 goldfish, Carassius auratus", "x"],
        ),
        (["2 x", "0 cat", "", "1\tdog"], ["cat", "dog", "x"]),
        (["0 cat", "1 dog", "1 x"], ["0 cat", "1 dog", "1 x"]),
        (["1957 Chevy", "1960 Beetle", "2012 Audi"], ["1957 Chevy", "1960 Beetle", "2012 Audi"]),
        (["0", "1", "2"], ["0", "1", "2"]),
        (["\ufeffcat", " dog\r", "x"], ["cat", "dog", "x"]),
    ],
    ids=["names", "labels first", "any order", "a label twice", "years", "only numbers", "BOM and CRLF"],
)
def test_class_names_stand_in_label_order_or_behind_their_label(
    tmp_path: Path, lines: list[str], expected: list[str]
) -> None:
    assert read_names(write(tmp_path / "names.txt", *lines), 3) == expected


def test_class_names_of_a_file_replace_those_of_folders(tmp_path: Path) -> None:
    root = make(tmp_path, train=["x/a.png 0", "y/b.png 1"], test=["c.png 0"])
    path = write(tmp_path / "names.txt", "cat", "dog")
    assert load(root, "train", "test").class_names == ["x", "y"]
    assert load(root, "train", "test", class_names=str(path)).class_names == ["cat", "dog"]


@pytest.mark.parametrize("lines", [["cat"], ["cat", "dog", "emu"], ["0 cat", "1 dog", "2 emu"], []])
def test_a_wrong_number_of_names_is_refused(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path / "names.txt", *lines)
    root = make(tmp_path, train=["a.png 0", "b.png 1"], test=["c.png 0"])
    with pytest.raises(InputError) as error:
        load(root, "train", "test", class_names=str(path))
    assert error.value.message == f"data.class_names = {path} has {len(lines)} names, but the lists have 2 classes"


def test_class_names_that_are_not_there(tmp_path: Path) -> None:
    root = make(tmp_path, train=["a.png 0"], test=["c.png 0"])
    with pytest.raises(InputError, match="none.txt cannot be read: No such file"):
        load(root, "train", "test", class_names=str(tmp_path / "none.txt"))


# Real lists


@pytest.mark.parametrize(
    ("name", "images", "classes", "published"),
    [
        ("Places_LT_train", 62_500, 365, True),
        ("Places_LT_val", 7_300, 365, True),
        ("Places_LT_test", 36_500, 365, True),
        ("ImageNet_LT_val", 20_000, 1000, True),
        ("ImageNet_LT_test", 50_000, 1000, True),
        ("imageNet_100_LT_train", 12_205, 100, False),
        ("ImageNet_100_val", 2_000, 100, False),
        ("ImageNet_100_test", 5_000, 100, False),
    ],
)
def test_real_lists_are_read_without_their_images(
    real_data: Path, name: str, images: int, classes: int, published: bool
) -> None:
    found = read_list(real_data / "lists" / f"{name}.txt")
    assert (len(found.paths), len(found.labels), found.published) == (images, images, published)
    per_class = class_counts(found.labels, classes)
    assert (len(per_class), per_class.min() > 0) == (classes, True)


def test_real_places_lt(real_data: Path) -> None:
    lists = {split: f"Places_LT_{split}.txt" for split in ("train", "val", "test")}
    lists["folder"] = str(real_data / "lists")
    data = load_data(config(real_data, lists=lists), look=False)
    assert data.name == "Places_LT"
    assert [int(mask.sum()) for mask in group_masks(data.train_counts).values()] == [131, 163, 71]
    assert (data.train_counts.max(), data.train_counts.min()) == (4980, 5)
    assert (data.class_names[0], data.class_names[8]) == ("airfield", "apartment_building-outdoor")
    assert len(set(data.class_names)) == 365
    assert data.notes == (
        "Places_LT_train.txt, Places_LT_val.txt, Places_LT_test.txt have Places365's easy-directory layout "
        "(train/airfield/00004851.jpg), as published",
    )
    assert data.warnings == ()


def test_real_tiny_imagenet_lt(real_data: Path) -> None:
    root = real_data / "tiny_imagenet_lt"
    lists = {split: f"TinyImageNet_LT_{split}.txt" for split in ("train", "test")}
    data = load_data(config(root, lists=lists, class_names=str(root / "classes.txt")))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 5718, "val": 649, "test": 2000}
    assert data.class_names[0] == "n01443537 goldfish, Carassius auratus"
    assert load_data(config(root, lists=lists), look=False).class_names[0] == "n01443537"
