"""`stage1 --checkpoint` through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import RunCli
from safetensors.torch import load_file

from gol_decouple import features
from gol_decouple.backbones import build_model


@pytest.fixture
def foreign(tmp_path: Path, finished_run: Path) -> Path:
    """The finished run's model in another program's layout."""
    weights = load_file(finished_run / "model.safetensors")
    for ours, theirs in (("backbone.", "module."), ("classifier.", "module.fc.")):
        weights = {name.replace(ours, theirs): tensor for name, tensor in weights.items()}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth"


def test_loading_replaces_training(
    tmp_path: Path, small_config: Path, finished_run: Path, foreign: Path, run_cli: RunCli
) -> None:
    outcome = run_cli("stage1", small_config, "--checkpoint", foreign, "--runs-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert re.search(r"backbone\.layer1 +60 tensors  state_dict\.module\.layer1\.0\.conv1\.weight", outcome.err)
    run = tmp_path / "runs" / "colours"
    assert not (run / "last.pt").exists()
    for name in ("train", "test"):
        ours, theirs = (features.open(folder / "features.h5")[name] for folder in (run, finished_run))
        assert (ours.features[:] == theirs.features[:]).all()
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (run, finished_run)]
    assert manifests[0]["metrics"] == manifests[1]["metrics"]


def test_epochs_train_the_loaded_model_further(
    tmp_path: Path, small_config: Path, foreign: Path, run_cli: RunCli
) -> None:
    arguments = ("--set", "stage1.epochs=1", "--set", "stage1.lr=1e-8", "--runs-dir", tmp_path / "runs")
    assert run_cli("stage1", small_config, "--checkpoint", foreign, *arguments).code == 0
    trained = torch.load(tmp_path / "runs" / "colours" / "last.pt", weights_only=True)
    assert trained["epochs_done"] == 1
    loaded = torch.load(foreign, weights_only=True)["state_dict"]["module.conv1.weight"]
    torch.testing.assert_close(trained["model"]["backbone.conv1.weight"], loaded, rtol=1e-4, atol=1e-5)


def test_without_a_fitting_classifier_stage_two_trains_a_softmax_one_first(
    tmp_path: Path, small_config: Path, run_cli: RunCli
) -> None:
    torch.save(build_model("resnet32", 10, seed=0).state_dict(), tmp_path / "ten.pth")
    runs_dir = tmp_path / "runs"
    first = run_cli("stage1", small_config, "--checkpoint", tmp_path / "ten.pth", "--runs-dir", runs_dir)
    assert first.code == 0, first.err
    assert "classifier.weight is [10, 64], not [3, 64]: left out" in first.err
    assert features.open(runs_dir / "colours" / "features.h5").classifier is None
    assert run_cli("stage2", runs_dir / "colours", "--activation", "gumbel").code == 0
    rows = json.loads(run_cli("report", runs_dir, "--format", "json").out)
    assert [(row["stage"], row["method"]) for row in rows] == [(1, "softmax"), (2, "gumbel"), (2, "softmax")]
    assert rows[0]["top1"] is None
    assert rows[1]["top1"] is not None
    assert "–" in run_cli("report", runs_dir).out


def test_a_checkpoint_that_cannot_be_used_is_an_error_before_anything_is_written(
    tmp_path: Path, small_config: Path, run_cli: RunCli
) -> None:
    (tmp_path / "a.pth").write_text("no checkpoint")
    outcome = run_cli("stage1", small_config, "--checkpoint", tmp_path / "a.pth", "--runs-dir", tmp_path / "runs")
    assert outcome.code == 2
    assert "is not a readable checkpoint" in outcome.err
    assert not (tmp_path / "runs").exists()
