"""The columnar evaluator beside the `lvis` package: every figure, on real annotations and on many small made sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gol_decouple.detection import evaluate_lvis, ious, matching, prepare
from gol_decouple.detection.evaluation import highest_of
from gol_decouple.errors import InputError
from tests.detection.made import by_the_package, noisy_results, random_set, same, to_rle

REAL = ("coco_lt/coco_lt_train.json", "coco_lt/coco_lt_val.json", "lvis/lvis_v0.5_val_3.json")


def one_image(*rows: dict[str, Any], **image: Any) -> dict[str, Any]:
    """One image of 100 x 100 with annotations of categories 1 (frequent) and 2 (rare)."""
    annotations = [{"id": number, "image_id": 5, "area": 400, **row} for number, row in enumerate(rows, 1)]
    images = [
        {"id": 5, "height": 100, "width": 100, "neg_category_ids": [], "not_exhaustive_category_ids": [], **image}
    ]
    return {"images": images, "annotations": annotations, "categories": [category(1, "f"), category(2, "r")]}


def category(id_: int, frequency: str) -> dict[str, Any]:
    return {"id": id_, "name": f"name {id_}", "frequency": frequency}


def result(box: list[float], score: float, category_id: int = 1) -> dict[str, Any]:
    return {"image_id": 5, "category_id": category_id, "bbox": box, "score": score}


# With the protocol's precision, true / (false + true + eps).
FULL = pytest.approx(100)
BOX, FAR = [0, 0, 20, 20], [60, 60, 20, 20]


# Beside the package


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seeds", range(8))
def test_random_sets_are_as_with_the_package(tmp_path: Path, iou_type: str, seeds: int) -> None:
    for seed in range(25 * seeds, 25 * (seeds + 1)):
        tree, results = random_set(seed, iou_type)
        same(evaluate_lvis(tree, results, iou_type), by_the_package(tree, results, iou_type, tmp_path))


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations_are_as_with_the_package(real_data: Path, tmp_path: Path, name: str, iou_type: str) -> None:
    tree = json.loads((real_data / name).read_text())
    results = noisy_results(tree, 0, iou_type, more=320 if iou_type == "bbox" else 0)
    most = max(np.unique([row["image_id"] for row in results], return_counts=True)[1])
    assert most > 300 or iou_type == "segm"
    expected = by_the_package(tree, results, iou_type, tmp_path)
    assert expected["ap"] > 1, "nothing found tests nothing"
    same(evaluate_lvis(tree, results, iou_type), expected)
    same(evaluate_lvis(tmp_path / "truth.json", str(tmp_path / "results.json"), iou_type), expected)


@pytest.mark.parametrize("name", REAL[1:])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_hard_annotations_are_as_with_the_package(real_data: Path, tmp_path: Path, name: str, iou_type: str) -> None:
    """Images without annotations, ignored objects and crowds, lists that are not exhaustive, few negatives."""
    tree, stream = json.loads((real_data / name).read_text()), np.random.default_rng(7)
    emptied = tree["images"][0]["id"]
    tree["annotations"] = [row for row in tree["annotations"] if row["image_id"] != emptied]
    for row in tree["annotations"]:
        row["ignore"], row["iscrowd"] = int(stream.random() < 0.2), int(stream.random() < 0.2)
    for image in tree["images"]:
        present = sorted({row["category_id"] for row in tree["annotations"] if row["image_id"] == image["id"]})
        image["not_exhaustive_category_ids"] = present[::2] + image["neg_category_ids"][:3]
        image["neg_category_ids"] = image["neg_category_ids"][::4]
    results = noisy_results(tree, 1, iou_type, more=320 if iou_type == "bbox" else 0)
    expected = by_the_package(tree, results, iou_type, tmp_path)
    assert expected["ap"] > 1
    same(evaluate_lvis(tree, results, iou_type), expected)


def test_masks_with_boxes_have_the_size_of_their_boxes_as_in_the_package(real_data: Path, tmp_path: Path) -> None:
    tree = json.loads((real_data / REAL[1]).read_text())
    results = noisy_results(tree, 2, "segm")
    masked = evaluate_lvis(tree, results, "segm")
    for row in results:
        row["bbox"] = [0.0, 0.0, 40.0, 40.0]
    expected = by_the_package(tree, results, "segm", tmp_path)
    same(evaluate_lvis(tree, results, "segm"), expected)
    assert expected["ap_s"] != masked["ap_s"]


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, results = random_set(3)
    expected = evaluate_lvis(tree, results)
    for module in (ious, matching):
        monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 1)
    assert evaluate_lvis(tree, results) == expected


# The protocol, by hand


def test_of_results_above_the_limit_the_first_given_of_equal_scores_stay() -> None:
    owners, scores = np.array([1, 0, 1, 1, 1, 0]), np.array([0.5, 0.1, 0.5, 0.9, 0.5, 0.1])
    assert highest_of(owners, scores, 2).tolist() == [True, True, False, True, False, True]
    assert highest_of(owners[:0], scores[:0], 2).tolist() == []


def test_the_limit_is_an_image_over_all_categories() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX}, neg_category_ids=[2])
    others = [result(FAR, 0.9, category_id=2) for _ in range(300)]
    assert evaluate_lvis(tree, [*others[1:], result(BOX, 0.5)])["ap"] == FULL
    assert evaluate_lvis(tree, [*others, result(BOX, 0.5)])["ap"] == 0
    assert evaluate_lvis(tree, [*others, result(BOX, 0.5)], max_dets=301)["ap"] == FULL
    assert evaluate_lvis(tree, [*others, result(BOX, 0.5)], fixed_ap=True)["ap"] == FULL


def test_fixed_ap_keeps_ten_thousand_of_a_category() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX}, not_exhaustive_category_ids=[1])
    for others, ap in ((9_999, FULL), (10_000, 0)):
        columns = {
            "image_id": np.full(others + 1, 5),
            "category_id": np.ones(others + 1, dtype=np.int32),
            "boxes": np.array([FAR] * others + [BOX], dtype=np.float32),
            "scores": np.array([0.9] * others + [0.5], dtype=np.float32),
        }
        assert evaluate_lvis(tree, columns, fixed_ap=True)["ap"] == ap


def test_what_nobody_looked_for_is_no_mistake() -> None:
    truth = {"category_id": 1, "bbox": BOX}
    wrong_then_right = [result(FAR, 0.9), result(BOX, 0.5)]
    assert evaluate_lvis(one_image(truth), wrong_then_right)["ap"] == pytest.approx(50)
    assert evaluate_lvis(one_image(truth, not_exhaustive_category_ids=[1]), wrong_then_right)["ap"] == FULL
    # Category 2 is neither in the image nor known to be absent from it.
    assert evaluate_lvis(one_image(truth), [result(FAR, 0.9, category_id=2), result(BOX, 0.5)])["ap"] == FULL


def test_ignored_objects_neither_count_nor_make_mistakes() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX}, {"category_id": 1, "bbox": FAR, "ignore": 1})
    figures = evaluate_lvis(tree, [result(FAR, 0.9), result(BOX, 0.5)])
    assert (figures["ap"], figures["ar"]) == (FULL, FULL)


def test_of_equal_ious_the_last_annotation_is_taken(tmp_path: Path) -> None:
    left, right = ({"category_id": 1, "bbox": [x, 0, 20, 20]} for x in (0, 10))
    between_then_left = [result([5, 0, 20, 20], 0.9), result([0, 0, 20, 20], 0.5)]
    for rows, ap50 in (((left, right), FULL), ((right, left), pytest.approx(100 * 51 / 101))):
        tree = one_image(*rows)
        figures = evaluate_lvis(tree, between_then_left)
        assert figures["ap50"] == ap50
        same(figures, by_the_package(tree, between_then_left, "bbox", tmp_path))


def test_figures_that_nothing_defines_are_none_and_no_results_are_zero() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX})
    defined = {"ap", "ap50", "ap75", "ap_s", "ap_f", "ar", "ar_s"}
    for results, value in (([result(BOX, 0.5)], FULL), ([], 0)):
        figures = evaluate_lvis(tree, results)
        assert figures.pop("per_class") == {1: value, 2: None}
        assert figures == {name: value if name in defined else None for name in figures}
        assert len(figures) == 13
    assert all(figure is None for name, figure in evaluate_lvis(one_image(), []).items() if name != "per_class")


def test_without_frequencies_those_figures_are_none() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX})
    for row in tree["categories"]:
        del row["frequency"]
    figures = evaluate_lvis(tree, [result(BOX, 0.5)])
    assert figures["ap"] == FULL
    assert figures["ap_r"] is figures["ap_c"] is figures["ap_f"] is None


def test_an_annotation_with_the_id_zero_counts_as_any_other() -> None:
    tree = one_image({"category_id": 1, "bbox": BOX, "id": 0})
    for evaluator in ("columnar", "lvis"):
        assert evaluate_lvis(tree, [result(BOX, 0.5)], evaluator=evaluator)["ap"] == FULL


# What can be given


def test_some_images_alone_are_as_if_there_were_no_others() -> None:
    tree, results = random_set(3)
    ids = sorted(image["id"] for image in tree["images"])
    chosen = ids[1::2]
    rest = {
        "images": [row for row in tree["images"] if row["id"] in chosen],
        "annotations": [row for row in tree["annotations"] if row["image_id"] in chosen],
        "categories": tree["categories"],
    }
    found = [row for row in results if row["image_id"] in chosen]
    assert len(chosen) >= 2
    assert rest["annotations"]
    assert found
    some = prepare(tree, "bbox", np.array(chosen))
    assert some.evaluate(found) == evaluate_lvis(rest, found) != evaluate_lvis(tree, results)
    same(some.evaluate(found, evaluator="lvis"), evaluate_lvis(rest, found))
    with pytest.raises(InputError, match="annotations has 1 of 2 images, and not 9999"):
        prepare(tree, "bbox", np.array([9999, ids[0]]))


def test_prepared_annotations_serve_many_results() -> None:
    tree, results = random_set(11)
    prepared = prepare(tree)
    expected = evaluate_lvis(tree, results)
    assert prepared.evaluate(results) == prepared.evaluate(results) == expected
    assert prepared.evaluate([]) == evaluate_lvis(tree, [])


def test_objects_and_columns_are_the_same() -> None:
    tree, results = random_set(12)
    columns = {
        "image_id": [row["image_id"] for row in results],
        "category_id": [row["category_id"] for row in results],
        "boxes": [row["bbox"] for row in results],
        "scores": [row["score"] for row in results],
    }
    expected = evaluate_lvis(tree, results)
    assert expected["ap"] is not None
    assert evaluate_lvis(tree, columns) == expected
    assert evaluate_lvis(tree, columns, evaluator="lvis") == expected


def test_masks_in_every_form_are_the_same() -> None:
    box = [10, 20, 30, 40]
    polygon = [[10, 20, 40, 20, 40, 60, 10, 60]]
    rle = to_rle(box, (100, 100))
    counts = [10 * 100 + 20, *[40, 60] * 29, 40, 40 + 60 * 100]
    forms = [rle, {**rle, "counts": rle["counts"].encode()}, {**rle, "counts": counts}, polygon]
    for of_truth in forms[:1] + forms[2:]:
        tree = one_image({"category_id": 1, "bbox": box, "segmentation": of_truth, "area": 1200})
        for form in forms:
            row = {"image_id": 5, "category_id": 1, "segmentation": form, "score": 0.5}
            assert evaluate_lvis(tree, [row], "segm")["ap"] == FULL
    shifted = {"image_id": 5, "category_id": 1, "segmentation": to_rle([60, 20, 30, 40], (100, 100)), "score": 0.5}
    assert evaluate_lvis(tree, [shifted], "segm")["ap"] == 0
