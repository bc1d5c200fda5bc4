"""`gol-decouple export` of detectors: files that give, without this program, what `predict` finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from annotated import narrow_backbone
from conftest import OTHERS_OF_ROIS, PLAIN_OF_ROIS, RunCli
from safetensors.torch import load_file
from test_export import assert_refused, config_of, documented

import gol_decouple
from gol_decouple.backbones.detector_layouts import Layout, name_in
from gol_decouple.export import detector, export_model
from gol_decouple.stages.finding import find_classifier

pytestmark = pytest.mark.usefixtures("narrow_detectors")

CLASSIFIER = "roi_heads.box_predictor.cls_score"
REFUSED = {
    "seesaw": "seesaw has 1 columns beside those of classes and background, and scores by all of them",
    "bags": "columns beside those of classes and background",
    "eqlv2": "eqlv2 has 1 columns beside those of the classes, and scores by all of them",
    "disalign": "disalign is no linear layer: what it adds to the logits differs",
}


@pytest.fixture
def run(retrained_detector: Path) -> Path:
    return retrained_detector


@pytest.fixture
def loaded(tmp_path: Path, run: Path) -> Path:
    """A copy of the run, to which a test can say that it came from a checkpoint."""
    return Path(shutil.copytree(run, tmp_path / "runs" / "tiny", ignore=shutil.ignore_patterns("*.h5")))


def told_of(run: Path, kind: str = "torch", parents: tuple[str, ...] = ("model",), prefix: str = "") -> dict[str, Any]:
    """What a run says of a checkpoint in torchvision's layout, whose predictors were for other classes."""
    names = [name for name in load_file(run / "model.safetensors") if "predictor" not in name]
    return {
        "path": f"/somewhere/theirs.{'safetensors' if kind == 'safetensors' else 'pth'}",
        "format": kind,
        "tensors": {name: [*parents, f"{prefix}{name}"] for name in names},
        "unused": [".".join([*parents, f"{prefix}{CLASSIFIER}.weight"]), "anchors"],
        "layout": Layout("torchvision").as_dict(),
    }


# safetensors


