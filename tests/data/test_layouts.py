"""What published lists are called by their paths, their classes, and the hint where images are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gol_decouple.data.layouts import class_names, layout, missing_hint


def make(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


EASY = [
    "train/airfield/00004851.jpg",
    "train/apartment_building-outdoor/00000794.jpg",
    "train/church-indoor/00000001.jpg",
]
DEEP = [
    "data_256/a/airfield/00004851.jpg",
    "data_256/a/apartment_building/outdoor/00000794.jpg",
    "data_256/c/church/indoor/00000001.jpg",
]


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["train/n01440764/n01440764_762.JPEG", "val/n01440764/ILSVRC2012_val_00029930.JPEG"], "ImageNet's layout"),
        (["val/n01443537/val_1230.JPEG"], "ImageNet's layout"),
        (EASY, "Places365's easy-directory layout"),
        (["val/airfield/Places365_val_00003597.jpg"], "Places365's easy-directory layout"),
        (DEEP, "Places365's data_256 layout"),
        (["val_256/Places365_val_00003597.jpg"], "Places365's data_256 layout"),
        (["train_val2018/Plantae/7477/3b60c9486db1d2ee875f11a669fbde4a.jpg"], "iNaturalist's layout"),
        (["test2018/3b60c9486db1d2ee875f11a669fbde4a.jpg"], "iNaturalist's layout"),
        (["train/cat/1.jpg"], "a layout of its own"),
        (["train/n01440764/1.jpg", "extra/1.jpg"], "a layout of its own"),
        ([*EASY, *DEEP], "a layout of its own"),
        (["1.jpg"], "a layout of its own"),
        ([], "a layout of its own"),
    ],
)
def test_a_layout_is_that_of_all_paths(paths: list[str], name: str) -> None:
    assert layout(paths) == name


def test_both_layouts_of_places_have_the_same_class_names() -> None:
    expected = ["airfield", "apartment_building-outdoor", "church-indoor"]
    assert class_names(EASY, [0, 1, 2], 3) == class_names(DEEP, [0, 1, 2], 3) == expected


def test_a_classs_name_is_its_own_folder() -> None:
    paths = ["a/cat/1.jpg", "a/cat/2.jpg", "a/dog/1.jpg"]
    assert class_names(paths, [1, 1, 0], 2) == ["dog", "cat"]
    assert class_names(["train_val2018/Plantae/7477/x.jpg", "train_val2018/Aves/12/y.jpg"], [0, 1], 2) == ["7477", "12"]


def test_a_class_without_a_folder_of_its_own_has_a_number() -> None:
    shared = ["all/1.jpg", "all/2.jpg", "cat/1.jpg"]
    assert class_names(shared, [0, 1, 2], 3) == ["class 0", "class 1", "cat"], "two classes in a folder"
    spread = ["cat/2019/1.jpg", "cat/2020/1.jpg", "dog/1.jpg"]
    assert class_names(spread, [0, 0, 1], 2) == ["class 0", "dog"], "two folders of a class"
    assert class_names(["1.jpg", "cat/1.jpg"], [0, 1], 2) == ["class 0", "cat"], "no folder"
    assert class_names(["cat/1.jpg"], [1], 3) == ["class 0", "cat", "class 2"], "no image"


def test_last_folders_that_are_the_same_are_told_whole() -> None:
    paths = ["church/indoor/1.jpg", "market/indoor/1.jpg", "sea/1.jpg"]
    assert class_names(paths, [0, 1, 2], 3) == ["church/indoor", "market/indoor", "sea"]


def test_a_name_that_is_not_utf_8_can_be_written() -> None:
    (name,) = class_names([b"caf\xe9/1.jpg".decode(errors="surrogateescape")], [0], 1)
    assert name == "caf\ufffd"


# Images that are not there


def test_the_other_layout_is_recognised(tmp_path: Path) -> None:
    easy, deep = make(tmp_path / "easy", "train/airfield"), make(tmp_path / "deep", "data_256/a/airfield")
    for root, paths, holds, listed in (
        (deep, EASY, "data_256", "easy-directory"),
        (easy, DEEP, "easy-directory", "data_256"),
    ):
        assert missing_hint(root, paths) == (
            f"{root} holds Places365's {holds} layout, but the images are listed in Places365's {listed} layout: take "
            "the list that goes with the images"
        )
    imagenet = make(tmp_path / "imagenet", "train/n01440764")
    assert "holds ImageNet's layout, but" in (missing_hint(imagenet, EASY) or "")
    inat = make(tmp_path / "inat", "train_val2018/Plantae")
    assert "holds iNaturalist's layout, but" in (missing_hint(inat, EASY) or "")


def test_a_part_of_the_same_layout_is_no_other(tmp_path: Path) -> None:
    root = make(tmp_path / "imagenet", "train/n01440764")
    hint = missing_hint(root, ["val/n01440764/ILSVRC2012_val_00029930.JPEG"])
    assert hint == f"{root} has no folder val, it has train: --data-root names another root"


def test_a_folder_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "training", "valid")
    expected = f"{root} has no folder train, it has training, valid: --data-root names another root"
    assert missing_hint(root, ["train/cat/1.jpg"]) == expected
    unsorted = make(tmp_path / "unsorted", "val")
    hint = missing_hint(unsorted, ["val/n01440764/ILSVRC2012_val_00029930.JPEG"])
    assert hint == f"{unsorted / 'val'} has no folder n01440764, it has no folder: --data-root names another root"


def test_a_root_too_deep_or_not_deep_enough_is_told(tmp_path: Path) -> None:
    make(tmp_path, "images/train/cat")
    right = tmp_path / "images"
    expected = f"{right} has a folder train: --data-root {right}"
    assert missing_hint(tmp_path, ["train/dog/1.jpg"]) == expected
    assert missing_hint(right / "train", ["train/dog/1.jpg"]) == expected


def test_no_hint_where_only_files_are_missing(tmp_path: Path) -> None:
    root = make(tmp_path, "train/cat")
    assert missing_hint(root, ["train/cat/1.jpg"]) is None
    assert missing_hint(root, ["1.jpg"]) is None
    assert missing_hint(root, []) is None
