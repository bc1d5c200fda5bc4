"""Annotations in LVIS's format as columns, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lvis_files import SQUARE, Tree, as_coco, tiny, write

from gol_decouple.data.lvis_json import parse, read_annotations
from gol_decouple.errors import InputError


def test_columns_of_a_tiny_file(tmp_path: Path) -> None:
    data = read_annotations(write(tmp_path / "tiny.json", tiny()))
    assert (data.name, data.federated, data.notes) == (str(tmp_path / "tiny.json"), True, ())
    images, categories, annotations = data.images, data.categories, data.annotations
    assert (len(images), len(categories), len(annotations)) == (2, 2, 3)
    assert images.ids.tolist() == [20, 10]
    assert (images.heights.tolist(), images.widths.tolist()) == ([8, 8], [10, 10])
    assert images.coco_urls[1] == "http://images.cocodataset.org/val2017/000000000010.jpg"
    assert images.file_names == ["", ""]
    assert images.negative.tolist() == [[1, 0], [1, 1]]  # labels are in the order of category ids: 3, 7
    assert images.not_exhaustive.tolist() == [[0, 1]]
    assert (categories.ids.tolist(), categories.names) == ([3, 7], ["three", "seven"])
    assert categories.frequency is not None
    assert categories.frequency.tolist() == ["r", "c"]
    assert categories.image_counts is not None
    assert categories.instance_counts is not None
    assert (categories.image_counts.tolist(), categories.instance_counts.tolist()) == ([1, 11], [1, 30])
    assert annotations.ids.tolist() == [3, 1, 2]
    assert (annotations.images.tolist(), annotations.labels.tolist()) == ([0, 0, 0], [1, 1, 0])
    assert annotations.boxes.tolist() == [[2, 1, 4, 3], [0, 0, 2, 2.5], [0, 0, 1, 8]]
    assert annotations.areas.tolist() == [12, 5, 8]
    assert annotations.crowds.tolist() == [False, False, True]
    assert annotations.segmentations == [[SQUARE], [SQUARE], {"size": [8, 10], "counts": [0, 8, 72]}]


def test_labels_of_category_ids_and_back() -> None:
    categories = read_annotations(tiny()).categories
    assert categories.labels(np.array([7, 3, 5, 0, 8])).tolist() == [1, 0, -1, -1, -1]
    assert categories.ids[categories.labels(np.array([7, 3]))].tolist() == [7, 3]


def test_what_may_be_missing_has_a_meaning_and_is_told() -> None:
    tree = tiny()
    del tree["images"][0]["not_exhaustive_category_ids"], tree["images"][0]["coco_url"]
    del tree["annotations"][0]["area"], tree["annotations"][1]["segmentation"]
    tree["images"][1]["neg_category_ids"] = [99, 7, 98]
    for row in tree["categories"]:
        del row["frequency"], row["image_count"], row["instance_count"]
    data = read_annotations(tree)
    assert data.notes == (
        "neg_category_ids names 2 categories that the file does not have: 98, 99; left out",
        "1 of 2 images have no not_exhaustive_category_ids: taken as none",
        "1 of 3 annotations have no area: that of the box is taken",
    )
    assert data.images.negative.tolist() == [[1, 1]]
    assert data.images.not_exhaustive.tolist() == []
    assert data.annotations.areas.tolist() == [12, 5, 8]
    assert data.annotations.segmentations[1] is None
    assert data.images.coco_urls[0] == ""
    categories = data.categories
    assert (categories.frequency, categories.image_counts, categories.instance_counts) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{]", "is not JSON: ", "compare its size"),
        ("", "is not JSON: ", "compare its size"),
        ("[" * 100_000, "is not JSON: ", "compare its size"),
        ("\xff", "is not JSON: ", "compare its size"),
        ("PK\x03\x04 and so on", "is a zip archive, not JSON", "unzip "),
        ("[1, 2]", "holds a list, not annotations", "lists images, annotations and categories"),
        ("3", "holds 3, not annotations", "lists images, annotations and categories"),
        ('{"images": [], "info": 1}', "'images' is an empty list", None),
        ('{"images": [{}], "info": 1}', "has no 'annotations'; it has images, info", "lists images, annotations and"),
        ("{}", "has no 'images'; it has nothing", "lists images, annotations and"),
        ('{"images": {}}', "'images' is not a list of objects", None),
        ('{"images": [3]}', "'images' is not a list of objects", None),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"^{path}") as caught:
        read_annotations(path)
    assert message in caught.value.message
    assert (hint or "LVIS's or COCO's instances json") in str(caught.value.hint)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.json cannot be read: No such file"):
        read_annotations(tmp_path / "no.json")


def test_cocos_format_is_refused_with_the_command_that_converts_it() -> None:
    with pytest.raises(InputError, match="no image has neg_category_ids") as caught:
        read_annotations(as_coco(tiny()))
    assert caught.value.hint == "gol-decouple convert INPUT OUTPUT makes LVIS's format of COCO's"


def change(table: str, at: int, **values: object) -> Callable[[Tree], None]:
    def to(tree: Tree) -> None:
        tree[table][at].update(values)

    return to


def drop(table: str, at: int, key: str) -> Callable[[Tree], None]:
    def to(tree: Tree) -> None:
        del tree[table][at][key]

    return to


NAN = float("nan")
BAD = [
    (change("annotations", 0, image_id=5), "annotation 3", "there is no image 5"),
    (change("annotations", 0, category_id=-1), "annotation 3", "there is no category -1"),
    (change("annotations", 0, image_id="20"), "annotation 3", 'image_id is "20", expected a whole number'),
    (change("annotations", 0, image_id=20.5), "annotation 3", "image_id is 20.5, expected a whole number"),
    (change("annotations", 0, category_id=None), "annotation 3", "category_id is null, expected a whole number"),
    (change("annotations", 0, category_id=[7]), "annotation 3", "category_id is [7], expected a whole number"),
    (drop("annotations", 0, "category_id"), "annotation 3", "category_id is missing"),
    (change("annotations", 0, id=1), "annotation 1", "its id is that of 2 annotations"),
    (change("annotations", 1, id=True), "annotation at position 1", "id is true, expected a whole number"),
    (change("annotations", 1, id=2**63), "annotation at position 1", f"id is {2**63}, expected a whole number"),
    (drop("annotations", 1, "bbox"), "annotation 1", "bbox is missing"),
    (change("annotations", 1, bbox=[1, 2, 3]), "annotation 1", "bbox is [1, 2, 3], expected 4 finite numbers"),
    (change("annotations", 1, bbox=[0, NAN, 1, 1]), "annotation 1", "bbox is [0, NaN, 1, 1], expected 4 finite"),
    (change("annotations", 1, bbox=["0", "1", "2", "3"]), "annotation 1", 'bbox is ["0", "1", "2", "3"], expected'),
    (change("annotations", 1, bbox=[0, 10**400, 1, 1]), "annotation 1", "expected 4 finite numbers"),
    (change("annotations", 1, bbox=[0, 0, 1e308, 1]), "annotation 1", "bbox is [0, 0, 1e+308, 1], expected 4 finite"),
    (change("annotations", 1, area=[4]), "annotation 1", "area is [4], expected a finite number"),
    (change("annotations", 1, area=NAN), "annotation 1", "area is NaN, expected a finite number"),
    (change("annotations", 1, iscrowd=2), "annotation 1", "iscrowd is 2"),
    (change("images", 0, id=10), "image 10", "its id is that of 2 images"),
    (change("images", 0, height=0), "image 20", "height is 0"),
    (change("images", 0, width="10"), "image 20", 'width is "10", expected a whole number'),
    (drop("images", 1, "neg_category_ids"), "image 10", "neg_category_ids is missing"),
    (change("images", 1, neg_category_ids=7), "image 10", "neg_category_ids is 7, expected a list of whole numbers"),
    (change("images", 1, neg_category_ids=[7, "3"]), "image 10", 'neg_category_ids is [7, "3"], expected a list of'),
    (change("images", 1, neg_category_ids=[7, [3]]), "image 10", "neg_category_ids is [7, [3]], expected a list of"),
    (change("images", 1, neg_category_ids=[True]), "image 10", "neg_category_ids is [true], expected a list of whole"),
    (change("categories", 0, id=3), "category 3", "its id is that of 2 categories"),
    (drop("categories", 0, "id"), "category at position 0", "id is missing"),
    (drop("categories", 0, "name"), "category 7", "name is null, expected text"),
    (change("categories", 0, frequency="rare"), "category 7", 'frequency is "rare", expected r, c or f'),
    (drop("categories", 0, "frequency"), "category 7", "frequency is null, expected r, c or f"),
    (change("categories", 0, image_count="many"), "category 7", 'image_count is "many", expected a whole number'),
]


@pytest.mark.parametrize(("break_it", "what", "reason"), BAD, ids=[f"{what}: {why[:40]}" for _, what, why in BAD])
def test_bad_entries_are_refused_by_name(break_it: Callable[[Tree], None], what: str, reason: str) -> None:
    tree = tiny()
    break_it(tree)
    _, bad = parse(tree, "tiny")
    named = [found for found in bad if found.what == what]
    assert len(named) == 1
    assert reason in named[0].reason
    with pytest.raises(InputError, match="^annotations: [0-9]+ bad entr") as caught:
        read_annotations(tree)
    assert f"{bad[0].what} ({bad[0].reason})" in caught.value.message


def test_of_many_bad_entries_a_few_are_named(tmp_path: Path) -> None:
    tree = tiny()
    tree["annotations"] = [{**tree["annotations"][0], "image_id": 9, "id": id_} for id_ in range(5)]
    with pytest.raises(InputError, match="^annotations: 5 bad entries: .* and 2 more$") as caught:
        read_annotations(tree)
    assert caught.value.hint == "mend them, or remove them"
    path = write(tmp_path / "a.json", tree)
    with pytest.raises(InputError, match="5 bad entries") as caught:
        read_annotations(path)
    assert caught.value.hint == f"gol-decouple check {path} prints every one"


def test_bad_annotations_have_no_label_and_of_one_id_the_first_is_taken() -> None:
    tree = tiny()
    tree["annotations"][1]["bbox"] = None
    tree["categories"].append({"id": 3, "name": "again", "frequency": "f", "image_count": 0, "instance_count": 0})
    data, _ = parse(tree, "tiny")
    assert data.annotations.labels.tolist() == [1, -1, 0]
    assert data.categories.names == ["three", "seven"]


@pytest.mark.parametrize(("table", "what"), [("images", "image"), ("categories", "category")])
def test_without_any_id_nothing_can_be_checked(table: str, what: str) -> None:
    tree = tiny()
    for row in tree[table]:
        row["id"] = str(row["id"])
    with pytest.raises(InputError, match=f"^tiny: no {what} has an id that is a whole number$"):
        parse(tree, "tiny")


def test_what_is_missing_is_not_taken_for_id_0() -> None:
    tree = tiny()
    tree["images"][0]["id"] = tree["categories"][0]["id"] = 0
    tree["annotations"] = [{**row, "image_id": 0, "category_id": 0} for row in tree["annotations"]]
    del tree["annotations"][0]["image_id"], tree["annotations"][1]["category_id"]
    _, bad = parse(tree, "tiny")
    assert [tuple(one) for one in bad] == [
        ("annotation 3", "image_id is missing"),
        ("annotation 1", "category_id is missing"),
    ]


def test_real_files(real_data: Path) -> None:
    lvis = read_annotations(real_data / "lvis" / "lvis_v0.5_val_3.json")
    assert (len(lvis.images), len(lvis.categories), len(lvis.annotations), lvis.notes) == (3, 1230, 8, ())
    assert lvis.images.file_names[0] == "COCO_val2014_000000011813.jpg"
    first = lvis.images.negative[lvis.images.negative[:, 0] == 0, 1]
    named = {1042, 1065, 1117, 399, 683, 294, 688, 382, 1028, 1010, 477, 282}
    assert set(lvis.categories.ids[first].tolist()) == named
    train = read_annotations(real_data / "coco_lt" / "coco_lt_train.json")
    assert (len(train.images), len(train.categories), len(train.annotations)) == (227, 77, 1766)
