"""Detectors on the command line: stage one caches RoIs, stage two retrains their classifier, the report tells AP."""

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
from annotated import MAIN, narrow_backbone
from conftest import RunCli
from safetensors import safe_open
from safetensors.torch import load_file
from test_distributed import two_processes

import gol_decouple
from gol_decouple import features, losses, runs
from gol_decouple.backbones import mask_rcnn, unfit
from gol_decouple.backbones.detector_weights import detector_from
from gol_decouple.config import load_config
from gol_decouple.data.annotated_batches import AnnotatedBatches
from gol_decouple.data.loading import clean_keys
from gol_decouple.data.lvis import load_annotated
from gol_decouple.detection import prepare
from gol_decouple.detection.roi_boxes import detect_boxes
from gol_decouple.detection.roi_sampling import Sampling, train_rois
from gol_decouple.detection.whole_detector import DetectorImage, regressor_of
from gol_decouple.errors import InputError
from gol_decouple.features import layout
from gol_decouple.features.extract import row_order
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.stages import classifier
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.detection_evaluation import DetectionEvaluation, _scorer, category_ids

EXACT = ("features.dtype=float32", "detector.val_rois_per_image=40", "detector.score_threshold=0.01")
IMAGE_BYTES = 16 * 1024 * 4  # of a train image's features: a block is one image


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, detector_config: Path) -> Iterator[Path]:
    """A finished run, of a detector that was trained for two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    yield run_stage1(load_config(str(detector_config), EXACT), folder)
    shutil.rmtree(folder)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it to work on, without what stage two does not need."""
    copy = shutil.copytree(finished, tmp_path / "runs" / finished.name, ignore=shutil.ignore_patterns("*.pt"))
    yield copy
    shutil.rmtree(tmp_path / "runs")


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def test_what_stage_one_leaves(finished: Path, annotated_root: Path) -> None:
    opened = features.open(finished / runs.FEATURES)
    data = load_annotated(load_config(str(finished / runs.CONFIG)).data)
    assert opened.is_detection
    assert opened.classes.names == data.class_names
    assert opened.classes.image_counts is not None
    assert opened.classes.image_counts.tolist() == data.image_counts.tolist()
    assert opened.classes.num_images == len(data.splits["train"])
    assert opened.classifier is not None
    assert opened.classifier.weight.shape == (4, opened.feature_size)
    assert opened.regressor is not None
    assert opened.regressor.weight.shape == (3, 4, opened.feature_size)
    for position, (name, per_image) in enumerate((("train", 16), ("val", 40))):
        rows, split = opened[name], data.splits[name]
        assert rows.images.ids.tolist() == split.ids[row_order(len(split), 0, position)].tolist()
        assert len(rows) == per_image * len(split)
        places = {id_: at for at, id_ in enumerate(split.ids.tolist())}
        for at, id_ in enumerate(rows.images.ids.tolist()):
            own, objects = slice(at * per_image, (at + 1) * per_image), places[id_]
            labels, boxes, ious = rows.labels[own], rows.boxes[own], rows.ious[own]
            assert (rows.images.heights[at], rows.images.widths[at]) == tuple(split.sizes[objects])
            assert (labels >= 0).sum() == rows.images.num_rois[at] > 0
            assert ((ious >= 0.5) == ((labels >= 0) & (labels < 3))).all()
            if name == "train":  # the objects themselves are among them, where they were drawn
                truth = split.boxes[split.starts[objects] : split.starts[objects + 1]]
                found = [np.abs(boxes - box).max(1).min() < 0.01 for box in truth]
                assert sum(found) == (ious > 0.999).sum() > 0
    told = manifest_of(finished)
    assert told["split"] == "val"
    assert told["metrics"]["top1"] is None
    assert told["detection"]["annotations"] == "val.json"
    assert told["detection"]["masks"] is None
    assert told["detection"]["settings"]["score_threshold"] == 0.01
    figures = prepare(annotated_root / "val.json").evaluate([])
    assert told["detection"]["boxes"].keys() == figures.keys() - {"per_class"}


