"""Objects on a grid, annotated and predicted, against plain counts; federated annotations; limits."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import roi_files
import torch
from roi_files import NAMES, PER_IMAGE, C, Made

from gol_decouple import features, losses
from gol_decouple.analyses.object_grid import centre_cells
from gol_decouple.analyses.objects import ALL, Objects, choose_categories, count_objects, divergences
from gol_decouple.analyses.sources import STAGE_ONE, Run, open_run
from gol_decouple.classifiers import Classifier
from gol_decouple.detection.box_evaluation import box_columns
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.roi_boxes import ImageRois
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.stages.detection_evaluation import DetectionEvaluation

CPU = torch.device("cpu")


def opened(path: Path) -> tuple[Run, DetectionEvaluation]:
    run = open_run(path, path.parent / "runs", [], SILENT)
    return run, DetectionEvaluation(run.features, None, run.target.folder, path.parent / "val.json", CPU)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose annotations are of some classes only, with some negatives."""
    path = roi_files.write(tmp_path_factory.mktemp("rois") / "rois.h5", num_train=20, num_test=30)
    tree = json.loads((path.parent / "val.json").read_text())
    for image in tree["images"]:
        image["neg_category_ids"] = [3] if image["id"] % 2 else []
    held = {(row["image_id"], row["category_id"]) for row in tree["annotations"]}
    for image in tree["images"]:
        image["neg_category_ids"] = [id_ for id_ in image["neg_category_ids"] if (image["id"], id_) not in held]
    tree["annotations"][0]["ignore"] = 1
    (path.parent / "val.json").write_text(json.dumps(tree))
    return path


