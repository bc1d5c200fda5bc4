"""The road of a detector by other conventions: features tell them, and cached RoIs become the detector's own boxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated import narrow_backbone
from safetensors.torch import save_file

from gol_decouple import features, losses, runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.config import load_config
from gol_decouple.detection.roi_boxes import detect_boxes
from gol_decouple.detection.whole_detector import DetectorImage, regressor_of
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.detection_evaluation import DetectionEvaluation, _scorer

SETTINGS = ("features.dtype=float32", "detector.val_rois_per_image=40", "detector.score_threshold=0.01")


@pytest.fixture(params=["detectron2", "mmdetection"])
def run(
    request: pytest.FixtureRequest, tmp_path: Path, detector_config: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Of a checkpoint with one box for all classes, with masks evaluated."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)
    changes = [*SETTINGS, f"detector.conventions.framework={request.param}", "detector.masks=true"]
    config = load_config(str(detector_config), changes)
    assert config.detector is not None
    source = build_detector(config.backbone.name, 3, 9, config.detector, config.transform, False, class_agnostic=True)
    with torch.no_grad():
        source.roi_heads.box_predictor.bbox_pred.weight.normal_(std=0.3)
        source.roi_heads.box_predictor.cls_score.weight.normal_(std=0.1)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    changes.append(f"stage1.checkpoint={tmp_path / 'model.safetensors'}")
    yield run_stage1(load_config(str(detector_config), changes), tmp_path / "runs")
    shutil.rmtree(tmp_path)


def test_features_tell_the_conventions_and_give_the_detectors_boxes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(str(run / runs.CONFIG))
    assert config.detector is not None
    framework = config.detector.conventions.framework
    opened = features.open(run / runs.FEATURES)
    told = opened.origin["transform"]
    assert told["conventions"]["framework"] == framework
    assert told["conventions"]["aligned"] is True
    assert told["proposals_before_nms"] == 1000, "as both frameworks usually have it"
    assert opened.regressor is not None
    assert opened.regressor.weight.shape == (1, 4, opened.feature_size)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["detection"]["masks"] is not None

    evaluation = DetectionEvaluation(opened, config, run, None, torch.device("cpu"))
    assert np.isfinite(evaluation._regressor().least_growth) == (framework == "mmdetection")
    softmax = losses.get("cross_entropy", activation="softmax", background=True)
    scorers = [_scorer(opened.classifier, softmax, torch.device("cpu"))]
    cached = {rois.image_id: rois for rois in evaluation._rois()}
    for image_id, pixels in evaluation._images():
        with torch.inference_mode():
            image = DetectorImage(evaluation._detector.eval(), image_id, pixels)
            (whole,) = detect_boxes(image.rois, regressor_of(evaluation._detector), scorers, evaluation.settings)
            (ours,) = detect_boxes(cached[image_id], evaluation._regressor(), scorers, evaluation.settings)
        own = image.in_image(whole)
        assert len(own.labels) > 5
        assert ours.labels.tolist() == own.labels.tolist()
        np.testing.assert_allclose(ours.boxes, own.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, own.scores, atol=1e-5)

    for said in (None, "mmdetection", {"framework": 7}, {}):  # by files of other programs
        other = {"transform": {"conventions": said}} if said is not None else {}
        monkeypatch.setattr(type(opened), "origin", property(lambda _, other=other: other))
        assert evaluation._regressor().least_growth == -np.inf
