"""Counts of images and instances, and frequencies by LVIS's rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lvis_files import as_coco, tiny

from gol_decouple.data.lvis_counts import by_rule, count
from gol_decouple.data.lvis_json import parse, read_annotations
from gol_decouple.data.lvis_records import LvisData
from gol_decouple.errors import InputError


def coco(name: str, images_of_7: int) -> LvisData:
    """A file in COCO's format: category 7 in so many images, category 3 in one."""
    tree = as_coco(tiny())
    image, annotation = tree["images"][0], tree["annotations"][0]
    tree["images"] = [{**image, "id": id_} for id_ in range(images_of_7 + 5)]
    tree["annotations"] = [{**annotation, "id": id_, "image_id": id_} for id_ in range(images_of_7)]
    tree["annotations"].append({**annotation, "id": images_of_7, "image_id": 0, "category_id": 3})
    return parse(tree, name)[0]


def test_counts_of_a_tiny_file() -> None:
    counts = count(read_annotations(tiny()))
    assert counts.images.tolist() == [1, 1]  # of an image with two of a class, one
    assert counts.instances.tolist() == [1, 2]  # crowds too
    assert counts.num_images == 1
    assert counts.frequency.tolist() == ["r", "c"]
    assert counts.notes == (
        "image_count is not what the file holds for 1 of 2 classes (seven 11, here 1)",
        "instance_count is not what the file holds for 1 of 2 classes (seven 30, here 2): it counts other images or "
        "annotations, as that of LVIS's val files does",
    )


@pytest.mark.parametrize(("images", "expected"), [(0, "r"), (10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_the_rule(images: int, expected: str) -> None:
    assert by_rule(np.array([images])).tolist() == [expected]
    counts = count(coco("train.json", images))
    assert (counts.images.tolist(), counts.frequency.tolist()) == ([1, images], ["r", expected])
    assert counts.num_images == max(images, 1)


def test_frequencies_that_are_not_stated_are_counted_and_told() -> None:
    val, train = coco("val.json", 3), coco("train.json", 11)
    assert count(val).notes == (
        "val.json states no frequency: counted in it, as if it were all train images (r: up to 10 images, c: up to "
        "100, f: more)",
    )
    counts = count(val, train)
    assert counts.frequency.tolist() == ["r", "c"]
    assert counts.images.tolist() == [1, 3]
    assert counts.notes == ("frequencies are counted in train.json (r: up to 10 images, c: up to 100, f: more)",)
    stated = read_annotations(tiny())
    assert count(stated, coco("train.json", 101)).frequency.tolist() == ["r", "c"]


def test_frequencies_against_the_rule_are_told() -> None:
    tree = tiny()
    tree["categories"][0]["frequency"] = "f"
    note = "frequency is not that of the image counts for 1 of 2 classes (seven f, 11 images)"
    assert count(read_annotations(tree)).notes[-1] == note
    for row in tree["categories"]:
        del row["image_count"], row["instance_count"]
    note = "frequency is not that of the image counts for 1 of 2 classes (seven f, 1 images)"
    assert count(read_annotations(tree)).notes == (note,)


def test_train_annotations_of_other_categories_are_refused() -> None:
    val, train = coco("val.json", 3), coco("train.json", 11)
    train.categories.names[1] = "eight"
    with pytest.raises(InputError, match="^category 7 of val.json is 'seven', but train.json calls it 'eight'$"):
        count(val, train)
    train.categories.ids[1] = 8
    with pytest.raises(InputError, match="^category 7 of val.json is 'seven', but train.json has no such category$"):
        count(val, train)


def test_lvis_v1_follows_the_rule(real_data: Path) -> None:
    rows = json.loads((real_data / "lvis" / "lvis_v1_train_cat_info.json").read_text())
    frequency = by_rule(np.array([row["image_count"] for row in rows]))
    assert frequency.tolist() == [row["frequency"] for row in rows]
    assert [np.count_nonzero(frequency == letter) for letter in "rcf"] == [337, 461, 405]


def test_coco_lt(real_data: Path) -> None:
    counts = count(read_annotations(real_data / "coco_lt" / "coco_lt_train.json"))
    assert [np.count_nonzero(counts.frequency == letter) for letter in "rcf"] == [55, 21, 1]
    assert counts.frequency.tolist() == by_rule(counts.images).tolist()
    tree = json.loads((real_data / "coco_lt" / "coco_lt_train.json").read_text())
    held: dict[int, list[int]] = {row["id"]: [] for row in tree["categories"]}
    for row in tree["annotations"]:
        held[row["category_id"]].append(row["image_id"])
    assert counts.images.tolist() == [len(set(held[id_])) for id_ in sorted(held)]
    assert counts.instances.tolist() == [len(held[id_]) for id_ in sorted(held)]
    assert counts.num_images == len({row["image_id"] for row in tree["annotations"]}) == 222
    assert counts.notes[0].startswith("image_count is not what the file holds for 3 of 77 classes (traffic_light 7,")
    assert len(counts.notes) == 2
