"""Annotations and results that cannot be evaluated: what is wrong, where, how often, and the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gol_decouple.data import masks
from gol_decouple.detection import detections, evaluate_lvis, prepare
from gol_decouple.errors import InputError
from tests.detection.made import same, to_rle

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
        (
            lambda tree: tree.pop("images"),
            "annotations has no 'images'; it has annotations, categories",
            "lists images",
        ),
        (lambda tree: tree.update(images=[]), "annotations: 'images' is an empty list", "lists images"),
        (lambda tree: tree.update(categories={}), "'categories' is not a list of objects", "lists images"),
        (lambda tree: tree["images"][1].pop("id"), "image at position 1 (id is missing)", "mend them"),
        (lambda tree: tree["images"][1].update(id=5), "image 5 (its id is that of 2 images)", "mend them"),
        (lambda tree: tree["annotations"][1].update(id=5), "annotation 5 (its id is that of 2 annotations)", ""),
        (lambda tree: tree["annotations"][1].update(image_id=7), "annotation 6 (there is no image 7)", ""),
        (lambda tree: tree["annotations"][1].update(category_id=7), "annotation 6 (there is no category 7)", ""),
        (lambda tree: tree["annotations"][1].update(area=float("nan")), "area is NaN, expected a finite number", ""),
        (lambda tree: tree["annotations"][0].update(bbox=[1, 2, 3]), "bbox is [1, 2, 3], expected 4 finite", ""),
        (
            lambda tree: tree["annotations"][0].update(bbox=[1, 2, -3, 4]),
            "annotation 5 (bbox is [1.0, 2.0, -3.0, 4.0], of negative width or height)",
            "",
        ),
        (lambda tree: tree["images"][0].pop("neg_category_ids"), "image 5 (neg_category_ids is missing)", ""),
        (
            lambda tree: [image.pop("neg_category_ids") for image in tree["images"]],
            "no image has neg_category_ids, which tell where a detection is wrong",
            "gol-decouple convert",
        ),
        (lambda tree: tree["categories"][0].update(frequency="x"), 'frequency is "x", expected r, c or f', ""),
    ],
)
def test_annotations_that_cannot_be_used(tree: Tree, change: Callable[[Tree], object], message: str, hint: str) -> None:
    change(tree)
    told = refused(tree, [row()])
    assert message in told[0]
    assert hint in told[1]


def test_what_annotations_may_leave_out(tree: Tree) -> None:
    expected = evaluate_lvis(tree, [row()])
    tree["images"][0].pop("not_exhaustive_category_ids")
    tree["images"][1]["neg_category_ids"] = [999]
    for annotation in tree["annotations"]:
        del annotation["segmentation"], annotation["area"]
    assert evaluate_lvis(tree, [row()]) == expected
    assert prepare(tree).truth.notes == (
        "neg_category_ids names 1 categories that the file does not have: 999; left out",
        "1 of 2 images have no not_exhaustive_category_ids: taken as none",
        "2 of 2 annotations have no area: that of the box is taken",
    )
    same(evaluate_lvis(tree, [row()], evaluator="lvis"), expected)
    assert "annotation 5 (segmentation is missing)" in refused(tree, [row()], "segm")[0]


def test_a_file_that_is_no_annotations(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text("[]")
    told = refused(path, [])
    assert told[0] == f"{path} holds a list, not annotations"
    assert "lists images, annotations and categories" in told[1]
    assert refused(str(tmp_path / "none.json"), [])[0].endswith("none.json cannot be read: No such file or directory")


# Results


@pytest.mark.parametrize(
    ("results", "message", "hint"),
    [
        (
            [row(), row(image_id=7), row(image_id=8)],
            "results: 2 bad results among the first 3: results[1] (annotations has no image 7), "
            "results[2] (annotations has no image 8)",
            "split",
        ),
        (
            [row(score=None, image_id=7), row(image_id=7), row(category_id=1.5)],
            "3: results[0] (score is null, expected a finite number), results[1] (annotations has no image 7), "
            "results[2] (category_id is 1.5, expected a whole number)",
            "a result has",
        ),
        ([row(), row(category_id=9)], "results[1] (annotations has no category 9)", "split"),
        ([row(), {"image_id": 5}], "results[1] (category_id is missing)", "a result has image_id"),
        ([row(), 3], "results[1] (is 3, not an object)", "a result has image_id"),
        ([row(image_id=5.0)], "results[0] (image_id is 5.0, expected a whole number)", ""),
        ([row(image_id=True)], "results[0] (image_id is true, expected a whole number)", ""),
        ([row(image_id=2**70)], f"results[0] (image_id is {2**70}, expected a whole number)", ""),
        ([row(score="0.5")], 'results[0] (score is "0.5", expected a finite number)', ""),
        ([row(score=True)], "results[0] (score is true, expected a finite number)", ""),
        ([row(), row(score=None)], "results[1] (score is null, expected a finite number)", ""),
        ([row(score=float("nan"))], "results[0] (score is NaN, expected a finite number)", ""),
        ([row(bbox=[1, 2, 3])], "results[0] (bbox is [1, 2, 3], expected 4 finite numbers)", "[x, y, width, height]"),
        ([row(), row(bbox=[1, 2, 3])], "results[1] (bbox is [1, 2, 3], expected 4 finite numbers)", ""),
        ([row(bbox=["1", "2", "3", "4"])], 'results[0] (bbox is ["1", "2", "3", "4"], expected 4 finite numbers)', ""),
        ([row(bbox=[1, 2, float("nan"), 4])], "(bbox is [1, 2, NaN, 4], expected 4 finite numbers)", ""),
        ([row(), row(bbox=[1, 2, -3, 4])], "results[1] (bbox is [1.0, 2.0, -3.0, 4.0], of negative width", ""),
        ([{name: value for name, value in row().items() if name != "bbox"}], "results[0] (bbox is missing)", ""),
        (3, "results are a int", "a path, a list, or columns"),
    ],
)
def test_results_that_cannot_be_used(tree: Tree, results: Any, message: str, hint: str) -> None:
    told = refused(tree, results)
    assert message in told[0]
    assert hint in told[1]


def test_many_are_counted_and_the_first_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [row(score=float("inf")) for _ in range(7)]
    message = refused(tree, results)[0]
    assert message.startswith("results: 7 bad results among the first 7: results[0] (score is Infinity, expected")
    assert message.endswith("results[2] (score is Infinity, expected a finite number) and 4 more")
    monkeypatch.setattr(detections, "PART_ROWS", 2)
    places = refused(tree, [row(), row(), row(), row(score=None), row(score=None)])[0]
    assert places == "results: 1 bad results among the first 4: results[3] (score is null, expected a finite number)"


def test_numbers_of_numpy_are_numbers(tree: Tree) -> None:
    expected = evaluate_lvis(tree, [row(score=0.25)])
    numpys = row(image_id=np.int64(5), category_id=np.int32(1), bbox=np.array([10, 20, 30, 40]), score=np.float32(0.25))
    assert evaluate_lvis(tree, [numpys]) == expected
    assert evaluate_lvis(tree, [numpys, row(image_id=6)]) == evaluate_lvis(tree, [row(score=0.25), row(image_id=6)])
    assert "results[1] (annotations has no image 7)" in refused(tree, [numpys, row(image_id=np.int64(7))])[0]


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
        where = f"results: 1 bad results among the first {len(results)}: results[{len(results) - 1}] ("
        assert told[0].startswith(where)
        assert any(word in told[0] for word in ("segmentation is", "a polygon is", "its RLE"))
        assert "polygons" in told[1]
    tree["annotations"][1]["segmentation"] = mask
    assert refused(tree, [row()], "segm")[0].startswith("annotations: 1 bad entries: annotation 6 (")


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_all_malformed_masks_are_counted(tree: Tree, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(masks, "_MASKS_AT_ONCE", at_once)
    texts = ["", RLE["counts"], RLE["counts"] + "~", RLE["counts"] + "1", RLE["counts"] + "Q", "o" * 100 + "0"]
    results = [row(segmentation={**RLE, "counts": text}) for text in texts] + [row(segmentation=None)]
    message = refused(tree, results, "segm")[0]
    assert message.startswith('results: 6 bad results among the first 7: results[0] (its RLE counts are ""')
    assert [f"results[{place}] (" in message for place in range(4)] == [True, False, True, True]
    assert message.endswith("its image of 10,000) and 3 more")


def test_masks_need_masks(tree: Tree) -> None:
    boxes_only = {name: value for name, value in row().items() if name != "segmentation"}
    told = refused(tree, [boxes_only], "segm")
    assert told[0] == "results: 1 bad results among the first 1: results[0] (segmentation is missing)"
    columns = {"image_id": [5], "category_id": [1], "boxes": [[1, 2, 3, 4]], "scores": [0.5]}
    assert "columns of boxes cannot be evaluated as masks" in refused(tree, columns, "segm")[0]


def test_a_box_with_some_masks_only(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: value for name, value in row().items() if name != "bbox"}
    told = refused(tree, [row(), without], "segm")
    assert told[0].endswith("results[1] (has no bbox, others have one)")
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
        ({"scores": [np.nan]}, "results: 1 bad results among the first 1: results[0] (score is nan, expected a finite"),
        ({"boxes": [[0, 0, -1, 1]]}, "results[0] (bbox is [0.0, 0.0, -1.0, 1.0], of negative width or height)"),
        ({"boxes": [[0, 0, np.inf, 1]]}, "results[0] (bbox is [0.0, 0.0, inf, 1.0], expected 4 finite numbers)"),
        ({"image_id": [7]}, "results[0] (annotations has no image 7)"),
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
    assert message == f"{results}: 1 bad results among the first 1: results[0] ({truth} has no image 7)"
