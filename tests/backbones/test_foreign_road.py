"""Checkpoints of detectron2, mmdetection and GOL on the command line: stage one evaluates them, stage two goes on."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign
import foreign_files as files
import pytest
import torch
from annotated import narrow_bottlenecks
from conftest import Outcome, RunCli
from safetensors.torch import load_file, save_file

from gol_decouple import features, runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.detector_layouts import Layout, to_layout
from gol_decouple.config import load_config
from gol_decouple.stages.detection_evaluation import DetectionEvaluation

NAMES = ["three", "seven", "nine"]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_bottlenecks)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: detectors are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def stage1(run_cli: RunCli, detector_config: Path, folder: Path) -> Any:
    """`stage1(checkpoint, setting, ...)`: the command, with a run called tiny."""

    def run(checkpoint: Path, *settings: str, options: tuple[str, ...] = ()) -> Outcome:
        base = ["backbone.name=torchvision:resnet50", "detector.score_threshold=0.01", "features.dtype=float32"]
        changes = [part for setting in (*base, *settings) for part in ("--set", setting)]
        arguments = [detector_config, "--runs-dir", folder / "runs", "--checkpoint", checkpoint]
        return run_cli("stage1", *arguments, *changes, *options)

    return run


def manifest_of(run: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run / runs.MANIFEST).read_text())
    return manifest


def gol(folder: Path, columns: int) -> Path:
    """A checkpoint as GOL's are."""
    loss = files.GUMBEL if columns == 4 else files.GUMBEL_DROP
    config = files.mmdetection_config(classes=3, loss=loss, mask_predictor=files.NORMED_MASKS)
    state = foreign.state_of("mmdetection", "narrow", 3, columns=columns)
    return files.write_mmdetection(folder / "gol.pth", state, config, NAMES)


@pytest.mark.parametrize(
    ("name", "agnostic"), [("mmdetection.pth", False), ("detectron2.pth", True), ("detectron2.pkl", False)]
)
def test_a_softmax_detector(folder: Path, stage1: Any, run_cli: RunCli, name: str, agnostic: bool) -> None:
    framework = name.partition(".")[0]
    state = foreign.state_of(framework, "narrow", 3, agnostic=agnostic)
    path = folder / name
    if framework == "detectron2":
        files.write_detectron2(path, state)
    else:
        files.write_mmdetection(path, state, files.mmdetection_config(classes=3), NAMES, version=3)
    done = stage1(path)
    assert done.code == 0, done.err
    assert f"{path} is of {framework}:" in done.err
    assert f"usual of {framework}" in done.err
    run = folder / "runs" / "tiny"
    config = load_config(str(run / runs.CONFIG))
    assert config.detector is not None
    assert config.detector.conventions.framework == framework
    manifest = manifest_of(run)
    assert (manifest["method"], manifest["started_from"]) == ("softmax", "checkpoint")
    opened = features.open(run / runs.FEATURES)
    assert opened.classifier is not None
    assert opened.regressor is not None
    assert len(opened.regressor.weight) == (1 if agnostic else 3)
    theirs = state[f"{foreign.name_of(framework, 'classes')}.bias"]
    torch.testing.assert_close(torch.from_numpy(opened.classifier.bias), theirs)  # background last, as it is there
    origin = json.loads((run / runs.CHECKPOINT).read_text())
    back = to_layout(load_file(run / runs.MODEL), Layout.from_dict(origin["layout"]))
    kept = [key for key in state if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(back[key], state[key]) for key in kept)
    again = stage1(path)
    assert again.code == 0, again.err
    assert "is finished and kept as it is" in again.err
    two = run_cli("stage2", run, "--activation", "gumbel", "--runs-dir", run.parent, "--set", "stage2.epochs=1")
    assert two.code == 0, two.err


