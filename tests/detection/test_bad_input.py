"""Annotations and results that cannot be evaluated: what is wrong, where, how often, and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gol_decouple.detection import detections, evaluate_lvis, masks
from gol_decouple.errors import InputError
from tests.detection.made import to_rle

Tree = dict[str, Any]
SIZE = (100, 100)
RLE = to_rle([10, 20, 30, 40], SIZE)


@pytest.fixture
def tree() -> Tree:
    images = [
        {"id": id_, "height": 100, "width": 100, "neg_category_ids": [], "not_exhaustive_category_ids": []}
        for id_ in (5, 6)
    ]
    annotations = [
        {"id": id_, "image_id": id_, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "segmentation": RLE}
        for id_ in (5, 6)
    ]
    categories = [{"id": id_, "name": "x", "frequency": "f"} for id_ in (1, 2)]
    return {"images": images, "annotations": annotations, "categories": categories}


def row(**changes: object) -> Tree:
    return {"image_id": 5, "category_id": 1, "bbox": [10, 20, 30, 40], "segmentation": RLE, "score": 0.5, **changes}


def refused(tree: object, results: object, iou_type: str = "bbox", **options: Any) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        evaluate_lvis(tree, results, iou_type, **options)
    return caught.value.message, caught.value.hint or ""


# Annotations


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (lambda tree: tree.pop("images"), "annotations has no list images", "a JSON object with lists"),
        (lambda tree: tree.update(images=[]), "annotations has no images", "a JSON object with lists"),
        (lambda tree: tree.update(categories={}), "has no list categories", "a JSON object with lists"),
        (lambda tree: tree["images"][1].pop("id"), "1 of 2 images have no 'id': images[1]", ""),
        (lambda tree: tree["images"].append("x"), "1 of 3 images have no 'id': images[2]", ""),
        (lambda tree: tree["images"][1].update(id=5), "1 of 2 images have an id that another has too (5)", "unique"),
        (lambda tree: tree["images"][1].update(id="5"), "have a 'id' that is not a whole number: images[1]", ""),
        (lambda tree: tree["categories"][1].update(id=1), "1 of 2 categories have an id that another", "unique"),
        (lambda tree: tree["annotations"][1].update(id=5), "1 of 2 annotations have an id that another", "unique"),
        (lambda tree: tree["annotations"][1].update(image_id=7), "have a image_id that the file does not list (7)", ""),
        (lambda tree: tree["annotations"][1].update(category_id=7), "a category_id that the file does not list", ""),
        (lambda tree: tree["annotations"][1].pop("area"), "annotations have no 'area': annotations[1]", ""),
        (lambda tree: tree["annotations"][1].update(area=float("nan")), "have an area that is not finite", ""),
        (lambda tree: tree["annotations"][0].update(bbox=[1, 2, 3]), "that is not four numbers: annotations[0]", ""),
        (lambda tree: tree["annotations"][0].update(bbox=[1, 2, -3, 4]), "negative width or height", "[x, y, width"),
        (
            lambda tree: tree["images"][0].pop("neg_category_ids"),
            "no 'neg_category_ids': images[0]",
            "absent from each",
        ),
        (lambda tree: tree["images"][0].update(neg_category_ids=None), "not a list of category ids: images[0]", ""),
        (lambda tree: tree["images"][0].update(neg_category_ids=["1"]), "not a list of category ids", ""),
        (lambda tree: tree["categories"][0].pop("frequency"), "have no 'frequency': categories[0]", "r, c or f"),
        (lambda tree: tree["categories"][0].update(frequency="x"), "not r, c or f ('x')", ""),
    ],
)
def test_annotations_that_cannot_be_used(tree: Tree, change: Callable[[Tree], object], message: str, hint: str) -> None:
    change(tree)
    told = refused(tree, [row()])
    assert message in told[0]
    assert hint in told[1]


def test_places_are_those_of_the_file(tree: Tree) -> None:
    tree["images"].reverse()
    del tree["images"][0]["neg_category_ids"]
    assert refused(tree, [row()])[0].endswith(": images[0]")


def test_what_annotations_may_leave_out(tree: Tree) -> None:
    expected = evaluate_lvis(tree, [row()])
    tree["images"][0].pop("not_exhaustive_category_ids")
    tree["images"][1]["neg_category_ids"] = [999]
    for part in (*tree["annotations"], *tree["images"]):
        for name in ("segmentation", "height", "width"):
            part.pop(name, None)
    assert evaluate_lvis(tree, [row()]) == expected
    assert "have no 'height'" in refused(tree, [row()], "segm")[0]


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "holds a list, not an object"), ("{", "is not readable JSON"), ("", "not readable")]
)
def test_a_file_that_is_no_annotations(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    told = refused(path, [])
    assert told[0].startswith(f"{path} ")
    assert message in told[0]
    assert "LVIS annotations are a JSON object" in told[1]
    assert "No such file" in refused(tmp_path / "none.json", [])[0]


# Results


@pytest.mark.parametrize(
    ("results", "message", "hint"),
    [
        ([row(), row(image_id=7), row(image_id=8)], "2 of 3 results are for an image that annotations does", "split"),
        ([row(), row(category_id=9)], "are for a category that annotations does not have (ids 9): results[1]", "split"),
        ([row(), {"image_id": 5}], "1 of 2 results have no 'category_id': results[1]", ""),
        ([row(), 3], "1 of 2 results have no 'image_id': results[1]", ""),
        ([row(image_id=5.0)], "have a 'image_id' that is not a whole number: results[0]", ""),
        ([row(image_id=True)], "have a 'image_id' that is not a whole number: results[0]", ""),
        ([row(image_id=2**70)], "have a 'image_id' that is not a whole number: results[0]", ""),
        ([row(score="0.5")], "have a 'score' that is not a number: results[0]", ""),
        ([row(), row(score=None)], "have a 'score' that is not a number: results[1]", ""),
        ([row(score=float("nan"))], "1 of 1 results have a score that is not finite (nan for the first)", ""),
        ([row(bbox=[1, 2, 3])], "have a 'bbox' that is not four numbers: results[0]", ""),
        ([row(), row(bbox=[1, 2, 3])], "have a 'bbox' that is not four numbers: results[1]", ""),
        ([row(bbox=["1", "2", "3", "4"])], "have a 'bbox' that is not four numbers: results[0]", ""),
        ([row(bbox=[1, 2, float("nan"), 4])], "have a bbox that is not finite", "[x, y, width, height]"),
        ([row(), row(bbox=[1, 2, -3, 4])], "negative width or height (the first is [ 1.  2. -3.  4.]): results[1]", ""),
        ([{name: value for name, value in row().items() if name != "bbox"}], "results have no 'bbox'", ""),
        (3, "results are a int", "a path, a list, or columns"),
    ],
)
def test_results_that_cannot_be_used(tree: Tree, results: Any, message: str, hint: str) -> None:
    told = refused(tree, results)
    assert message in told[0]
    assert hint in told[1]


def test_many_are_counted_and_the_first_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [row(score=float("inf")) for _ in range(7)]
    assert "7 of 7 results" in refused(tree, results)[0]
    assert refused(tree, results)[0].endswith(": results[0], results[1], results[2] and 4 more")
    monkeypatch.setattr(detections, "PART_ROWS", 2)
    places = refused(tree, [row(), row(), row(), row(score=None)])[0]
    assert places.endswith("results[3]")


@pytest.mark.parametrize(
    "mask",
    [
        None,
        3,
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 1e30]],
        {"size": [100, 100]},
        {"counts": RLE["counts"]},
        {**RLE, "size": [100, 101]},
        {**RLE, "size": "100"},
        {**RLE, "counts": None},
        {**RLE, "counts": ""},
        {**RLE, "counts": RLE["counts"][:-1]},
        {**RLE, "counts": RLE["counts"] + "Q"},  # the bit that says another character follows
        {**RLE, "counts": RLE["counts"] + "1"},
        {**RLE, "counts": RLE["counts"] + "~"},
        {**RLE, "counts": RLE["counts"] + "é"},
        {**RLE, "counts": RLE["counts"] + "\n"},
        {**RLE, "counts": "o" * 100 + "0"},
        {**RLE, "counts": [5, -1, 9996]},
        {**RLE, "counts": [5, 5]},
        {**RLE, "counts": [0.5, 9999.5]},
    ],
)
def test_masks_that_are_none(tree: Tree, mask: object) -> None:
    for results in ([row(segmentation=mask)], [row(), row(segmentation=mask)]):
        told = refused(tree, results, "segm")
        place = len(results) - 1
        assert f"1 of {len(results)} results have a malformed segmentation" in told[0]
        assert "(100x100 for the first)" in told[0]
        assert told[0].endswith(f"results[{place}]")
        assert "polygons" in told[1]
    tree["annotations"][1]["segmentation"] = mask
    assert refused(tree, [row()], "segm")[0].endswith("annotations[1]")


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_all_malformed_masks_are_counted(tree: Tree, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(masks, "_MASKS_AT_ONCE", at_once)
    texts = ["", RLE["counts"], RLE["counts"] + "~", RLE["counts"] + "1", RLE["counts"] + "Q", "o" * 100 + "0"]
    results = [row(segmentation={**RLE, "counts": text}) for text in texts] + [row(segmentation=None)]
    message = refused(tree, results, "segm")[0]
    assert "6 of 7 results" in message
    assert message.endswith("results[0], results[2], results[3] and 3 more")


def test_masks_need_masks(tree: Tree) -> None:
    boxes_only = {name: value for name, value in row().items() if name != "segmentation"}
    told = refused(tree, [boxes_only], "segm")
    assert "1 of 1 results have no 'segmentation'" in told[0]
    columns = {"image_id": [5], "category_id": [1], "boxes": [[1, 2, 3, 4]], "scores": [0.5]}
    assert "columns of boxes cannot be evaluated as masks" in refused(tree, columns, "segm")[0]


def test_a_box_with_some_masks_only(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: value for name, value in row().items() if name != "bbox"}
    told = refused(tree, [row(), without], "segm")
    assert told[0].endswith("1 of 2 results have no bbox, others have one: results[1]")
    assert "with every result, or with none" in told[1]
    monkeypatch.setattr(detections, "PART_ROWS", 1)
    assert "some results have a bbox, others have none" in refused(tree, [row(), without], "segm")[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "results have no column scores"),
        ({"scores": [0.5, 0.5]}, "columns of results do not go together"),
        ({"boxes": [1, 2, 3, 4]}, "columns of results do not go together"),
        ({"image_id": 5}, "columns of results do not go together"),
        ({"image_id": [5.0]}, "the column image_id is of float64, not of whole numbers"),
        ({"scores": ["a"]}, "the column scores is of <U1, not of numbers"),
        ({"scores": [np.nan]}, "1 of 1 results have a score that is not finite (nan for the first): results[0]"),
        ({"boxes": [[0, 0, -1, 1]]}, "1 of 1 results have a box that is not finite, or of negative width or height"),
        ({"image_id": [7]}, "1 of 1 results are for an image that annotations does not have (ids 7): results[0]"),
    ],
)
def test_columns_that_cannot_be_used(tree: Tree, changes: Tree, message: str) -> None:
    columns = {"image_id": [5], "category_id": [1], "boxes": [[1, 2, 3, 4]], "scores": [0.5]} | changes
    given = {name: np.array(column) for name, column in columns.items() if column is not None}
    assert message in refused(tree, given)[0]


def test_options_that_do_not_exist(tree: Tree) -> None:
    assert refused(tree, [], "box") == ("unknown iou_type 'box'", "did you mean 'bbox'? choose from: bbox, segm")
    assert "unknown evaluator 'coco'" in refused(tree, [], evaluator="coco")[0]
    assert "max_dets is 0" in refused(tree, [], max_dets=0)[0]


def test_files_are_named(tree: Tree, tmp_path: Path) -> None:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(tree))
    results.write_text(json.dumps([row(image_id=7)]))
    message, _ = refused(truth, results)
    assert message == (f"{results}: 1 of 1 results are for an image that {truth} does not have (ids 7): results[0]")
