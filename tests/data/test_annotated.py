"""Images with boxes and masks: which objects there are, how they are loaded and flipped, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated import SIZES, TRAIN, make
from conftest import RunCli
from PIL import Image

from gol_decouple.data import load_data
from gol_decouple.data.annotated import AnnotatedDataset, Segmentations
from gol_decouple.data.annotated_batches import AnnotatedBatch, AnnotatedBatches
from gol_decouple.data.loading import EPOCH, Key
from gol_decouple.data.lvis import load_annotated
from gol_decouple.errors import InputError
from gol_decouple.settings import DataConfig

Tree = dict[str, Any]


def config_of(root: Path, **more: Any) -> DataConfig:
    annotations = {"train": "train.json", "val": "val.json"} | more.pop("annotations", {})
    return DataConfig(**{"kind": "lvis", "path": str(root), "annotations": annotations, **more})


@pytest.fixture
def copied(tmp_path: Path, annotated_root: Path) -> Path:
    return Path(shutil.copytree(annotated_root, tmp_path / "root"))


@pytest.fixture(scope="module")
def dataset(annotated_root: Path) -> AnnotatedDataset:
    return load_annotated(config_of(annotated_root))


def changed(root: Path, change: Callable[[Tree], None], name: str = "train") -> AnnotatedDataset:
    tree = json.loads((root / f"{name}.json").read_text())
    change(tree)
    (root / f"{name}.json").write_text(json.dumps(tree))
    return load_annotated(config_of(root))


# What is loaded


def test_objects_are_those_of_the_file_by_image(dataset: AnnotatedDataset) -> None:
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert train.ids.tolist() == [100, 101, 102, 104], "103 has no object"
    assert val.ids.tolist() == [100, 101, 102], "val keeps an image without any"
    assert train.image_labels == [[1, 0], [1], [1, 1], [2]], "labels are in the order of category ids"
    assert val.image_labels == [[0], [], [2, 1]]
    assert train.boxes[:2].tolist() == [[4, 6, 34, 26], [50, 10, 70, 50]]
    assert train.sizes.tolist() == [list(SIZES[number]) for number in (0, 1, 2, 4)]
    assert dataset.class_names == ["three", "seven", "nine"]
    assert dataset.category_ids.tolist() == [3, 7, 9]
    assert dataset.train_counts.tolist() == [1, 4, 1]
    assert dataset.image_counts.tolist() == [1, 3, 1]
    assert dataset.frequency.tolist() == ["r", "c", "f"]
    assert any("1 of 5 images have no object and are not trained on" in note for note in dataset.notes)


def test_crowds_and_boxes_without_area_are_no_objects(copied: Path) -> None:
    def change(tree: Tree) -> None:
        tree["annotations"][0]["iscrowd"] = 1
        tree["annotations"][1]["bbox"] = [50, 10, 0, 40]
        tree["annotations"][2]["bbox"] = [-5, 10, 200, 30]

    data = changed(copied, change)
    train = data.splits["train"]
    assert train.ids.tolist() == [101, 102, 104]
    assert train.boxes[0].tolist() == [0, 10, 72, 40], "cut off at the image's edges"
    assert any("1 of 6 annotations are crowds and left out" in note for note in data.notes)
    assert any("1 of 6 annotations are boxes without area and left out" in note for note in data.notes)


def test_categories_that_val_does_not_list_are_refused(copied: Path) -> None:
    """AP is the mean over the categories that val lists: found after days of training otherwise."""

    def change(tree: Tree) -> None:
        tree["categories"] = [row for row in tree["categories"] if row["id"] != 3]
        tree["annotations"] = [row for row in tree["annotations"] if row["category_id"] != 3]

    with pytest.raises(InputError, match=r"1 categories of .*train.json are not listed in .*val.json: 3"):
        changed(copied, change, "val")


def test_one_category_is_too_few(copied: Path) -> None:
    def change(tree: Tree) -> None:
        tree["categories"] = [row for row in tree["categories"] if row["id"] == 7]
        tree["annotations"] = [row for row in tree["annotations"] if row["category_id"] == 7]

    for split in ("val", "train"):
        path = copied / f"{split}.json"
        tree = json.loads(path.read_text())
        change(tree)
        path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="has one category, and a classifier needs two"):
        load_annotated(config_of(copied))


def test_taking_images_takes_their_objects(dataset: AnnotatedDataset) -> None:
    some = dataset.splits["train"].take(np.array([3, 0]))
    assert some.ids.tolist() == [104, 100]
    assert some.image_labels == [[2], [1, 0]]
    assert some.boxes.tolist() == [[20, 5, 50, 45], [4, 6, 34, 26], [50, 10, 70, 50]]
    assert [some.segmentations[at][0][:2] for at in some.masks.tolist()] == [[20, 5], [4, 6], [50, 10]]


def test_the_limit_is_a_seeded_choice_of_each_split(annotated_root: Path) -> None:
    def ids(**more: Any) -> list[list[int]]:
        splits = load_annotated(config_of(annotated_root, limit=2, **more)).splits
        return [splits[name].ids.tolist() for name in ("train", "val")]

    assert ids() == ids()
    assert [len(some) for some in ids()] == [2, 2]
    assert len({str(ids(seed=seed)) for seed in range(6)}) > 1
    assert all(some == sorted(some) for some in ids())
    assert load_annotated(config_of(annotated_root, limit=9)).splits["train"].ids.tolist() == [100, 101, 102, 104]


def test_the_hash_tells_boxes_masks_and_labels(copied: Path, dataset: AnnotatedDataset) -> None:
    def move(tree: Tree) -> None:
        tree["annotations"][0]["bbox"][0] += 1

    def cut(tree: Tree) -> None:
        tree["annotations"][0]["segmentation"][0][0] += 1

    assert changed(copied, lambda tree: None).sha256 == dataset.sha256
    assert changed(copied, move).sha256 != dataset.sha256
    assert changed(copied, cut).sha256 not in (dataset.sha256, changed(copied, move).sha256)


def test_segmentations_come_back_as_they_were() -> None:
    given = [[[0.1, 2, 3.5, 4, 5, 6]], {"size": [3, 4], "counts": "0é5"}, None, [[1, 2, 3, 4, 5, 6], [7.25] * 6]]
    kept = Segmentations(given)
    assert [kept[at] for at in range(4)] == given


def test_a_class_without_train_objects_is_a_warning(copied: Path, tmp_path: Path, run_cli: RunCli) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'[data]\nkind = "lvis"\npath = "{copied}"\n[data.annotations]\ntrain = "train.json"\nval = "val.json"\n'
        '[backbone]\nname = "torchvision:resnet18"\n[stage1]\nepochs = 0\n'
    )
    tree = json.loads((copied / "train.json").read_text())
    tree["annotations"] = [row for row in tree["annotations"] if row["category_id"] != 9]
    (copied / "train.json").write_text(json.dumps(tree))
    outcome = run_cli("stage1", config, "--runs-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "warning: no train sample of 1 classes: nine" in outcome.err
    shutil.rmtree(tmp_path / "runs")


# Batches


def batches(dataset: AnnotatedDataset, keys: list[list[Key]], **more: Any) -> list[AnnotatedBatch]:
    return list(AnnotatedBatches(dataset.splits["train"], keys, **{"workers": 0, **more}))


def test_a_batch_has_images_boxes_labels_and_masks(dataset: AnnotatedDataset, annotated_root: Path) -> None:
    (batch,) = batches(dataset, [[Key(2), Key(0)]])
    images, targets = batch.images(), batch.targets()
    assert [tuple(image.shape) for image in images] == [(3, 72, 64), (3, 64, 80)]
    with Image.open(annotated_root / "train" / "2.png") as file:
        np.testing.assert_allclose(images[0].permute(1, 2, 0), np.asarray(file) / 255.0, atol=1e-6)
    assert [target["labels"].tolist() for target in targets] == [[1, 1], [1, 0]]
    assert batch.indices.tolist() == [2, 0]
    for target, number in zip(targets, (2, 0), strict=True):
        for mask, (_, (x, y, w, h)) in zip(target["masks"], TRAIN[number], strict=True):
            wanted = torch.zeros_like(mask)
            wanted[int(y) : int(y + h), int(x) : int(x + w)] = 1
            assert torch.equal(mask, wanted)
            assert mask.dtype == torch.uint8
    (without,) = batches(dataset, [[Key(0)]], masks=False)
    assert "masks" not in without.targets()[0]


def test_a_flip_mirrors_image_boxes_and_masks_half_of_the_time(dataset: AnnotatedDataset) -> None:
    (plain,) = batches(dataset, [[Key(0)]])
    flips = []
    for position in range(40):
        (batch,) = batches(dataset, [[Key(0, (EPOCH, 0, position))]], flip=True)
        image, target = batch.images()[0], batch.targets()[0]
        is_flipped = not torch.equal(image, plain.images()[0])
        flips.append(is_flipped)
        if is_flipped:
            assert torch.equal(image.flip(2), plain.images()[0])
            assert torch.equal(target["masks"].flip(2), plain.targets()[0]["masks"])
            assert target["boxes"].tolist() == [[46, 6, 76, 26], [10, 10, 30, 50]]
    assert 8 < sum(flips) < 32
    (clean,) = batches(dataset, [[Key(0)]], flip=True)
    assert torch.equal(clean.pixels, plain.pixels), "a key without a draw is the clean view"


def test_batches_are_equal_in_worker_processes(dataset: AnnotatedDataset) -> None:
    keys = [[Key(at, (EPOCH, 1, at)) for at in pair] for pair in ((0, 1), (2, 3))]
    for one, other in zip(batches(dataset, keys, flip=True), batches(dataset, keys, flip=True, workers=2), strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_an_image_of_another_size_is_named_while_loading(copied: Path) -> None:
    data = load_annotated(config_of(copied))
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(copied / "train" / "1.png")
    with pytest.raises(InputError, match=r"train/1.png is 30x30 \(width x height\), its annotations are of 72x56"):
        batches(data, [[Key(0), Key(1)]])


# What is refused


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"path": None}, "data.kind = 'lvis' needs data.path", "--data-root images"),
        ({"path": "/nowhere"}, "data.path = /nowhere: there is no such folder", "--set data.path"),
        ({"annotations": {"val": None}}, "needs data.annotations.val", "--set data.annotations.val=my_val.json"),
        ({"annotations": {"train": "no.json"}}, "data.annotations.train: there is no file", "data.annotations.folder"),
    ],
)
def test_files_that_are_not_there_are_told(
    annotated_root: Path, settings: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_annotated(config_of(annotated_root, **settings))
    assert hint in (error.value.hint or "")


def test_annotations_without_masks_are_refused_before_training(copied: Path) -> None:
    def change(tree: Tree) -> None:
        del tree["annotations"][0]["segmentation"]
        tree["annotations"][1]["segmentation"] = [[1, 2, 3]]

    with pytest.raises(InputError, match="2 annotations have no mask to train on") as error:
        changed(copied, change)
    assert "annotation 1 (segmentation is missing)" in error.value.message
    assert "annotation 2 (a polygon is [1, 2, 3], expected at least three corners" in error.value.message
    assert "gol-decouple check" in (error.value.hint or "")


def test_images_of_another_size_than_the_file_says_are_refused(copied: Path) -> None:
    def change(tree: Tree) -> None:
        tree["images"][1]["height"] = 57

    with pytest.raises(InputError, match=r"1 images have another size than it says: train/1.png is 72x56") as error:
        changed(copied, change)
    assert "gol-decouple check" in (error.value.hint or "")


def test_missing_images_are_named(copied: Path) -> None:
    (copied / "val" / "2.png").unlink()
    with pytest.raises(InputError, match="val/2.png"):
        load_annotated(config_of(copied))
    assert len(load_annotated(config_of(copied), look=False).splits["val"]) == 3


def test_a_val_file_of_other_categories_is_refused(copied: Path) -> None:
    def change(tree: Tree) -> None:
        tree["categories"].append({"id": 11, "name": "eleven", "frequency": "r"})

    with pytest.raises(InputError, match="category 11 of .*val.json is 'eleven', but .* has no such category"):
        changed(copied, change, "val")


def test_a_train_file_without_objects_is_refused(copied: Path) -> None:
    def change(tree: Tree) -> None:
        for row in tree["annotations"]:
            row["iscrowd"] = 1

    with pytest.raises(InputError, match="no image of it has an object"):
        changed(copied, change)


def test_cocos_format_is_refused_with_the_way_to_lvis(copied: Path) -> None:
    def change(tree: Tree) -> None:
        for row in tree["images"]:
            del row["neg_category_ids"]

    with pytest.raises(InputError, match="no image has neg_category_ids") as error:
        changed(copied, change)
    assert "gol-decouple convert" in (error.value.hint or "")


def test_images_of_one_label_are_not_loaded_from_it(annotated_root: Path) -> None:
    with pytest.raises(InputError, match="data.kind = 'lvis' has images with boxes, not with one label"):
        load_data(config_of(annotated_root))


def test_images_of_train_and_val_are_warned_of(copied: Path) -> None:
    data = load_annotated(config_of(copied, annotations={"val": "train.json"}))
    assert data.warnings == (
        "4 images are in train and in val, such as train/0.png: average precisions on val are not those of images "
        "never seen",
    )
    assert load_annotated(config_of(copied)).warnings == ()


# check


def test_check_looks_at_both_files(tmp_path: Path, run_cli: RunCli) -> None:
    root = make(tmp_path / "root")
    config = tmp_path / "c.toml"
    config.write_text(
        '[data]\nkind = "lvis"\n[data.annotations]\ntrain = "train.json"\nval = "val.json"\n'
        '[backbone]\nname = "torchvision:resnet18"\n[stage1]\nepochs = 1\n'
    )
    outcome = run_cli("check", config, "--data-root", root)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.count("nothing is wrong with") == 2
    (root / "train" / "0.png").write_bytes(b"no image")
    (root / "val" / "2.png").unlink()
    outcome = run_cli("check", config, "--data-root", root)
    assert outcome.code == 2
    assert "train/0.png\tnot an image\n" in outcome.out
    assert "val/2.png\t" in outcome.out
    assert "train.json: 1 bad entries and images" in outcome.err
    assert "val.json: 1 bad entries and images" in outcome.err


def test_check_warns_of_what_stage_one_would(tmp_path: Path, run_cli: RunCli) -> None:
    root = make(tmp_path / "root")
    config = tmp_path / "c.toml"
    config.write_text(
        '[data]\nkind = "lvis"\n[data.annotations]\ntrain = "val.json"\nval = "val.json"\n'
        '[backbone]\nname = "torchvision:resnet18"\n[stage1]\nepochs = 1\n'
    )
    tree = json.loads((root / "val.json").read_text())
    tree["annotations"] = [row for row in tree["annotations"] if row["category_id"] != 9]
    (root / "val.json").write_text(json.dumps(tree))
    outcome = run_cli("check", config, "--data-root", root)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.count("nothing is wrong with") == 1
    assert "warning: 2 images are in train and in val, such as val/0.png" in outcome.err
    assert "warning: no train sample of 1 classes: nine\n" in outcome.err
    tree["categories"] = tree["categories"][1:]
    tree["annotations"] = [row for row in tree["annotations"] if row["category_id"] != 7]
    (root / "train.json").write_text(json.dumps(tree))
    refused = run_cli("check", config, "--data-root", root, "--set", "data.annotations.train=train.json")
    assert refused.code == 2
    assert "nothing is wrong with" in refused.err
    assert "train.json has no such category\n" in refused.err
