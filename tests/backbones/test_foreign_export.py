"""`gol-decouple export` of detectors of other frameworks: what is written loads again as what it is."""

from __future__ import annotations

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
from conftest import RunCli
from safetensors.torch import load_file

from gol_decouple import features, runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.config import load_config

NAMES = ["three", "seven", "nine"]
SETTINGS = ["backbone.name=torchvision:resnet50", "detector.score_threshold=0.01", "features.dtype=float32"]
STEM = "backbone.body.conv1.weight"


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
    """`stage1(checkpoint, name, *settings)`: the run, and what was said."""

    def run(checkpoint: Path, name: str, *settings: str) -> tuple[Path, str]:
        changes = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
        arguments = ["--runs-dir", folder / "runs", "--checkpoint", checkpoint, "--name", name, *changes]
        done = run_cli("stage1", detector_config, *arguments)
        assert done.code == 0, done.err
        return folder / "runs" / name, done.err

    return run


def caffe(folder: Path, names: list[str] = NAMES, version: int = 2) -> Path:
    """A checkpoint of mmdetection's, blue first, with the stride in the 1x1 convolution."""
    state = foreign.state_of("mmdetection", "narrow", len(names), unscaled=True)
    config = files.mmdetection_config(version, classes=len(names), style="caffe", pixels=files.CAFFE_PIXELS)
    return files.write_mmdetection(folder / "caffe.pth", state, config, names, version)


def gumbel(run_cli: RunCli, run: Path) -> Path:
    """A Gumbel classifier retrained on a run's features."""
    options = ("--activation", "gumbel", "--runs-dir", run.parent, "--set", "stage2.epochs=1")
    two = run_cli("stage2", run, *options)
    assert two.code == 0, two.err
    (manifest,) = run.glob("stage2/**/manifest.json")
    return manifest.parent


def built_as(run: Path) -> dict[str, Any]:
    """What decides on a run's detector."""
    config = load_config(str(run / runs.CONFIG))
    assert config.detector is not None
    keys = {"conventions", "mask_predictor", "proposals_before_nms"}
    return config.detector.model_dump(include=keys) | config.transform.model_dump(include={"mean", "std"})


def network_of(exported: Path) -> dict[str, Any]:
    """How `config.json` says that the network is built."""
    network: dict[str, Any] = json.loads((exported / "config.json").read_text())["detector"]
    return network


def detection_of(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / runs.MANIFEST).read_text())
    return {"activation": told["activation"], **told["detection"]}


def test_model_safetensors_is_loaded_with_its_conventions_and_its_activation(
    folder: Path, stage1: Any, run_cli: RunCli
) -> None:
    run, _ = stage1(caffe(folder), "first")
    retrained = gumbel(run_cli, run)
    out = run_cli("export", run, "--method", "gumbel", "--out", folder / "out")
    assert out.code == 0, out.err
    again, said = stage1(folder / "out" / "model.safetensors", "again")
    assert "model.safetensors is of this program:" in said
    first, second = built_as(run), built_as(again)
    assert first["conventions"].pop("channels") == "bgr"
    assert second["conventions"].pop("channels") == "rgb", "the first layer was turned when it was loaded"
    assert first["conventions"]["stride_in"] == "1x1"
    assert first == second
    tensors = [load_file(path / runs.MODEL) for path in (run, again)]
    assert torch.equal(tensors[0][STEM], tensors[1][STEM])
    assert detection_of(again) == detection_of(retrained)
    assert detection_of(again)["activation"] == "gumbel"
    found, same = (features.open(path / runs.FEATURES)["val"].features[0] for path in (run, again))
    assert (found == same).all()


def test_config_json_says_which_colour_the_file_beside_it_takes_first(
    folder: Path, stage1: Any, run_cli: RunCli
) -> None:
    run, _ = stage1(caffe(folder), "first")
    for format_, channels in (("safetensors", "rgb"), ("checkpoint", "bgr")):
        out = folder / format_
        assert run_cli("export", run, "--out", out, "--format", format_).code == 0
        assert network_of(out)["conventions"]["channels"] == channels
        assert network_of(out)["plain"] is False
    theirs, back = (torch.load(path, weights_only=True) for path in (folder / "caffe.pth", out / "caffe.pth"))
    assert torch.equal(theirs["state_dict"]["backbone.conv1.weight"], back["state_dict"]["backbone.conv1.weight"])


