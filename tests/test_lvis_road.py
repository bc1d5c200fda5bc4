"""Annotations through the command line: `convert`, and `check` of a file of annotations."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, RunCli
from lvis_files import SQUARE, Tree, as_coco, tiny, write
from PIL import Image

from gol_decouple.data.lvis_counts import count
from gol_decouple.data.lvis_json import read_annotations

EXHAUSTIVE = (
    "neg_category_ids: every class that an image has no annotation of counts as verified not to be in it, as in COCO, "
    "where all instances of all classes are annotated; where they are not, results would be told as wrong that are "
    "right\n"
)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The tiny file in COCO's format, with text beyond ASCII, a crowd, and an annotation without area."""
    tree = as_coco(tiny())
    tree["categories"][0]["name"] = "sieben, 七"
    tree["info"] = {"year": 2026}
    del tree["annotations"][1]["area"]
    return write(tmp_path / "coco.json", tree)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The images of the tiny file, as it calls them."""
    root = tmp_path / "photos"
    for name in ("train2017/000000000020.jpg", "val2017/000000000010.jpg"):
        (root / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(root / name)
    return root


def read(path: Path) -> Tree:
    tree: Tree = json.loads(path.read_text(encoding="utf-8"))
    return tree


# convert


def test_convert_adds_what_lvis_has_and_keeps_the_rest(coco: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "lvis.json"
    outcome = run_cli("convert", coco, out)
    assert outcome.code == 0
    assert outcome.out == (
        f"{out}: 2 images (1 annotated), 3 annotations (1 crowds), 2 categories (2 rare, 0 common, 0 frequent)\n"
    )
    assert outcome.err == (
        "1 of 3 annotations have no area: that of the box is taken\n"
        f"{EXHAUSTIVE}frequencies, image_count and instance_count are those of {coco}\n"
    )
    before, after = read(coco), read(out)
    assert after["info"] == {"year": 2026}
    before["annotations"][1]["area"] = 5.0
    assert after["annotations"] == before["annotations"]
    negative = [[], [3, 7]]  # the class of a crowd is not absent
    assert after["images"] == [
        {**row, "neg_category_ids": ids, "not_exhaustive_category_ids": []}
        for row, ids in zip(before["images"], negative, strict=True)
    ]
    assert after["categories"] == [
        {"id": 7, "name": "sieben, 七", "frequency": "r", "image_count": 1, "instance_count": 2},
        {"id": 3, "name": "three", "frequency": "r", "image_count": 1, "instance_count": 1},
    ]
    assert read_annotations(out).notes == ()


def test_the_same_input_gives_the_same_bytes(coco: Path, tmp_path: Path, run_cli: RunCli) -> None:
    for name in ("a.json", "b.json"):
        assert run_cli("convert", coco, tmp_path / name).code == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("as_lvis", [False, True])
def test_frequencies_are_those_of_train(coco: Path, tmp_path: Path, run_cli: RunCli, as_lvis: bool) -> None:
    tree = read(coco)
    image, annotation = tree["images"][0], tree["annotations"][0]
    tree["images"] = [{**image, "id": id_} for id_ in range(11)]
    tree["annotations"] = [{**annotation, "id": id_, "image_id": id_} for id_ in range(11)]
    tree["categories"].insert(0, {"id": 1, "name": "another, before those of the file"})
    train, out = write(tmp_path / "train.json", tree), tmp_path / "lvis.json"
    if as_lvis:
        assert run_cli("convert", train, tmp_path / "lvis_train.json").code == 0
        train = tmp_path / "lvis_train.json"
    outcome = run_cli("convert", coco, out, "--frequencies-from", train)
    assert (outcome.code, outcome.out.endswith("(1 rare, 1 common, 0 frequent)\n")) == (0, True)
    assert outcome.err.endswith(f"frequencies, image_count and instance_count are those of {train}\n")
    seven, three = read(out)["categories"]
    assert (seven["frequency"], seven["image_count"], seven["instance_count"]) == ("c", 11, 11)
    assert (three["frequency"], three["image_count"], three["instance_count"]) == ("r", 0, 0)


def test_frequencies_of_other_categories_are_refused(coco: Path, tmp_path: Path, run_cli: RunCli) -> None:
    train = write(tmp_path / "train.json", tiny())
    outcome = run_cli("convert", coco, tmp_path / "lvis.json", "--frequencies-from", train)
    assert outcome.code == 2
    assert f"error: category 7 of {coco} is 'sieben, 七', but {train} calls it 'seven'\n" in outcome.err
    assert not (tmp_path / "lvis.json").exists()


def test_convert_never_writes_over_a_file_unasked(coco: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "lvis.json"
    out.write_text("mine")
    outcome = run_cli("convert", coco, out)
    told = f"error: {out} exists\nhint: --overwrite replaces it, another name keeps it\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", told)
    assert out.read_text() == "mine"
    assert run_cli("convert", coco, out, "--overwrite").code == 0
    assert read_annotations(out).federated
    before = coco.read_bytes()
    for arguments in ((coco, coco), (out, coco, "--frequencies-from", coco)):
        outcome = run_cli("convert", *arguments, "--overwrite")
        assert (outcome.code, outcome.err) == (2, f"error: {coco} is what is read\nhint: name another output\n")
    assert coco.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(
    coco: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lvis.json"
    out.write_text("mine")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = run_cli("convert", coco, out, "--overwrite")
    assert (outcome.code, "the disk is full" in outcome.err) == (3, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco.json", "lvis.json"]
    assert out.read_text() == "mine"


def test_convert_refuses_bad_input(coco: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "lvis.json"

    def refused(source: Path, *more: object, target: Path = out) -> str:
        outcome = run_cli("convert", source, target, *more)
        assert (outcome.code, outcome.out, out.exists()) == (2, "", False)
        return outcome.err

    lvis = write(tmp_path / "already.json", tiny())
    assert f"error: {lvis} is in LVIS's format already: its images have neg_category_ids\n" in refused(lvis)
    assert "error: nothing.json cannot be read: No such file or directory" in refused(Path("nothing.json"))
    assert "there is no folder" in refused(coco, target=tmp_path / "no" / "lvis.json")
    assert "nothing.json cannot be read" in refused(coco, "--frequencies-from", "nothing.json")
    tree = read(coco)
    tree["annotations"][0]["score"] = float("nan")
    odd = write(tmp_path / "odd.json", tree)
    assert f"error: {odd} holds NaN or Infinity, which JSON does not have\n" in refused(odd)
    tree["annotations"][0]["image_id"] = 5
    bad = write(tmp_path / "bad.json", tree)
    assert f"error: {bad}: 1 bad entries: annotation 3 (there is no image 5)\n" in refused(bad)
    tree["annotations"] = []
    empty = write(tmp_path / "empty.json", tree)
    assert f"error: {empty} has no annotations to count\n" in refused(empty)


def test_coco_lt_without_lvis_fields_gets_them_back(real_data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    paths = {}
    for split in ("train", "val"):
        tree = read(real_data / "coco_lt" / f"coco_lt_{split}.json")
        source, paths[split] = write(tmp_path / f"coco_{split}.json", as_coco(tree)), tmp_path / f"lvis_{split}.json"
        outcome = run_cli("convert", source, paths[split], "--frequencies-from", tmp_path / "coco_train.json")
        assert outcome.code == 0
        assert "77 categories (55 rare, 21 common, 1 frequent)" in outcome.out
        original = read_annotations(real_data / "coco_lt" / f"coco_lt_{split}.json")
        made = read_annotations(paths[split])
        expected, found = count(original), count(made)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.instances, expected.instances)
        assert np.array_equal(found.frequency, expected.frequency)
        assert found.num_images == expected.num_images
        assert np.array_equal(made.images.negative, original.images.negative)
        assert made.images.not_exhaustive.shape == (0, 2)
        assert made.annotations.segmentations == original.annotations.segmentations
    assert found.notes[0].startswith("image_count is not what the file holds")  # val states the counts of train
    assert count(read_annotations(paths["train"])).notes == ()


# check


def check(run_cli: RunCli, tree: Tree, photos: Path, *more: object) -> Outcome:
    return run_cli("check", write(photos.parent / "tiny.json", tree), "--data-root", photos, *more)


def test_nothing_is_wrong_with_a_good_file(photos: Path, run_cli: RunCli) -> None:
    outcome = check(run_cli, tiny(), photos)
    path = photos.parent / "tiny.json"
    assert (outcome.code, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    assert lines[:3] == [
        f"reading {path}",
        f"{path}: LVIS's format, 2 images, 3 annotations, 2 categories",
        "1 images are annotated; categories: 1 rare, 1 common, 0 frequent",
    ]
    assert lines[-1] == f"nothing is wrong with {path}"
    assert f"all images are found in {photos} by folder and file of coco_url, as train2017/000000000020.jpg" in lines
    assert any(line.startswith("check: 2/2 images (100%)") for line in lines)
    assert any(line.startswith("masks: 3/3 annotations (100%)") for line in lines)


def test_cocos_format_is_checked_too_and_images_only_with_a_root(coco: Path, run_cli: RunCli) -> None:
    outcome = run_cli("check", coco)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"{coco}: COCO's format (gol-decouple convert makes LVIS's of it), 2 images" in outcome.err
    assert "no --data-root: images were not looked at\n" in outcome.err


BAD_ANNOTATIONS = [
    ({"bbox": [2, 1, 0, 3]}, "bbox [2, 1, 0, 3] has no area"),
    ({"bbox": [2, 1, 4, -3]}, "bbox is [2.0, 1.0, 4.0, -3.0], of negative width or height"),
    ({"bbox": [-1.1, 1, 4, 3]}, "bbox [-1.1, 1, 4, 3] reaches out of its image of 10x8 (width x height)"),
    ({"bbox": [1, -2, 4, 3]}, "bbox [1, -2, 4, 3] reaches out of its image of 10x8 (width x height)"),
    ({"bbox": [7, 1, 4.1, 3]}, "bbox [7, 1, 4.1, 3] reaches out of its image of 10x8 (width x height)"),
    ({"bbox": [7, 7, 1, 2.1]}, "bbox [7, 7, 1, 2.1] reaches out of its image of 10x8 (width x height)"),
    ({"bbox": [7, 7, float("nan"), 2]}, "bbox is [7, 7, NaN, 2], expected 4 finite numbers"),
    ({"image_id": 99}, "there is no image 99"),
    ({"category_id": 99}, "there is no category 99"),
    ({"id": 1}, "its id is that of 2 annotations"),
    ({"segmentation": None}, "segmentation is missing"),
    ({"segmentation": [SQUARE[:4]]}, "a polygon is [2.0, 1.0, 6.0, 1.0], expected at least three corners"),
    ({"segmentation": {"size": [10, 8], "counts": [80]}}, "its RLE is of size [10, 8], its image [8, 10]"),
    ({"segmentation": {"size": [8, 10], "counts": [80]}}, "its mask is empty"),
    ({"segmentation": [[3, 3, 3, 3, 3, 3]]}, "its mask is empty"),
    ({"segmentation": [[30, 3, 40, 3, 40, 6]]}, "its mask is empty"),  # beside the image
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ANNOTATIONS, ids=[reason[:40] for _, reason in BAD_ANNOTATIONS])
def test_bad_annotations_are_a_line_each(photos: Path, run_cli: RunCli, changes: Tree, reason: str) -> None:
    tree = tiny()
    tree["annotations"][0].update(changes)
    outcome = check(run_cli, tree, photos)
    name = f"annotation {tree['annotations'][0]['id']}"
    assert outcome.code == 2
    assert outcome.out.startswith(f"{name}\t{reason}")
    assert outcome.out.count("\n") == 1
    assert f"error: {photos.parent / 'tiny.json'}: 1 bad entries and images: {name} ({reason}" in outcome.err
    assert outcome.err.endswith("hint: each is printed, with the reason; mend or remove them\n")


@pytest.mark.parametrize("box", [[-1, -1, 12, 10], [0, 0, 10, 8], [9, 7, 2, 2]])
def test_boxes_may_reach_over_the_edge_by_a_pixel(photos: Path, run_cli: RunCli, box: list[float]) -> None:
    tree = tiny()
    tree["annotations"][0]["bbox"] = box
    assert check(run_cli, tree, photos).code == 0


def test_a_file_without_masks_has_no_bad_ones(photos: Path, run_cli: RunCli) -> None:
    tree = tiny()
    for row in tree["annotations"]:
        del row["segmentation"]
    outcome = check(run_cli, tree, photos)
    assert (outcome.code, outcome.out) == (0, "")
    assert "no annotation has a mask\n" in outcome.err


def test_a_class_that_is_there_and_verified_not_to_be_is_told(photos: Path, run_cli: RunCli) -> None:
    tree = tiny()
    tree["images"][0]["neg_category_ids"] = [3, 7]
    outcome = check(run_cli, tree, photos)
    told = "neg_category_ids has category {}, annotated in it"
    assert (outcome.code, outcome.out) == (2, f"image 20\t{told.format(3)}\nimage 20\t{told.format(7)}\n")
    tree["annotations"] = [{**tree["annotations"][0], "image_id": 10, "category_id": 99}]
    assert check(run_cli, tree, photos).out == "annotation 3\tthere is no category 99\n"


def test_several_faults_are_all_told(photos: Path, run_cli: RunCli) -> None:
    tree = tiny()
    tree["annotations"][0] |= {"bbox": [0, 0, 0, 0], "segmentation": []}
    tree["annotations"][1]["image_id"] = 5
    tree["images"].append({**tree["images"][0], "neg_category_ids": []})
    tree["categories"].append({**tree["categories"][0], "name": "again"})
    Image.fromarray(np.zeros((10, 8, 3), np.uint8)).save(photos / "train2017" / "000000000020.jpg")
    (photos / "val2017" / "000000000010.jpg").write_bytes(b"no image")
    outcome = check(run_cli, tree, photos)
    assert outcome.code == 2
    assert outcome.out.splitlines() == [
        "train2017/000000000020.jpg\tis 8x10 (width x height), the file says 10x8",
        "val2017/000000000010.jpg\tnot an image",
        "category 7\tits id is that of 2 categories",
        "image 20\tits id is that of 2 images",
        "annotation 1\tthere is no image 5",
        "annotation 3\tbbox [0, 0, 0, 0] has no area",
        "annotation 3\tsegmentation is an empty list",
    ]
    assert ": 6 bad entries and images: train2017/000000000020.jpg (is 8x10" in outcome.err
    assert "and 4 more" in outcome.err


def test_missing_images_are_told_with_a_root_that_has_them(photos: Path, run_cli: RunCli) -> None:
    (photos / "val2017" / "000000000010.jpg").unlink()
    outcome = check(run_cli, tiny(), photos)
    assert (outcome.code, outcome.out) == (2, "val2017/000000000010.jpg\tNo such file or directory\n")
    assert f"1 of 2 images are found in {photos}" in outcome.err
    outcome = check(run_cli, tiny(), photos, "--data-root", photos / "train2017" / "..")
    assert outcome.code == 2
    outcome = run_cli("check", photos.parent / "tiny.json", "--data-root", photos.parent)
    assert (outcome.code, outcome.out.count("\n")) == (2, 2)
    assert f"hint: {photos} has a folder train2017: --data-root {photos}\n" in outcome.err


def test_names_that_cannot_be_printed_are_told_all_the_same(photos: Path, run_cli: RunCli) -> None:
    tree = tiny()
    tree["images"][0]["coco_url"] = "http://a/train2017/\ud800\n.jpg"
    tree["categories"][0]["name"] = "\ud800"
    tree["annotations"][0]["bbox"] = "\ud800"
    outcome = check(run_cli, tree, photos)
    assert outcome.code == 2
    assert outcome.out == (
        'train2017/?\\n.jpg\tNo such file or directory\nannotation 3\tbbox is "\\ud800", expected 4 finite numbers\n'
    )


def test_check_refuses_what_is_no_file_of_annotations(tmp_path: Path, run_cli: RunCli) -> None:
    path = write(tmp_path / "a.json", {"images": []})
    outcome = run_cli("check", path)
    assert (outcome.code, outcome.out) == (2, "")
    told = f"reading {path}\nerror: {path}: 'images' is an empty list\nhint: it takes LVIS's or COCO's"
    assert outcome.err.startswith(told)
    outcome = run_cli("check", path, "--set", "data.skip=a.txt")
    assert outcome.err == (
        f"error: --set data.skip=a.txt changes a config, and {path} is a file of annotations\nhint: leave it out\n"
    )
    outcome = run_cli("check", write(path, tiny()), "--data-root", tmp_path / "nowhere")
    told = f"error: {tmp_path / 'nowhere'}: there is no such folder of images\nhint: --data-root names it\n"
    assert (outcome.code, outcome.err) == (2, told)  # before anything else is said


def test_nothing_is_wrong_with_the_real_files(real_data: Path, run_cli: RunCli) -> None:
    for name, root in (
        ("lvis/lvis_v0.5_val_3.json", "lvis/val3_images"),
        ("coco_lt/coco_lt_val.json", "coco_lt/images"),
    ):
        outcome = run_cli("check", real_data / name, "--data-root", real_data / root)
        assert (outcome.code, outcome.out) == (0, "")
