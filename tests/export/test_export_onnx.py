"""`gol-decouple export --format onnx`: a file that onnxruntime reads, and gets the same of."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NOT_LINEAR, RunCli
from test_export import assert_refused, config_of

from gol_decouple.backbones import ImageClassifier
from gol_decouple.backbones.cifar_resnet import CifarResNet
from gol_decouple.data.transforms import Normalise
from gol_decouple.export import onnx as export_onnx
from gol_decouple.stages.finding import find_classifier
from gol_decouple.stages.restored import Restored, restore

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture
def run(retrained_run: Path) -> Path:
    return retrained_run


def assert_equal(path: Path, model: Restored, images_npz: Path) -> None:
    """onnxruntime gives the model's logits and scores of images, for any number of them."""
    session = onnxruntime.InferenceSession(path)
    pixels = torch.from_numpy(np.load(images_npz)["test_images"])
    for count in (1, 2, 30):
        images = Normalise(model.config.transform)(pixels[:count]).contiguous()
        logits, scores = session.run(["logits", "scores"], {"images": images.numpy()})
        with torch.inference_mode():
            wanted = model.classifier.logits(model.model.backbone(images))
        np.testing.assert_allclose(logits, model.loss.ranking(wanted), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(scores, model.scores(wanted), rtol=5e-3, atol=1e-4)
        assert scores.shape == (count, 3)


def test_it_gives_logits_and_scores(tmp_path: Path, run_cli: RunCli, run: Path, images_npz: Path) -> None:
    arguments = ("--method", "gumbel", "--seed", 0, "--format", "onnx")
    outcome = run_cli("export", run, *arguments, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == 2, "the exporter's own words are left out"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.onnx"]
    config = config_of(tmp_path / "out")
    assert config["file"] == "model.onnx"
    assert config["scores"]["formula"] == "the output `scores` of the file"
    assert "normalise" not in config["scores"]
    assert_equal(tmp_path / "out" / "model.onnx", restore(find_classifier(run, "gumbel", 0)), images_npz)


@pytest.mark.parametrize("method", ["focal", "balanced_sigmoid", *NOT_LINEAR])
def test_every_classifier_can_be_written(tmp_path: Path, run: Path, images_npz: Path, method: str) -> None:
    small = ImageClassifier(CifarResNet(8), 64, 3).eval()
    model = replace(restore(find_classifier(run, method, 0)), model=small)
    export_onnx.as_onnx(model)(tmp_path / "model.onnx")
    assert_equal(tmp_path / "model.onnx", model, images_npz)


def test_onnx_says_what_it_needs(tmp_path: Path, run_cli: RunCli, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--out", tmp_path / "out", "--format", "onnx")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        hint = 'pip install "gol-decouple[onnx]"'
        assert_refused(run_cli("export", run, *arguments), "ONNX files need onnxscript", hint)
    monkeypatch.setattr(export_onnx, "LARGEST", 1000)
    assert_refused(run_cli("export", run, *arguments), "an ONNX file at most 2", "--format safetensors")
    assert not (tmp_path / "out").exists()