def test_a_predictor_that_nothing_fitted_is_never_taken_for_one(
    folder: Path, stage1: Any, run_cli: RunCli, annotated_root: Path
) -> None:
    """As of a checkpoint with other classes: no box regressor, no mask predictor, no classifier."""
    run, said = stage1(caffe(folder, ["a", "b", "c", "d", "e"]), "first", "detector.score_threshold=0")
    assert "caffe.pth gives no classifier, box regressor, mask predictor: nothing is trained, boxes stay" in said
    state = load_file(run / runs.MODEL)
    assert not any(state[f"roi_heads.box_predictor.bbox_pred.{part}"].any() for part in ("weight", "bias"))
    retrained = gumbel(run_cli, run)
    arguments = ["predict", run, annotated_root / "train" / "0.png", "--method", "gumbel", "--format", "json"]
    rows = run_cli(*arguments, "--pictures", folder / "drawn")
    assert "note: there are no masks:" in rows.err
    assert json.loads(rows.out)
    assert all("segmentation" not in row for row in json.loads(rows.out))
    again, said = stage1(run / runs.MODEL, "again")
    assert "model.safetensors gives no classifier, box regressor, mask predictor: nothing is trained" in said
    assert json.loads((again / runs.MANIFEST).read_text())["has_classifier"] is False
    for format_ in ("safetensors", "checkpoint"):
        out = run_cli("export", run, "--method", "gumbel", "--out", folder / format_, "--format", format_)
        assert "mask_fcn_logits.*: random, since no mask predictor was loaded or trained" in out.out
    exported, said = stage1(folder / "safetensors" / "model.safetensors", "exported", "detector.score_threshold=0")
    assert "model.safetensors gives no box regressor, mask predictor: nothing is trained" in said
    assert detection_of(exported) == detection_of(retrained)


def test_masks_without_a_predictor_are_refused_before_anything_is_done(
    folder: Path, run_cli: RunCli, detector_config: Path
) -> None:
    changes = [part for setting in (*SETTINGS, "detector.masks=true") for part in ("--set", setting)]
    path = caffe(folder, ["a", "b", "c", "d", "e"])
    done = run_cli("stage1", detector_config, "--runs-dir", folder / "runs", "--checkpoint", path, *changes)
    assert done.code == 2
    assert "detector.masks = true evaluates masks, and no mask predictor is loaded or trained" in done.err
    assert "--set detector.masks=false, or stage1.epochs=1 or more trains it" in done.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("version", [2, 3])
def test_a_checkpoint_of_mmdetections_keeps_its_config_and_names_its_classes(
    folder: Path, stage1: Any, run_cli: RunCli, version: int
) -> None:
    """In the file's order, which is another one than here."""
    path, by_names = caffe(folder, ["nine", "three", "seven"], version), "detector.conventions.class_order=names"
    run, _ = stage1(path, "first", by_names)
    retrained = gumbel(run_cli, run)
    arguments = ("--method", "gumbel", "--format", "checkpoint", "--out", folder / "out")
    out = run_cli("export", run, *arguments)
    assert out.code == 0, out.err
    (note,) = [line for line in out.out.splitlines() if line.startswith("note:")]
    assert "the original's classifier is softmax, this one gumbel: scores are exp(-exp(-q)) of the class" in note
    assert "--set detector.activation=gumbel" in note
    theirs, back = (torch.load(one, weights_only=True)["meta"] for one in (path, folder / "out" / path.name))
    text = "config" if version == 2 else "cfg"
    assert back[text] == theirs[text]
    if version == 2:
        assert back["CLASSES"] == theirs["CLASSES"]
    else:
        assert back["dataset_meta"] == {"classes": theirs["dataset_meta"]["classes"]}
    again, said = stage1(folder / "out" / path.name, "again", "detector.activation=gumbel", by_names)
    assert "its classes are in another order" in said
    assert built_as(again) == built_as(run)
    assert detection_of(again) == detection_of(retrained)


def test_a_checkpoint_whose_names_were_in_no_order_names_its_classes_right(
    folder: Path, stage1: Any, run_cli: RunCli
) -> None:
    """Its rows were taken in the order of category ids, as mmdetection numbers them, and so are they written."""
    run, said = stage1(caffe(folder, ["nine", "three", "seven"]), "first")
    assert "its names of classes are in another order" in said
    assert run_cli("export", run, "--format", "checkpoint", "--out", folder / "out").code == 0
    assert torch.load(folder / "out" / "caffe.pth", weights_only=True)["meta"]["CLASSES"] == tuple(NAMES)


def test_a_checkpoint_of_other_classes_names_the_runs_own(folder: Path, stage1: Any, run_cli: RunCli) -> None:
    run, _ = stage1(caffe(folder, ["a", "b", "c", "d", "e"]), "first")
    gumbel(run_cli, run)
    arguments = ("--method", "gumbel", "--format", "checkpoint", "--out", folder / "out")
    out = run_cli("export", run, *arguments)
    assert "note: its config is of 5 classes: set num_classes of its heads to 3" in out.out
    assert torch.load(folder / "out" / "caffe.pth", weights_only=True)["meta"]["CLASSES"] == tuple(NAMES)
