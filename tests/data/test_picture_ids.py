"""Image ids of pictures, from their names or from annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gol_decouple.data.picture_ids import ids_by_annotations, ids_by_name
from gol_decouple.errors import InputError

NAMES, CATEGORIES = ["cat", "dog"], np.array([3, 8])


def write(path: Path, images: list[dict[str, Any]], categories: dict[int, str] | None = None) -> Path:
    categories = categories or {8: "dog", 3: "cat", 9: "hen"}
    tree = {
        "images": [{"height": 10, "width": 20, "neg_category_ids": [], **image} for image in images],
        "annotations": [],
        "categories": [{"id": id_, "name": name, "frequency": "f"} for id_, name in categories.items()],
    }
    path.write_text(json.dumps(tree))
    return path


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


@pytest.mark.parametrize(
    ("names", "ids", "told"),
    [
        (["a/000000397133.jpg", "COCO_val2014_000000000042.jpg", "7.png"], [397133, 42, 7], "ends in"),
        (["1.jpg", "b/1.png"], [1, 2], "place"),
        (["12.jpg", "photo.png"], [1, 2], "place"),
        (["photo.png"], [1], "place"),
        ([f"{'9' * 30}.png"], [1], "place"),
        (["12_small.jpg"], [1], "place"),
    ],
)
def test_ids_without_annotations(names: list[str], ids: list[int], told: str) -> None:
    found, note = ids_by_name(paths(*names))
    assert found == ids
    assert told in note


def test_ids_by_the_names_that_annotations_have(tmp_path: Path) -> None:
    images = [
        {"id": 5, "file_name": "val2017/x.jpg"},
        {"id": 6, "coco_url": "http://images.cocodataset.org/val2017/y.jpg"},
        {"id": 7, "file_name": "z.jpg"},
    ]
    file = write(tmp_path / "a.json", images)
    ids, note = ids_by_annotations(paths("y.jpg", "somewhere/z.jpg", "x.jpg"), file, NAMES, CATEGORIES)
    assert ids == [6, 7, 5]
    assert str(file) in note


def test_cocos_format_does_too(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"id": 5, "file_name": "x.jpg"}])
    tree = json.loads(file.read_text())
    del tree["images"][0]["neg_category_ids"]
    file.write_text(json.dumps(tree))
    assert ids_by_annotations(paths("x.jpg"), file, NAMES, CATEGORIES)[0] == [5]


def test_of_images_of_one_name_the_path_tells(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "train/a/x.jpg"}, {"id": 2, "file_name": "val/a/x.jpg"}]
    file = write(tmp_path / "a.json", images)
    assert ids_by_annotations(paths("data/val/a/x.jpg", "train/a/x.jpg"), file, NAMES, CATEGORIES)[0] == [2, 1]
    with pytest.raises(InputError, match=r"a\.json has 2 images that b/x\.jpg can be") as raised:
        ids_by_annotations(paths("b/x.jpg"), file, NAMES, CATEGORIES)
    assert raised.value.hint == "let its path end as file_name or coco_url do"


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"id": 1, "file_name": "x.jpg"}])
    with pytest.raises(InputError, match=r"has no image of the name of 2 of 3 pictures: y\.jpg, z\.jpg"):
        ids_by_annotations(paths("y.jpg", "x.jpg", "z.jpg"), file, NAMES, CATEGORIES)
    with pytest.raises(InputError, match=r"b/x\.jpg is an image of .*a\.json that another picture is too"):
        ids_by_annotations(paths("a/x.jpg", "b/x.jpg"), file, NAMES, CATEGORIES)
    other = write(tmp_path / "b.json", [{"id": 1, "file_name": "x.jpg"}], {8: "cat", 4: "dog"})
    told = r"has other categories than the run: 3 \(cat\) is not there, 8 is dog, and not cat"
    with pytest.raises(InputError, match=told):
        ids_by_annotations(paths("x.jpg"), other, NAMES, CATEGORIES)
    with pytest.raises(InputError, match=r"none\.json"):
        ids_by_annotations(paths("x.jpg"), tmp_path / "none.json", NAMES, CATEGORIES)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="holds a list, not annotations"):
        ids_by_annotations(paths("x.jpg"), tmp_path / "list.json", NAMES, CATEGORIES)
