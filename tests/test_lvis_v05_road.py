"""Real annotations and photographs of LVIS v0.5 on the whole road of detectors: full size, all 1,230 classes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli

from gol_decouple import features, losses, runs
from gol_decouple.config import load_config
from gol_decouple.detection import evaluate_lvis
from gol_decouple.detection.box_evaluation import box_columns
from gol_decouple.stages.classifier_file import load_classifier
from gol_decouple.stages.detection_evaluation import DetectionEvaluation, _scorer, category_ids

CLASSES = 1230
FILE = "lvis_v0.5_val_3.json"
HELD = (("r", 454), ("c", 461), ("f", 315))  # classes by LVIS's own frequencies
OVERLAP = "warning: 3 images are in train and in val, such as 000000011813.jpg"
EMPTY = "warning: no train sample of 1,222 classes: acorn, aerosol_can, air_conditioner"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: a detector's checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def arguments(real_data: Path) -> list[object]:
    """The config with the three images for train and val, a small body from random weights, and two steps."""
    settings = [
        f"data.annotations.folder={real_data / 'lvis'}",
        f"data.annotations.train={FILE}",
        f"data.annotations.val={FILE}",
        "backbone.name=torchvision:resnet18",
        "backbone.pretrained=false",
    ]
    changes = [part for setting in settings for part in ("--set", setting)]
    return ["lvis_v05_maskrcnn_r50", "--data-root", real_data / "lvis" / "val3_images", *changes]


def succeeded(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def check_features(run: Path) -> None:
    config, opened = load_config(str(run / runs.CONFIG)), features.open(run / runs.FEATURES)
    assert config.detector is not None
    assert (config.detector.min_size, config.detector.max_size) == (800, 1333)
    assert len(opened.classes) == CLASSES
    assert (opened.classes.num_images, opened.feature_size) == (3, 1024)
    assert opened.classes.image_counts is not None
    assert (opened.classes.image_counts.sum(), opened.classes.image_counts.max()) == (8, 1)
    assert opened.classifier is not None
    assert opened.classifier.weight.shape == (CLASSES + 1, 1024)
    assert opened.regressor is not None
    assert opened.regressor.weight.shape == (CLASSES, 4, 1024)
    for name, per_image in (("train", 512), ("val", 1000)):
        rows = opened[name]
        assert rows.features.shape == (1, 3 * per_image, 1024)
        assert np.isfinite(rows.features[0, :].astype(np.float32)).all()
        assert sorted(rows.images.ids.tolist()) == [6460, 6894, 11813]
        found = dict(
            zip(rows.images.ids.tolist(), zip(rows.images.heights, rows.images.widths, strict=True), strict=True)
        )
        assert found == {11813: (500, 333), 6894: (480, 640), 6460: (427, 640)}
        assert ((rows.labels[:] >= 0).sum(), rows.labels[:].max()) == (rows.images.num_rois.sum(), CLASSES)
    counts = np.bincount(opened["train"].labels[:], minlength=CLASSES + 1)[:CLASSES]
    assert counts.tolist() == opened.classes.train_counts.tolist()
    assert ((counts > 0) == (opened.classes.image_counts > 0)).all()  # the objects themselves are RoIs


def check_rows(run: Path, found: list[dict[str, Any]], masks: bool) -> None:
    assert all(row["dataset"] == "lvis_v0.5" and row["split"] == "val" and row["top1"] is None for row in found)
    for row in found:
        assert [row[f"num_{letter}"] for letter, _ in HELD] == [number for _, number in HELD]
        assert row["test_settings"]["images"] == 3
        assert row["test_settings"]["nms_threshold"] == 0.3
        assert (row["ap"] is None) != masks
        assert 0 <= row["ap_box"] <= 100
        assert row["ap_r_box"] is None  # none of the three images has a rare class
        with (Path(row["path"]) / "per_class_ap.csv").open(newline="") as file:
            classes = list(csv.DictReader(file))
        assert [int(one["category_id"]) for one in classes] == list(range(1, CLASSES + 1))
        defined = [float(one["ap_box"]) for one in classes if one["ap_box"]]
        assert len(defined) == 8
        assert np.mean(defined) == pytest.approx(row["ap_box"], abs=1e-3)
        assert sum(bool(one["ap"]) for one in classes) == (8 if masks else 0)


def check_package_agrees(run: Path, gol: dict[str, Any], annotations: Path) -> None:
    """The boxes of the run's own classifier, all of them, by our evaluator and by the `lvis` package."""
    config, opened = load_config(str(run / runs.CONFIG)), features.open(run / runs.FEATURES)
    evaluation = DetectionEvaluation(opened, config, run, None, torch.device("cpu"))
    scorer = _scorer(load_classifier(Path(gol["path"])), losses.get("cross_entropy", activation="gumbel"), "cpu")
    ids = category_ids(opened.classes.names, evaluation._boxes.truth)
    (boxes,) = box_columns(evaluation._rois(), evaluation._regressor(), [scorer], ids, evaluation.settings)
    assert len(boxes["scores"]) == 3 * 300
    ours, package = (evaluate_lvis(annotations, boxes, evaluator=one) for one in ("columnar", "lvis"))
    assert ours["ap"] == pytest.approx(gol["ap_box"])
    assert ours["ap"] > 0
    classes = ours.pop("per_class"), package.pop("per_class")
    assert ours == pytest.approx(package, nan_ok=True)
    assert classes[0] == pytest.approx(classes[1], nan_ok=True)


@pytest.mark.slow
def test_full_size_images_of_lvis_go_the_whole_road(folder: Path, real_data: Path, run_cli: RunCli) -> None:
    config, where = arguments(real_data), ("--runs-dir", folder)
    checked = succeeded(run_cli("check", *config))
    assert (checked.out, checked.err.count("nothing is wrong with")) == ("", 1)
    assert OVERLAP in checked.err
    assert EMPTY in checked.err
    trial = ("--set", "stage1.batch_size=1", "--set", "stage1.max_steps=2")
    trained = succeeded(run_cli("stage1", *config, *trial, *where))
    told = ("backbone.trainable does not name conv1, bn1, layer1", "(3 train, 3 val images, 1,230 classes), 24 epochs")
    assert all(text in trained.err for text in (OVERLAP, EMPTY, *told))
    run = folder / "lvis_v05_maskrcnn_r50"
    check_features(run)
    names = [part for name in ("gol", "softmax") for part in ("--method", name)]
    retrained = succeeded(run_cli("stage2", run, *names, "--activation", "gumbel", *where))
    assert EMPTY in retrained.err
    found = json.loads(run_cli("report", run, "--format", "json").out)
    assert [(row["stage"], row["method"]) for row in found] == [
        (1, "softmax"), (2, "gol"), (2, "gumbel"), (2, "softmax")
    ]  # fmt: skip
    check_rows(run, found, masks=False)
    check_package_agrees(run, found[1], real_data / "lvis" / FILE)
    masked = ("--checkpoint", run / runs.MODEL, "--name", "masks", "--set", "detector.masks=true")
    succeeded(run_cli("stage1", *config, *masked, *where))
    both = succeeded(run_cli("stage2", folder / "masks", "--method", "gol", *where, "--set", "stage2.epochs=1"))
    assert "AP of masks" in both.out
    check_rows(run, json.loads(run_cli("report", folder / "masks", "--format", "json").out), masks=True)