def plain_counts(path: Path, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Annotated and expected counts, one object at a time, from the json and all detections as columns."""
    tree = json.loads((path.parent / "val.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in tree["images"]}
    verified = {(image["id"], id_) for image in tree["images"] for id_ in image["neg_category_ids"]}
    verified |= {(row["image_id"], row["category_id"]) for row in tree["annotations"]}
    counts: list[defaultdict[tuple[int, int], float]] = [defaultdict(float), defaultdict(float)]

    def count(which: int, image: int, category: int, box: list[float], amount: float) -> None:
        width, height = sizes[image]
        column = min(int((box[0] + box[2] / 2) / width * grid), grid - 1)
        row = min(int((box[1] + box[3] / 2) / height * grid), grid - 1)
        counts[which][category - 1, row * grid + column] += amount

    for row in tree["annotations"]:
        if row["area"] > 0 and not row.get("ignore"):
            count(0, row["image_id"], row["category_id"], row["bbox"], 1.0)
    file = features.open(path)
    rows = file["test"]
    rois = []
    for at, number in enumerate(rows.images.num_rois.tolist()):
        own = slice(at * PER_IMAGE, at * PER_IMAGE + number)
        x, boxes = torch.from_numpy(rows.features[0, own]), torch.from_numpy(rows.boxes[own])
        rois.append(ImageRois(int(rows.images.ids[at]), (480, 640), x, boxes))
    found = file.regressor
    assert found is not None
    regressor = BoxRegressor(torch.from_numpy(found.weight), torch.from_numpy(found.bias), found.coder_weights)
    weight, bias = torch.from_numpy(file.classifier.weight), torch.from_numpy(file.classifier.bias)
    settings = DetectionEvaluation(file, None, path.parent, path.parent / "val.json", CPU).settings

    def scorer(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ weight.T + bias, dim=1)[:, :C]

    (columns,) = box_columns(rois, regressor, [scorer], np.arange(1, C + 1), settings)
    for image, category, box, score in zip(*(columns[name].tolist() for name in columns), strict=True):
        if (image, category) in verified:
            count(1, image, category, box, score)
    made = np.zeros((2, C, grid * grid))
    for which, own_counts in enumerate(counts):
        for (label, cell), amount in own_counts.items():
            made[which, label, cell] = amount
    return made[0], made[1]


@pytest.mark.parametrize("grid", [1, 2, 7])
def test_counts_are_those_of_a_plain_program(written: Path, grid: int) -> None:
    run, detections = opened(written)
    found = count_objects(run, detections, grid)
    truth, predicted = plain_counts(written, grid)
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_allclose(found.predicted[STAGE_ONE], predicted, rtol=1e-4, atol=1e-6)
    assert found.predicted[STAGE_ONE].sum() > 10


def perfect(folder: Path, more: int = 0) -> Path:
    """Images of three objects apart from each other, which are the RoIs, and `more` RoIs of fox beside them; logits say
    what they are. Foxes are annotated in the first image only.
    """
    stream = np.random.default_rng(0)
    num_images, used = 12, 3 + more
    labels = np.full((num_images, PER_IMAGE), -1)
    labels[:, :3] = stream.integers(0, 2, (num_images, 3))
    labels[0, 2] = 2
    labels[:, 3:used] = 2
    boxes = np.zeros((num_images, PER_IMAGE, 4), np.float32)
    corners = stream.uniform(0, 70, (num_images, used, 2)) + np.arange(used)[:, None] * [100, 0]
    boxes[:, :used] = np.concatenate([corners, corners + 30], axis=2)
    rows, is_roi = labels.ravel(), labels.ravel() >= 0
    x = np.where(is_roi[:, None], 40.0 * np.eye(C + 1, 8)[rows.clip(0)], 0).astype(np.float32)
    iou = is_roi.astype(np.float32)
    made = Made(x, rows, boxes.reshape(-1, 4), iou, np.arange(num_images), np.full(num_images, used))
    arguments = roi_files.arguments(roi_files.make(10), made, regressor=None)
    arguments["classifier"] = (np.eye(C + 1, 8, dtype=np.float32), np.zeros(C + 1, np.float32))
    annotated = labels.copy()
    annotated[:, 3:] = -1
    roi_files.annotate(folder / "val.json", Made(x, annotated.ravel(), made.boxes, iou, made.ids, made.num_rois))
    return features.write(folder / "rois.h5", **arguments)


def test_a_perfect_classifier_diverges_by_nothing(tmp_path: Path) -> None:
    run, detections = opened(perfect(tmp_path))
    found = count_objects(run, detections, 8)
    np.testing.assert_allclose(found.predicted[STAGE_ONE], found.truth, rtol=1e-6)
    assert found.truth.sum() == 36
    (told,) = divergences(run, found)
    assert told.objects == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose([*told.joint.values(), *told.mean.values(), *told.each], 0.0, atol=1e-9)
    assert list(told.joint) == [ALL, "frequent", "common", "rare"]


def test_what_nobody_has_verified_is_not_counted(tmp_path: Path) -> None:
    """Foxes that are seen in all images count where foxes are annotated, or verified to be absent."""
    path = perfect(tmp_path, more=1)
    run, detections = opened(path)
    assert count_objects(run, detections, 4).predicted[STAGE_ONE].sum(1)[2] == pytest.approx(2.0)
    tree = json.loads((tmp_path / "val.json").read_text())
    for image in tree["images"][5:8]:
        image["neg_category_ids"] = [3]
    (tmp_path / "val.json").write_text(json.dumps(tree))
    run, detections = opened(path)
    found = count_objects(run, detections, 4)
    assert found.predicted[STAGE_ONE].sum(1)[2] == pytest.approx(5.0)
    assert found.truth.sum(1)[2] == 1
    assert divergences(run, found)[0].joint["rare"] > 0.01


def test_groups_without_objects_are_undefined_and_empty_classes_left_out(written: Path) -> None:
    run, _ = opened(written)
    truth = np.zeros((C, 4))
    truth[0] = [1, 2, 3, 0]
    found = Objects(2, truth, {STAGE_ONE: np.ones((C, 4))}, np.arange(1, C + 1))
    (told,) = divergences(run, found)
    assert math.isnan(told.joint["rare"])
    assert np.isnan(told.each).tolist() == [False, True, True]
    assert told.mean[ALL] == told.mean["frequent"] == told.each[0]
    assert choose_categories(run, found, []) == [0]


def test_all_classifiers_in_one_pass(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    run, detections = opened(written)
    (one,) = run.sources
    other = Classifier(one.classifier.weight[:C] * 0.5, one.classifier.bias[:C])
    loss = losses.get("cross_entropy", activation="sigmoid", background=True)
    run.sources.append(replace(one, name="other", classifier=other, loss=loss))
    passes = []
    real = DetectionEvaluation._rois
    monkeypatch.setattr(DetectionEvaluation, "_rois", lambda self: passes.append(1) or real(self))
    both = count_objects(run, detections, 3)
    assert len(passes) == 1
    run.sources.pop(0)
    np.testing.assert_array_equal(count_objects(run, detections, 3).predicted["other"], both.predicted["other"])
    assert (both.predicted["other"] != both.predicted[STAGE_ONE]).any()


def test_categories_by_name_and_id(written: Path) -> None:
    run, detections = opened(written)
    found = count_objects(run, detections, 1)
    assert choose_categories(run, found, ["fox", "1", "fox"]) == [2, 0]
    assert choose_categories(run, found, []) == [0, 1, 2]
    for wanted, hint in (("foz", "did you mean fox?"), ("99", f"there are 3: {', '.join(NAMES)}; ids do too")):
        with pytest.raises(InputError, match=f"unknown category '{wanted}'") as caught:
            choose_categories(run, found, [wanted])
        assert caught.value.hint == hint


def test_cells_of_detections_are_by_each_images_own_size() -> None:
    assert centre_cells(np.array([[30, 30, 50, 50.0]] * 2), np.array([[50, 50], [100, 100]]), 2).tolist() == [3, 0]
