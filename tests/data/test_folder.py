"""A folder of images, and splits held out where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gol_decouple.data import Dataset, load_data
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import InputError
from gol_decouple.settings import DataConfig

LAYOUT = "it should hold train/CLASS/IMAGE and, if there are any, val/CLASS/IMAGE and test/CLASS/IMAGE"


def make(root: Path, *names: str) -> Path:
    """Images of 2x2 pixels, each of a grey of its own: its position among the names."""
    for position, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), position).save(root / name)
    return root


def make_train(root: Path, **counts: int) -> Path:
    return make(root, *(f"train/{label}/{i:03}.png" for label, count in counts.items() for i in range(count)))


def load(path: Path, **settings: object) -> Dataset:
    return load_data(DataConfig(kind="folder", path=str(path), **settings))


def names(data: Dataset, split: str) -> list[str]:
    files = data.splits[split].images
    assert isinstance(files, ImageFiles)
    return files.names


def counts(data: Dataset) -> dict[str, list[int]]:
    return {name: np.bincount(split.labels, minlength=data.num_classes).tolist() for name, split in data.splits.items()}


# Layout


def test_folders_are_classes_and_files_are_images(tmp_path: Path) -> None:
    root = make(
        tmp_path / "pets",
        "test/emu/1.png",
        "train/dog/b.png",
        "train/cat/2.png",
        "train/dog/a.png",
        "train/cat/10.png",
        "train/cat/1.png",
        "val/dog/z.png",
        "test/cat/7.png",
    )
    data = load(root)
    assert data.name == "pets"
    assert data.class_names == ["cat", "dog", "emu"], "of all splits, in alphabetical order"
    assert list(data.splits) == ["train", "val", "test"]
    train = data.splits["train"]
    assert names(data, "train") == [f"train/{name}" for name in ("cat/1.png", "cat/10.png", "cat/2.png")] + [
        "train/dog/a.png",
        "train/dog/b.png",
    ]
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert train.labels.dtype == train.ids.dtype == np.int64
    assert train.ids.tolist() == [0, 1, 2, 3, 4]
    assert [int(train.images[i].max()) for i in range(5)] == [5, 4, 2, 3, 1], "each name with its own pixels"
    assert names(data, "val") == ["val/dog/z.png"]
    assert data.splits["val"].labels.tolist() == [1]
    assert names(data, "test") == ["test/cat/7.png", "test/emu/1.png"]
    assert data.splits["test"].labels.tolist() == [0, 2]
    assert data.splits["test"].ids.tolist() == [0, 1]
    assert data.train_counts.tolist() == [3, 2, 0]
    assert data.notes == ()


def test_the_name_is_the_configs_or_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "pets", "train/a/1.png", "val/a/1.png", "test/a/1.png")
    assert load(root, name="mine").name == "mine"
    monkeypatch.chdir(root)
    assert load(Path(".")).name == "pets"


def test_a_class_folder_without_images_is_a_class(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png", "train/c/1.png", "val/a/1.png", "test/c/1.png")
    (root / "train" / "b").mkdir()
    data = load(root)
    assert data.class_names == ["a", "b", "c"]
    assert data.train_counts.tolist() == [1, 0, 1]
    assert data.splits["test"].labels.tolist() == [2]


def test_what_lies_deeper_in_a_class_belongs_to_it(tmp_path: Path) -> None:
    root = make(
        tmp_path, "train/a/2020/05/1.png", "train/a/9.png", "train/b/x/1.png", "val/a/1.png", "test/b/deep/1.png"
    )
    data = load(root)
    assert data.class_names == ["a", "b"]
    assert names(data, "train") == ["train/a/2020/05/1.png", "train/a/9.png", "train/b/x/1.png"]
    assert data.splits["train"].labels.tolist() == [0, 0, 1]
    assert names(data, "test") == ["test/b/deep/1.png"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        "train/a/1.png",
        "train/a/.1.png",
        "train/a/.thumbnails/1.png",
        "train/.cache/1.png",
        ".old/a/1.png",
        "val/a/1.png",
        "test/a/1.png",
    )
    (root / "train" / "a" / ".DS_Store").write_text("")
    data = load(root)
    assert data.class_names == ["a"]
    assert names(data, "train") == ["train/a/1.png"]
    assert data.notes == ()


def test_what_has_no_images_suffix_is_passed_over_with_a_note(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png", "train/a/deep/2.PNG", "val/a/1.png", "test/a/1.png")
    for name in ("train/a/labels.txt", "train/a/deep/png", "train/a/1.png.part", "test/a/1.md", "test/a/2.md"):
        (root / name).write_text("hello")
    data = load(root)
    assert names(data, "train") == ["train/a/1.png", "train/a/deep/2.PNG"]
    assert names(data, "test") == ["test/a/1.png"]
    assert data.notes == (
        f"{root / 'train'}: 3 of 5 files have no image's suffix: not used",
        f"{root / 'test'}: 2 of 3 files have no image's suffix: not used",
    )


def test_images_in_no_classs_folder_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png", "train/2.png", "train/3.png", "val/a/1.png", "test/a/1.png")
    assert load(root).notes == (f"{root / 'train'}: 2.png, 3.png in no class's folder: not used",)


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "train/a/1.png", "val/a/1.png", "test/a/1.png")
    make(tmp_path / "elsewhere", "2.png")
    (root / "train/a/circle").symlink_to(root / "train/a")
    (root / "train/a/other").symlink_to(tmp_path / "elsewhere")
    assert names(load(root), "train") == ["train/a/1.png", "train/a/other/2.png"]


def test_folders_beside_train_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png", "val/a/1.png", "test/a/1.png", "valid/a/1.png", "extra/b/1.png")
    data = load(root)
    assert data.class_names == ["a"]
    assert data.notes == (f"{root} also has extra, valid, which is not train, val or test: not used",)


# What is refused


def test_no_path_and_no_folder() -> None:
    with pytest.raises(InputError, match="data.kind = 'folder' needs data.path") as error:
        load_data(DataConfig(kind="folder"))
    assert error.value.hint == "--set data.path=images, or --data-root images"
    with pytest.raises(InputError, match="data.path = nowhere/photos: there is no such folder") as error:
        load(Path("nowhere/photos"))
    assert error.value.hint == "--set data.path=... names it"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_text("hello")
    with pytest.raises(InputError, match="photos.zip: there is no such folder"):
        load(tmp_path / "photos.zip")


@pytest.mark.parametrize("name", ["cat/1.png", "test/cat/1.png", "Train/cat/1.png"])
def test_without_a_folder_train_the_layout_is_told(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    with pytest.raises(InputError) as error:
        load(tmp_path)
    assert error.value.message == f"{tmp_path} has no folder train"
    assert error.value.hint == LAYOUT


@pytest.mark.parametrize("empty", ["train", "val", "test"])
@pytest.mark.parametrize("content", [[], ["1.png"], ["cat/notes.txt"]])
def test_a_split_without_images_is_refused(tmp_path: Path, empty: str, content: list[str]) -> None:
    make(tmp_path, *(f"{split}/cat/1.png" for split in ("train", "val", "test") if split != empty))
    (tmp_path / empty).mkdir()
    for name in content:
        (tmp_path / empty / name).parent.mkdir(exist_ok=True)
        (tmp_path / empty / name).write_text("hello")
    with pytest.raises(InputError) as error:
        load(tmp_path)
    assert error.value.message == f"{tmp_path / empty} has no image in a class's folder"
    assert error.value.hint == LAYOUT


def test_a_file_that_is_no_image_is_named_with_its_folders(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/1.png", "train/cat/2.png")
    (tmp_path / "train" / "cat" / "2.png").write_text("hello")
    with pytest.raises(InputError, match=r"1 of 2 images cannot be decoded: train/cat/2.png \(not an image\)"):
        load(tmp_path)


# Held out


def test_val_and_test_are_held_out_of_train_class_by_class(tmp_path: Path) -> None:
    data = load(make_train(tmp_path, many=50, medium=10, few=3, one=1))
    assert data.class_names == ["few", "many", "medium", "one"]
    assert counts(data) == {
        "train": [1, 36, 7, 1],
        "val": [1, 4, 1, 0],  # of 2, 40, 8 and 1 that are left: 0.2, 4.0 and 0.8 become 1, 4 and 1
        "test": [1, 10, 2, 0],  # 0.6, 10 and 2; of a single image nothing
    }
    assert list(data.splits) == ["train", "val", "test"]
    everything = [name for split in data.splits for name in names(data, split)]
    assert len(everything) == len(set(everything)) == 64
    ids = np.concatenate([split.ids for split in data.splits.values()])
    assert sorted(ids.tolist()) == list(range(64))
    assert data.notes == (
        "there is no test split: 13 train images, 20% of each class, are held out",
        "there is no val split: 6 train images, 10% of each class, are held out",
    )


def test_held_out_images_keep_their_labels_ids_and_pixels(tmp_path: Path) -> None:
    data = load(make_train(tmp_path, a=12, b=8))
    for split, held_in in data.splits.items():
        assert held_in.ids.tolist() == [int(held_in.images[i].max()) for i in range(len(held_in))]
        for name, label in zip(names(data, split), held_in.labels, strict=True):
            assert name.startswith(f"train/{data.class_names[label]}/")


def test_shares_are_those_of_the_config(tmp_path: Path) -> None:
    data = load(make_train(tmp_path, a=20, b=8), test_fraction=0.5, val_fraction=0.25)
    assert counts(data) == {"train": [8, 3], "val": [2, 1], "test": [10, 4]}
    assert data.notes[0] == "there is no test split: 14 train images, 50% of each class, are held out"
    assert data.notes[1] == "there is no val split: 3 train images, 25% of each class, are held out"


def test_no_val_can_be_asked_for(tmp_path: Path) -> None:
    data = load(make_train(tmp_path, a=20, b=10), val_fraction=0)
    assert counts(data) == {"train": [16, 8], "test": [4, 2]}


def test_splits_that_are_there_are_not_added_to(tmp_path: Path) -> None:
    root = make_train(tmp_path, a=20, b=10)
    with_test = load(make(root, "test/a/1.png"))
    assert counts(with_test) == {"train": [18, 9], "val": [2, 1], "test": [1, 0]}
    assert names(with_test, "test") == ["test/a/1.png"]
    assert with_test.notes == ("there is no val split: 3 train images, 10% of each class, are held out",)
    with_both = load(make(root, "val/b/1.png"))
    assert counts(with_both) == {"train": [20, 10], "val": [0, 1], "test": [1, 0]}
    assert with_both.notes == ()


def test_val_alone_leaves_test_to_be_held_out(tmp_path: Path) -> None:
    data = load(make(make_train(tmp_path, a=20, b=10), "val/a/1.png"))
    assert counts(data) == {"train": [16, 8], "val": [1, 0], "test": [4, 2]}
    assert data.notes == ("there is no test split: 6 train images, 20% of each class, are held out",)


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_share_for_a_split_that_is_there_is_refused(tmp_path: Path, name: str) -> None:
    root = make(make_train(tmp_path, a=4), f"{name}/a/1.png")
    message = f"data.{name}_fraction = 0.3, but data.kind = 'folder' has a {name} split"
    with pytest.raises(InputError, match=message) as error:
        load(root, **{f"{name}_fraction": 0.3})
    assert error.value.hint == "leave it unset"


def test_too_few_images_to_hold_any_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the (val|test) split has no image"):
        load(make_train(tmp_path, a=1, b=1))


def test_val_is_left_out_where_no_class_can_give_any(tmp_path: Path) -> None:
    assert counts(load(make_train(tmp_path, a=2, b=2))) == {"train": [1, 1], "test": [1, 1]}
    with pytest.raises(InputError, match="the val split has no image"):
        load(tmp_path, val_fraction=0.5)


def test_the_seed_chooses_what_is_held_out(tmp_path: Path) -> None:
    root = make_train(tmp_path, a=20, b=20)
    first, again, other = load(root), load(root, seed=0), load(root, seed=1)
    assert first.sha256 == again.sha256 != other.sha256
    for split in ("train", "val", "test"):
        assert names(first, split) == names(again, split)
        assert names(first, split) != names(other, split)
    assert counts(first) == counts(other)


def test_train_is_made_long_tailed_after_the_others_are_held_out(tmp_path: Path) -> None:
    root = make_train(tmp_path, a=20, b=20, c=20)
    data = load(root, imbalance_factor=7)
    assert counts(data) == {"train": [14, 5, 2], "val": [2, 2, 2], "test": [4, 4, 4]}  # int(14 / 7 ** (c / 2))
    whole = load(root)
    for split in ("val", "test"):
        assert names(data, split) == names(whole, split)
    assert set(names(data, "train")) < set(names(whole, "train"))
    assert data.imbalance_factor == 7


def test_an_imbalance_factor_is_held_against_what_is_left_of_train(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class 1 \('b'\) has 7 train images, but imbalance factor 1.5 asks for 9"):
        load(make_train(tmp_path, a=20, b=10), imbalance_factor=1.5)


# Other kinds


def save_npz(path: Path, **more: np.ndarray) -> Path:
    labels = np.repeat([0, 1, 2], [10, 5, 1])
    images = np.arange(16, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    np.savez(path, train_images=images, train_labels=labels, **more)
    return path


def test_npz_without_test_has_one_held_out_where_asked(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz")
    with pytest.raises(InputError, match="has no test_images, test_labels"):
        load_data(DataConfig(kind="npz", path=str(path)))
    data = load_data(DataConfig(kind="npz", path=str(path), test_fraction=0.2))
    assert counts(data) == {"train": [8, 4, 1], "test": [2, 1, 0]}, "val only where it is asked for"
    for split in data.splits.values():
        assert isinstance(split.images, np.ndarray)
        assert split.images[:, 0, 0, 0].tolist() == split.ids.tolist()
    assert sorted(np.concatenate([split.ids for split in data.splits.values()]).tolist()) == list(range(16))
    assert data.notes == ("there is no test split: 3 train images, 20% of each class, are held out",)


def test_npz_with_test_has_val_held_out_where_asked(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", test_images=np.zeros((1, 1, 1, 3), np.uint8), test_labels=np.array([2]))
    data = load_data(DataConfig(kind="npz", path=str(path), val_fraction=0.4))
    assert list(data.splits) == ["train", "val", "test"]
    assert counts(data) == {"train": [6, 3, 1], "val": [4, 2, 0], "test": [0, 0, 1]}
    with pytest.raises(InputError, match="data.test_fraction = 0.2, but data.kind = 'npz' has a test split"):
        load_data(DataConfig(kind="npz", path=str(path), test_fraction=0.2))