@pytest.mark.parametrize("columns", [3, 4])
def test_gols_detectors_are_finished_classifiers(
    folder: Path, stage1: Any, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    path, evaluated = gol(folder, columns), []
    real = DetectionEvaluation.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(DetectionEvaluation, "evaluate", lambda *given: evaluated.append(given[2:]) or real(*given))
        done = stage1(path, "detector.masks=true")
    assert done.code == 0, done.err
    run = folder / "runs" / "tiny"
    manifest = manifest_of(run)
    told = {key: manifest[key] for key in ("method", "activation", "loss", "started_from", "has_classifier")}
    assert told == {
        "method": "gumbel", "activation": "gumbel", "loss": "cross_entropy", "started_from": "checkpoint",
        "has_classifier": True,
    }  # fmt: skip
    assert manifest["detection"]["masks"] is not None
    theirs = torch.load(path, weights_only=True)["state_dict"]
    ((classifier, loss),) = evaluated
    assert torch.equal(classifier.weight, theirs["roi_head.bbox_head.fc_cls.weight"][:3])
    assert torch.equal(classifier.bias, theirs["roi_head.bbox_head.fc_cls.bias"][:3])
    logits = torch.tensor([[-1.0, 0.0, 2.0]])
    torch.testing.assert_close(loss.scores(logits), torch.exp(-torch.exp(-logits)))
    opened = features.open(run / runs.FEATURES)
    assert opened.classifier is None, "stage two would take it for a Softmax one"
    assert opened.regressor is not None
    rows = json.loads(run_cli("report", run, "--format", "json").out)
    assert [(row["stage"], row["method"]) for row in rows] == [(1, "gumbel")]
    two = run_cli("stage2", run, "--method", "norcal", "--runs-dir", run.parent, "--set", "stage2.epochs=1")
    assert two.code == 0, two.err
    assert "from a Softmax classifier trained on the features" in " ".join(two.out.split())


def test_gols_detectors_are_used_as_they_are(folder: Path, stage1: Any, run_cli: RunCli, annotated_root: Path) -> None:
    """No stage two: `predict`, `export` and `analyze` take the checkpoint's own classifier."""
    path = gol(folder, 3)
    done = stage1(path)
    assert done.code == 0, done.err
    run = folder / "runs" / "tiny"
    theirs = torch.load(path, weights_only=True)["state_dict"]
    weight = theirs["roi_head.bbox_head.fc_cls.weight"]
    predicted = run_cli("predict", run, annotated_root / "train" / "0.png", "--format", "json", "--min-score", 0.0)
    assert predicted.code == 0, predicted.err
    assert json.loads(predicted.out)
    for kind in ("safetensors", "checkpoint"):
        exported = run_cli("export", run, "--format", kind, "--out", folder / kind)
        assert exported.code == 0, exported.err
        assert json.loads((folder / kind / "config.json").read_text())["scores"]["activation"] == "gumbel"
    plain = load_file(folder / "safetensors" / runs.MODEL)["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(plain[1:], weight)
    back = torch.load(folder / "checkpoint" / path.name, weights_only=True)["state_dict"]
    assert torch.equal(back["roi_head.bbox_head.fc_cls.weight"], weight)
    analysed = run_cli("analyze", run, "--out", folder / "analyses", "--what", "norms")
    assert analysed.code == 0, analysed.err
    rows = list(csv.DictReader((folder / "analyses" / "norms.csv").read_text().splitlines()))
    norms = {int(row["class"]): float(row["norm"]) for row in rows}
    assert norms == pytest.approx(dict(enumerate(weight.norm(dim=1).tolist())), rel=1e-4)
    objects = run_cli("analyze", run, "--out", folder / "analyses", "--what", "objects")
    assert objects.code == 0, objects.err


def test_what_is_damaged_of_a_finished_classifier_is_told(folder: Path, stage1: Any, run_cli: RunCli) -> None:
    assert stage1(gol(folder, 3)).code == 0
    run = folder / "runs" / "tiny"
    origin, model = run / runs.CHECKPOINT, run / runs.MODEL
    text, weights = origin.read_text(), model.read_bytes()

    def refused() -> str:
        outcome = run_cli("analyze", run, "--out", folder / "analyses", "--what", "norms")
        assert (outcome.code, "Traceback" in outcome.err, "hint: " in outcome.err) == (2, False, True), outcome.err
        return " ".join(outcome.err.split())

    for damaged in (5, ["a"], "all", None):
        origin.write_text(json.dumps(json.loads(text) | {"tensors": damaged}))
        assert "checkpoint.json does not tell what was loaded: 'tensors' is no object" in refused()
    origin.write_text("{")
    assert "checkpoint.json is not readable JSON" in refused()
    origin.write_text(text)
    told = json.loads((run / runs.MANIFEST).read_text())
    del told["features"]["backbone"]  # of which the weights have to be
    (run / runs.MANIFEST).write_text(json.dumps(told))
    model.write_bytes(weights[:100])
    assert f"the model in {model} cannot be read" in refused()
    save_file({"roi_heads.box_predictor.cls_score.weight": torch.zeros(4, 3)}, model)
    assert f"the model in {model} cannot be read" in refused()
    save_file({f"roi_heads.box_predictor.cls_score.{part}": torch.zeros(4) for part in ("weight", "bias")}, model)
    assert "its classifier is [4], not [4, 1024]" in refused()
    model.unlink()
    assert f"the model in {model} cannot be read: there is no such file" in refused()


def test_a_finished_classifier_outlives_shards_and_our_own_file(folder: Path, stage1: Any, run_cli: RunCli) -> None:
    done = stage1(gol(folder, 3), options=("--shards",))
    assert done.code == 0, done.err
    run = folder / "runs" / "tiny"
    merged = run_cli("merge", run)
    assert merged.code == 0, merged.err
    assert manifest_of(run)["method"] == "gumbel"
    again = stage1(run / runs.MODEL, options=("--name", "again"))
    assert again.code == 0, again.err
    other = manifest_of(folder / "runs" / "again")
    assert other["method"] == "gumbel"
    assert other["detection"] == manifest_of(run)["detection"]
    first, second = (features.open(path / runs.FEATURES) for path in (run, folder / "runs" / "again"))
    assert (first["val"].features[0] == second["val"].features[0]).all()


def test_a_finished_classifier_of_other_classes_is_none(folder: Path, stage1: Any) -> None:
    state = foreign.state_of("mmdetection", "narrow", 5, columns=5)
    config = files.mmdetection_config(classes=5, loss=files.GUMBEL_DROP)
    path = files.write_mmdetection(folder / "gol.pth", state, config, ["a", "b", "c", "d", "e"])
    done = stage1(path)
    assert done.code == 0, done.err
    manifest = manifest_of(folder / "runs" / "tiny")
    assert (manifest["method"], manifest["detection"]["boxes"]["ap"]) == ("softmax", None)


@pytest.mark.parametrize(
    ("framework", "changes", "settings", "message"),
    [
        ("mmdetection", {"roi_head.bbox_head.0.fc_cls.bias": 1}, [], "is of a cascade"),
        ("detectron2", {"roi_heads.box_predictor.0.cls_score.bias": 1}, [], "is of a cascade"),
        ("mmdetection", {"bbox_head.fc_cls.bias": 1}, [], "is of mmdetection 1.x"),
        ("detectron2", {}, ["backbone.name=torchvision:mobilenet"], "cannot be a detector's"),
        ("detectron2", {"roi_heads.box_predictor.cls_score.bias": 3}, [], "has no column for background"),
        ("detectron2", {}, ["detector.activation=gumbel", "stage1.epochs=1"], "stage1.epochs = 1 trains Softmax"),
    ],
)
def test_what_does_not_load_leaves_nothing(
    folder: Path, stage1: Any, framework: str, changes: dict[str, int], settings: list[str], message: str
) -> None:
    state = foreign.state_of(framework, "narrow", 3)
    state |= {name: torch.zeros(rows) for name, rows in changes.items()}
    torch.save({"model": state}, folder / "a.pth")
    refused = stage1(folder / "a.pth", *settings)
    assert refused.code == 2
    assert refused.err.startswith("error: ") or "\nerror: " in refused.err
    assert message in refused.err
    assert "hint: " in refused.err
    assert not (folder / "runs").exists()


def test_a_hostile_pickle_is_refused(folder: Path, stage1: Any) -> None:
    (folder / "a.pkl").write_bytes(b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch ran.txt\x85R.")
    refused = stage1(folder / "a.pkl")
    assert refused.code == 2
    assert "it needs code to be read, which is refused: os.system" in refused.err
    assert not (folder / "runs").exists()