def test_train_rois_are_drawn_for_their_image(finished: Path) -> None:
    config = load_config(str(finished / runs.CONFIG))
    detector, _ = detector_from(config, 3, finished / runs.MODEL)
    split, rows = load_annotated(config.data).splits["train"], features.open(finished / runs.FEATURES)["train"]
    for batch in AnnotatedBatches(split, clean_keys(range(len(split)), 1), masks=False, workers=0):
        id_ = int(split.ids[batch.indices[0]])
        (rois,) = train_rois(detector, batch.images(), batch.targets(), [id_], 3, Sampling(16, 0.25))
        at = rows.images.ids.tolist().index(id_) * 16
        assert rows.labels[at : at + len(rois)].tolist() == rois.labels.tolist()
        np.testing.assert_array_equal(rows.boxes[at : at + len(rois)], rois.boxes.numpy())


def test_boxes_from_the_cache_are_the_detectors_own(finished: Path) -> None:
    config = load_config(str(finished / runs.CONFIG))
    opened = features.open(finished / runs.FEATURES)
    assert opened.classifier is not None
    evaluation = DetectionEvaluation(opened, config, finished, None, torch.device("cpu"))
    scorer = _scorer(opened.classifier, losses.get("cross_entropy", activation="softmax", background=True), "cpu")
    cached = {rois.image_id: rois for rois in evaluation._rois()}
    detector, _ = detector_from(config, 3, finished / runs.MODEL)
    split = load_annotated(config.data).splits["val"]
    seen = 0
    for batch in AnnotatedBatches(split, clean_keys(range(len(split)), 1), masks=False, workers=0):
        with torch.inference_mode():
            (own,) = detector.eval()(batch.images())
        rois = cached[int(split.ids[batch.indices[0]])]
        (found,) = detect_boxes(rois, evaluation._regressor(), [scorer], evaluation.settings)
        seen += len(found.labels)
        assert found.labels.tolist() == (own["labels"] - 1).tolist()
        np.testing.assert_allclose(found.scores, own["scores"].numpy(), rtol=1e-4)
        np.testing.assert_allclose(found.boxes, own["boxes"].numpy(), atol=0.01)
    assert seen > 20


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_detections_of_an_overfitted_detector(detector_config: Path, tmp_path: Path, dtype: str) -> None:
    """From the cache and by the whole detector they are the same, whatever classifier takes the place of its own."""
    changes = ["data.annotations.val=train.json", "stage1.lr=0.003", "stage1.epochs=30", "stage1.sampler=random"]
    changes += ["transform.flip=false", "detector.train_min_sizes=[64]", "detector.val_rois_per_image=40"]
    run = run_stage1(load_config(str(detector_config), [*changes, f"features.dtype={dtype}"]), tmp_path)
    assert manifest_of(run)["detection"]["boxes"]["ap50"] > 20.0
    opened = features.open(run / runs.FEATURES)
    evaluation = DetectionEvaluation(opened, load_config(str(run / runs.CONFIG)), run, None, torch.device("cpu"))
    cached = {rois.image_id: rois for rois in evaluation._rois()}
    softmax = losses.get("cross_entropy", activation="softmax", background=True)
    classifiers: dict[str, tuple[Any, Any]] = {"stage one": (opened.classifier, softmax)}
    for name in ("softmax", "sigmoid", "gumbel", "gumbel_published", "gol", "seesaw", "bags", "eqlv2"):
        retrained = gol_decouple.retrain(run / runs.FEATURES, name, epochs=200, batch_size=64)
        classifiers[name] = (retrained, retrained.loss)
    scorers = [_scorer(*pair, torch.device("cpu")) for pair in classifiers.values()]
    seen = dict.fromkeys(classifiers, 0)
    for image_id, pixels in evaluation._images():
        with torch.inference_mode():
            image = DetectorImage(evaluation._detector.eval(), image_id, pixels)
            whole = detect_boxes(image.rois, regressor_of(evaluation._detector), scorers, evaluation.settings)
            found = detect_boxes(cached[image_id], evaluation._regressor(), scorers, evaluation.settings)
        for name, own, ours in zip(classifiers, map(image.in_image, whole), found, strict=True):
            seen[name] += len(own.labels)
            if dtype == "float32":
                assert ours.labels.tolist() == own.labels.tolist(), name
                np.testing.assert_allclose(ours.boxes, own.boxes, atol=1e-4)
                np.testing.assert_allclose(ours.scores, own.scores, atol=1e-4)
    assert min(seen.values()) > 5
    differences = []
    for made, loss in classifiers.values():
        from_cache = evaluation.evaluate(tmp_path, made, loss)["boxes"]["ap"]
        ((by_detector, _),) = evaluation._of_detector([_scorer(made, loss, torch.device("cpu"))])
        differences.append(from_cache - by_detector["ap"])
    print(f"{dtype}: AP from the cache less the detector's own: {dict(zip(classifiers, differences, strict=True))}")
    assert np.abs(differences).max() < (1e-6 if dtype == "float32" else 1.0)
    shutil.rmtree(tmp_path)