@pytest.mark.parametrize("method", [None, *PLAIN_OF_ROIS])
def test_the_documented_program_finds_what_predict_finds(
    tmp_path: Path,
    run_cli: RunCli,
    run: Path,
    annotated_root: Path,
    method: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = [] if method is None else ["--method", method]
    outcome = run_cli("export", run, *chosen, "--out", tmp_path / "exported")
    assert (outcome.code, outcome.err) == (0, "")
    image = shutil.copy(annotated_root / "train" / "0.png", tmp_path / "photo.png")
    found = json.loads(run_cli("predict", run, image, *chosen, "--format", "json").out)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.models.detection.backbone_utils.resnet_fpn_backbone", narrow_backbone)
    exec(documented("detector"), {})
    printed = [line.split(" ", 2) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(found) == 12
    names = {3: "three", 7: "seven", 9: "nine"}
    assert [name for name, *_ in printed] == [names[row["category_id"]] for row in found]
    assert [float(score) for _, score, _ in printed] == pytest.approx([row["score"] for row in found], rel=1e-4)
    for (*_, box), row in zip(printed, found, strict=True):
        left, top, right, bottom = json.loads(box)
        assert [left, top, right - left, bottom - top] == pytest.approx(row["bbox"], abs=1e-2)


def test_the_documents_program_finds_objects(
    tmp_path: Path, run: Path, annotated_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    shutil.copytree(annotated_root / "train", tmp_path / "holiday")
    monkeypatch.chdir(tmp_path)
    exec(documented("objects"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("ImageDetections(image=PosixPath('holiday/") for line in lines)


def test_it_says_what_the_detector_is(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("export", run, "--method", "gumbel", "--out", tmp_path / "out")
    assert outcome.out.splitlines() == [
        f"{tmp_path / 'out' / 'model.safetensors'}: {run}, gumbel (epochs 5, seed 0) (torchvision:resnet18, 3 classes)",
        f"{tmp_path / 'out' / 'config.json'}: input, classes and scores",
    ]
    config, manifest = config_of(tmp_path / "out"), find_classifier(run, "gumbel").manifest
    assert config.pop("method")["settings"] == manifest["settings"]
    conventions = config["detector"].pop("conventions")
    assert conventions["framework"] == "torchvision"
    assert conventions["aligned"] is False
    assert config == {
        "format_version": 1,
        "gol_decouple": gol_decouple.__version__,
        "file": "model.safetensors",
        "layout": "torchvision",
        "detector": {
            "library": "torchvision",
            "name": "MaskRCNN",
            "plain": True,
            "body": "resnet18",
            "norm": "GroupNorm",
            "arguments": {
                "num_classes": 4,
                "min_size": 64,
                "max_size": 96,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "rpn_pre_nms_top_n_test": 40,
                "rpn_post_nms_top_n_test": 40,
                "box_score_thresh": 1e-4,
                "box_nms_thresh": 0.5,
                "box_detections_per_img": 12,
            },
            "mask_predictor": "standard",
            "class_agnostic": False,
        },
        "classifier": CLASSIFIER,
        "feature_size": 1024,
        "num_classes": 3,
        "class_names": ["three", "seven", "nine"],
        "category_ids": [3, 7, 9],
        "train_counts": manifest["train_counts"],
        "dataset": "tiny",
        "scores": {
            "activation": "gumbel",
            "background": False,
            "formula": "exp(-exp(-q)) of each class; background has no score, and no weights; q: the logits",
        },
    }
    assert run_cli("export", run, "--out", tmp_path / "softmax").code == 0
    assert config_of(tmp_path / "softmax")["scores"] == {
        "activation": "softmax",
        "background": True,
        "formula": "softmax(q) over background and classes; q: the logits",
    }


def test_what_torchvision_would_do_otherwise_is_told(tmp_path: Path, run_cli: RunCli, loaded: Path) -> None:
    text = (loaded / "config.toml").read_text()
    (loaded / "config.toml").write_text(text.replace('"standard"', '"normalized"'))
    assert run_cli("export", loaded, "--out", tmp_path / "a").code == 0
    assert config_of(tmp_path / "a")["detector"]["mask_predictor"] == "normalized"
    assert config_of(tmp_path / "a")["detector"]["plain"] is False


def test_a_body_that_torchvision_has_not_is_not_plain(
    tmp_path: Path, run_cli: RunCli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gol_decouple.export.told_detector.published_tags", lambda name: [])
    assert run_cli("export", run, "--out", tmp_path / "a").code == 0
    assert config_of(tmp_path / "a")["detector"]["plain"] is False


def test_the_file_holds_the_runs_detector_and_the_retrained_classifier(
    tmp_path: Path, run_cli: RunCli, run: Path
) -> None:
    stage_one = load_file(run / "model.safetensors")
    for method in ("softmax", "gumbel"):
        assert run_cli("export", run, "--method", method, "--out", tmp_path / method).code == 0
        exported = load_file(tmp_path / method / "model.safetensors")
        own = load_file(find_classifier(run, method).folder / "classifier.safetensors")
        assert exported.keys() == stage_one.keys()
        assert all(torch.equal(exported[name], stage_one[name]) for name in exported if CLASSIFIER not in name)
        weight, bias = (exported[f"{CLASSIFIER}.{part}"] for part in ("weight", "bias"))
        assert torch.equal(weight[1:], own["weight"][:3])
        assert torch.equal(bias[1:], own["bias"][:3])
        background = (own["weight"][3], own["bias"][3]) if method == "softmax" else (torch.zeros(1024), -100.0)
        assert torch.equal(weight[0], background[0])
        assert float(bias[0]) == background[1]


@pytest.mark.parametrize("format_", ["safetensors", "checkpoint"])
@pytest.mark.parametrize("method", OTHERS_OF_ROIS)
def test_what_is_no_linear_layer_is_refused(
    tmp_path: Path, run_cli: RunCli, loaded: Path, method: str, format_: str
) -> None:
    (loaded / "checkpoint.json").write_text(json.dumps(told_of(loaded)))
    outcome = run_cli("export", loaded, "--method", method, "--out", tmp_path / "out", "--format", format_)
    assert_refused(outcome, REFUSED[method], "gol-decouple predict takes all")
    assert not (tmp_path / "out").exists()


def test_detectors_are_not_written_as_onnx(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("export", run, "--out", tmp_path / "out", "--format", "onnx")
    assert_refused(outcome, f"{run} is of a detector, and those are not written as ONNX", "--format safetensors")
    assert not (tmp_path / "out").exists()


# checkpoint


@pytest.mark.parametrize(
    ("kind", "parents", "prefix"),
    [("torch", ("model",), ""), ("torch", (), "module."), ("safetensors", (), "module.")],
)
def test_a_checkpoint_has_the_layout_it_had(
    tmp_path: Path, run_cli: RunCli, loaded: Path, kind: str, parents: tuple[str, ...], prefix: str
) -> None:
    told = told_of(loaded, kind, parents, prefix)
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    outcome = run_cli("export", loaded, "--method", "gol", "--out", tmp_path / "out", "--format", "checkpoint")
    assert (outcome.code, outcome.err) == (0, "")
    name = Path(told["path"]).name
    assert outcome.out.splitlines()[2:] == [
        f"left out: 1 tensors of {name} that the model has no place for (anchors)",
        "note: the original's classifier is softmax, this one gumbel: scores are exp(-exp(-q)) of the class columns, "
        "without background; loaded here, it needs --set detector.activation=gumbel",
    ], "the predictors were left out on loading, and are there again"
    path = tmp_path / "out" / name
    tree = load_file(path) if kind == "safetensors" else torch.load(path, weights_only=True)
    for key in parents:
        assert list(tree) == [key]
        tree = tree[key]
    assert type(tree) is dict
    plain = run_cli("export", loaded, "--method", "gol", "--out", tmp_path / "plain")
    assert plain.code == 0
    wanted = load_file(tmp_path / "plain" / "model.safetensors")
    assert tree.keys() == {f"{prefix}{own}" for own in wanted}
    assert all(torch.equal(tree[f"{prefix}{own}"], wanted[own]) for own in wanted)
    config = config_of(tmp_path / "out")
    assert (config["file"], config["layout"], config["classifier"]) == (name, "torchvision", CLASSIFIER)


def test_a_checkpoint_comes_back_as_it_was_loaded(
    tmp_path: Path, run_cli: RunCli, loaded: Path, detector_config: Path
) -> None:
    (loaded / "checkpoint.json").write_text(json.dumps(told_of(loaded)))
    assert run_cli("export", loaded, "--out", tmp_path / "out", "--format", "checkpoint").code == 0
    arguments = ("--checkpoint", tmp_path / "out" / "theirs.pth", "--runs-dir", tmp_path / "again")
    done = run_cli("stage1", detector_config, *arguments)
    assert done.code == 0, done.err
    first, again = (load_file(folder / "model.safetensors") for folder in (loaded, tmp_path / "again" / "tiny"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    outcome = run_cli("export", tmp_path / "again" / "tiny", "--out", tmp_path / "third", "--format", "checkpoint")
    assert outcome.code == 0, "what stage one itself says of the file is enough"


def test_another_frameworks_checkpoint_has_its_names_and_its_order(
    tmp_path: Path, run_cli: RunCli, loaded: Path
) -> None:
    """As a run keeps that loaded a pickle of detectron2's, blue first, whose classes 0 and 2 stood the other way."""
    told, layout = told_of(loaded), Layout("detectron2", order=(2, 1, 0), bgr=True)
    theirs = {name: ["model", name_in("detectron2", name)] for name in told["tensors"]}
    told |= {"path": "/theirs.pkl", "format": "pickle", "tensors": theirs, "layout": layout.as_dict()}
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    arguments = ("--method", "gumbel", "--out", tmp_path / "out", "--format", "checkpoint")
    outcome = run_cli("export", loaded, *arguments)
    assert outcome.code == 0, outcome.err
    tree = torch.load(tmp_path / "out" / "theirs.pth", weights_only=True)["model"]
    own = load_file(loaded / "model.safetensors")
    assert torch.equal(tree["backbone.bottom_up.stem.conv1.weight"], own["backbone.body.conv1.weight"].flip(1))
    found = find_classifier(loaded, "gumbel")
    retrained = load_file(found.folder / "classifier.safetensors")
    weight, bias = (tree[f"roi_heads.box_predictor.cls_score.{kind}"] for kind in ("weight", "bias"))
    assert torch.equal(weight[:3], retrained["weight"].flip(0))
    assert torch.equal(bias[:3], retrained["bias"].flip(0))
    assert not weight[3].any(), "background is last, and never found"
    assert bias[3] == -100
    masks = own["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    assert torch.equal(tree["roi_heads.mask_head.predictor.weight"], masks[1:].flip(0))
    boxes = own["roi_heads.box_predictor.bbox_pred.bias"].view(4, 4)
    assert torch.equal(tree["roi_heads.box_predictor.bbox_pred.bias"], boxes[1:].flip(0).flatten())
    config = config_of(tmp_path / "out")
    classifier = "roi_heads.box_predictor.cls_score"
    assert (config["file"], config["layout"], config["classifier"]) == ("theirs.pth", "detectron2", classifier)


def test_a_wrapper_is_what_is_before_a_whole_name() -> None:
    names = ["conv.weight", "rpn.conv.weight"]
    assert detector._place([["model", "module.rpn.conv.weight"]], names) == ["model", "module."]
    assert detector._place([["other"], ["conv.weight"]], names) == [""]
    with pytest.raises(ValueError, match="names no tensor"):
        detector._place([["other"]], names)


def test_without_a_layout_to_go_back_to_there_is_no_checkpoint(tmp_path: Path, run_cli: RunCli, loaded: Path) -> None:
    arguments = ("--out", tmp_path / "out", "--format", "checkpoint")
    assert_refused(run_cli("export", loaded, *arguments), "was trained here, and not loaded", "--format safetensors")
    told = told_of(loaded)
    body = {name: where for name, where in told["tensors"].items() if name.startswith("backbone.body.")}
    (loaded / "checkpoint.json").write_text(json.dumps({**told, "tensors": body}))
    refused = run_cli("export", loaded, *arguments)
    assert_refused(refused, "theirs.pth had no classifier that could be replaced: it holds a ResNet", "safetensors")
    for text in ("{", "[]", "{}", json.dumps({**told, "tensors": {"rpn.x": ["x"]}})):
        (loaded / "checkpoint.json").write_text(text)
        assert_refused(run_cli("export", loaded, *arguments), str(loaded / "checkpoint.json"), "--format safetensors")
    assert not (tmp_path / "out").exists()


def test_a_program_can_do_it_too(tmp_path: Path, run: Path) -> None:
    assert len(export_model(find_classifier(run, "norcal"), tmp_path / "out")) == 2
    assert config_of(tmp_path / "out")["method"]["name"] == "norcal"