def test_an_interrupted_extraction_continues(
    finished: Path, detector_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    config = load_config(str(detector_config), [*EXACT, f"stage1.checkpoint={finished / runs.MODEL}"])
    monkeypatch.setattr(layout, "BLOCK_BYTES", IMAGE_BYTES)
    whole = features.open(run_stage1(config, tmp_path / "whole") / runs.FEATURES)
    real, written = FeatureWriter.write, []

    def failing(writer: FeatureWriter, block: layout.Block, **columns: Any) -> None:
        if len(written) == 3:
            raise InputError("stopped")
        written.append(block)
        real(writer, block, **columns)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "write", failing)
        with pytest.raises(InputError, match="stopped"):
            run_stage1(config, tmp_path / "parts")
    counted = []
    monkeypatch.setattr(
        FeatureWriter, "write", lambda *given, **columns: counted.append(given[1]) or real(*given, **columns)
    )
    parts = features.open(run_stage1(config, tmp_path / "parts") / runs.FEATURES)
    assert len(written) == 3
    assert not set(written) & set(counted)
    assert len(written) + len(counted) == 4 + 3  # images of train and val
    assert parts.fingerprint == whole.fingerprint
    shutil.rmtree(tmp_path)


def test_two_processes_write_shards_of_the_same_features(
    finished: Path, detector_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    changes = [*EXACT, f"stage1.checkpoint={finished / runs.MODEL}"]
    monkeypatch.setattr(layout, "BLOCK_BYTES", IMAGE_BYTES)
    whole = features.open(run_stage1(load_config(str(detector_config), changes), tmp_path / "whole") / runs.FEATURES)
    small = f"from gol_decouple.features import layout\nlayout.BLOCK_BYTES = {IMAGE_BYTES}\n"
    arguments = ["stage1", detector_config, "--runs-dir", tmp_path / "two", "--shards"]
    arguments += [part for change in changes for part in ("--set", change)]
    outcomes = two_processes(small + MAIN, *arguments)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    merged = run_cli("merge", tmp_path / "two" / "tiny")
    assert merged.code == 0, merged.err
    assert "AP of boxes" in merged.out
    assert features.open(tmp_path / "two" / "tiny" / runs.FEATURES).fingerprint == whole.fingerprint
    shutil.rmtree(tmp_path)


def test_stage_two_and_its_report(run: Path, run_cli: RunCli) -> None:
    several = [part for name in ("gol", "gumbel_crt", "norcal", "softmax") for part in ("--method", name)]
    done = run_cli("stage2", run, *several, "--runs-dir", run.parent, "--set", "stage2.epochs=2")
    assert done.code == 0, done.err
    assert "tiny, torchvision:resnet18, val, AP of boxes" in done.out
    assert "all tested with score threshold 0.01, NMS 0.5, 300 detections an image, 3 images of val.json" in " ".join(
        done.out.split()
    )
    assert "top-1" not in done.out
    rows = json.loads(run_cli("report", run, "--format", "json").out)
    assert [(row["stage"], row["method"]) for row in rows] == [
        (1, "softmax"), (2, "gol"), (2, "gumbel_crt"), (2, "norcal"), (2, "softmax")
    ]  # fmt: skip
    for row in rows:
        assert row["ap"] is None
        assert 0 <= row["ap_box"] <= 100
        assert (row["top1"], row["num_r"], row["num_c"], row["num_f"]) == (None, 1, 1, 1)
        with (Path(row["path"]) / "per_class_ap.csv").open(newline="") as file:
            classes = list(csv.DictReader(file))
        assert [int(one["category_id"]) for one in classes] == [3, 7, 9]
        assert np.mean([float(one["ap_box"]) for one in classes]) == pytest.approx(row["ap_box"], abs=1e-3)
        assert {one["ap"] for one in classes} == {""}
    folders = {path.name.partition("-")[0]: path for path in (run / "stage2").iterdir()}
    told = manifest_of(folders["gol"])
    assert (told["settings"]["lr"], told["settings"]["batch_size"], told["settings"]["start"]) == (0.02, 8192, "fresh")
    assert told["changed_settings"] == {"epochs": 2}
    again = run_cli("stage2", run, *several, "--runs-dir", run.parent, "--set", "stage2.epochs=2")
    assert again.err.count("is finished and kept as it is") == 4


def test_limited_images_are_all_that_is_evaluated_on(finished: Path, detector_config: Path, tmp_path: Path) -> None:
    changes = [*EXACT, f"stage1.checkpoint={finished / runs.MODEL}", "data.limit=2"]
    run = run_stage1(load_config(str(detector_config), changes), tmp_path)
    assert features.open(run / runs.FEATURES)["val"].images.ids.shape == (2,)
    assert manifest_of(run)["detection"]["images"] == 2
    shutil.rmtree(tmp_path)


def test_a_body_alone_has_no_regressor(finished: Path, detector_config: Path, tmp_path: Path) -> None:
    prefix = "backbone.body."
    body = {
        name.removeprefix(prefix): part for name, part in load_file(finished / runs.MODEL).items() if prefix in name
    }
    torch.save(body, tmp_path / "body.pth")
    loaded = f"stage1.checkpoint={tmp_path / 'body.pth'}"
    with pytest.raises(InputError, match="no mask predictor is loaded or trained"):
        run_stage1(load_config(str(detector_config), [loaded, "detector.masks=true"]), tmp_path)
    run = run_stage1(load_config(str(detector_config), [loaded]), tmp_path)
    with safe_open(run / runs.MODEL, framework="pt") as file:
        assert unfit.read(file.metadata(), tmp_path) == tuple(unfit.PREDICTORS)
    opened = features.open(run / runs.FEATURES)
    assert opened.classifier is None
    assert opened.regressor is None
    told = manifest_of(run)["detection"]
    assert (told["boxes"]["ap"], told["masks"]) == (None, None)
    shutil.rmtree(tmp_path)


def test_nothing_is_trained_on_val_that_is_evaluated_on(run: Path, run_cli: RunCli) -> None:
    refused = run_cli("stage2", run, "--method", "gol", "--runs-dir", run.parent, "--set", "stage2.refit=true")
    assert refused.code == 2
    assert "error: stage2.refit = true trains on val, and" in refused.err


def test_the_images_are_not_needed_again(run: Path, run_cli: RunCli, annotated_root: Path, tmp_path: Path) -> None:
    config, gone = run / runs.CONFIG, tmp_path / "gone"
    config.write_text(config.read_text().replace(str(annotated_root), str(gone)))
    arguments = ("stage2", run, "--method", "gol", "--runs-dir", run.parent, "--set", "stage2.epochs=1")
    refused = run_cli(*arguments)
    assert refused.code == 2
    assert f"and there is no file {gone / 'val.json'}\nhint: --annotations lvis_v1_val.json\n" in refused.err
    done = run_cli(*arguments, "--annotations", annotated_root / "val.json")
    assert done.code == 0, done.err


def test_masks_of_the_whole_detector(run: Path, run_cli: RunCli) -> None:
    config = run / runs.CONFIG
    config.write_text(config.read_text().replace("masks = false", "masks = true"))
    done = run_cli("stage2", run, "--activation", "gumbel", "--runs-dir", run.parent, "--set", "stage2.epochs=2")
    assert done.code == 0, done.err
    assert "AP of masks" in done.out
    stage_one, gumbel = json.loads(run_cli("report", run, "--format", "json").out)
    assert (stage_one["ap"], gumbel["stage"]) == (None, 2)
    assert 0 <= gumbel["ap"] <= 100
    assert 0 <= gumbel["ap_box"] <= 100
    assert "rows that were tested otherwise are in another table" in " ".join(done.out.split())


@pytest.mark.parametrize("masks", [False, True])
def test_classifiers_are_evaluated_in_one_pass(
    run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, masks: bool
) -> None:
    config, passes = run / runs.CONFIG, []
    config.write_text(config.read_text().replace("masks = false", f"masks = {str(masks).lower()}"))
    told = DetectionEvaluation._told
    monkeypatch.setattr(DetectionEvaluation, "_told", lambda *given: passes.append(given[2]) or told(*given))
    several = ("--activation", "gumbel", "--method", "droploss", "--seeds", "2", "--runs-dir", run.parent)
    assert run_cli("stage2", run, *several, "--set", "stage2.epochs=2").code == 0
    assert passes == ["boxes and masks" if masks else "boxes"]
    together = json.loads(run_cli("report", run, "--format", "json").out)[1:]
    assert len(together) == 4
    assert len({row["ap_box"] for row in together}) > 1
    monkeypatch.setattr(classifier, "EVALUATED_TOGETHER", 1)
    assert run_cli("stage2", run, *several, "--set", "stage2.epochs=2", "--overwrite").code == 0
    assert len(passes) == 5
    alone = json.loads(run_cli("report", run, "--format", "json").out)[1:]
    names = ("method", "seed", "ap", "ap_r", "ap_box", "ap50_box", "ap_f_box")
    assert [[row[name] for name in names] for row in alone] == [[row[name] for name in names] for row in together]


def test_rois_outside_a_run_need_annotations(run: Path, run_cli: RunCli, annotated_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "rois.h5"
    (run / runs.FEATURES).rename(path)
    arguments = ("stage2", path, "--method", "gol", "--runs-dir", tmp_path / "own", "--set", "stage2.epochs=1")
    refused = run_cli(*arguments)
    assert refused.code == 2
    assert refused.err == (
        f"error: {path} holds RoIs: average precision needs the annotations of its val images\n"
        "hint: --annotations lvis_v1_val.json\n"
    )
    assert not (tmp_path / "own").exists()
    done = run_cli(*arguments, "--annotations", annotated_root / "val.json")
    assert done.code == 0, done.err
    assert "300 detections an image, 3 images of val.json" in " ".join(done.out.split())
    tree = json.loads((annotated_root / "val.json").read_text())
    for row in (*tree["images"], *tree["annotations"]):
        row["image_id" if "image_id" in row else "id"] += 1000
    (tmp_path / "other.json").write_text(json.dumps(tree))
    wrong = run_cli(*arguments, "--overwrite", "--annotations", tmp_path / "other.json")
    assert wrong.code == 2
    assert f"{tmp_path / 'other.json'} has 0 of 3 images, and not 100" in wrong.err
    tree = json.loads((annotated_root / "val.json").read_text())
    (tmp_path / "renamed.json").write_text(json.dumps(tree))
    again = run_cli(*arguments, "--annotations", tmp_path / "renamed.json")
    assert "warning: it was evaluated with other settings (val.json, 3 images" in again.err


def test_annotations_are_for_rois_only(gaussians: Path, run_cli: RunCli, annotated_root: Path, tmp_path: Path) -> None:
    arguments = ("--activation", "gumbel", "--annotations", annotated_root / "val.json", "--runs-dir", tmp_path)
    refused = run_cli("stage2", gaussians, *arguments)
    assert (refused.code, "holds samples, not RoIs" in refused.err) == (2, True)


def test_classes_are_found_by_name(annotated_root: Path) -> None:
    truth = prepare(annotated_root / "val.json").truth
    assert category_ids(["three", "seven", "nine"], truth).tolist() == [3, 7, 9]
    assert category_ids(["nine", "three"], truth).tolist() == [9, 3]
    with pytest.raises(InputError, match=r"2 of 3 classes are no categories of .*val.json: cat, dog"):
        category_ids(["cat", "seven", "dog"], truth)
