"""Exported models of timm and torchvision: the documented programs load them, and nothing of ours is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunCli
from test_export import program_of

# Small ones, whose classifiers have different names, and one that is built for the size of its images.
BACKBONES = [
    pytest.param(("timm:resnet10t", 160), id="timm:resnet10t"),
    pytest.param(("timm:test_vit", 96), id="timm:test_vit", marks=pytest.mark.slow),
    pytest.param(("torchvision:resnet18", 64), id="torchvision:resnet18"),
    pytest.param(("torchvision:mobilenet_v3_small", 64), id="torchvision:mobilenet_v3_small", marks=pytest.mark.slow),
]
STRANGERS = ["gol_decouple", "pydantic", "h5py"]


@pytest.fixture(params=BACKBONES)
def run(request: pytest.FixtureRequest, tmp_path: Path, small_config: Path, run_cli: RunCli) -> Path:
    """A run of a library's backbone, untrained, with a Gumbel classifier."""
    name, size = request.param
    settings = (f"backbone.name={name}", f"transform.size={size}", "stage1.epochs=1", "stage1.batch_size=64")
    overrides = [text for setting in settings for text in ("--set", setting)]
    outcome = run_cli("stage1", small_config, *overrides, "--runs-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "colours"
    assert run_cli("stage2", run, "--method", "gumbel", "--set", "stage2.epochs=2").code == 0
    return run


def test_the_documented_program_gives_the_scores_of_predict(
    tmp_path: Path, run_cli: RunCli, run: Path, photos: Path
) -> None:
    shutil.copy(photos / "green" / "12.png", tmp_path / "photo.png")
    outcome = run_cli("export", run, "--method", "gumbel", "--out", tmp_path / "exported")
    assert (outcome.code, outcome.err) == (0, "")
    library = json.loads((tmp_path / "exported" / "config.json").read_text())["backbone"]["library"]
    program = f"import sys\nfor name in {STRANGERS}:\n    sys.modules[name] = None\n{program_of(library)}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    asked = run_cli("predict", run, tmp_path / "photo.png", "--method", "gumbel", "--format", "json")
    found = json.loads(asked.out)[0]["predictions"]
    assert [name for name, _ in printed] == [each["name"] for each in found]
    assert [float(score) for _, score in printed] == pytest.approx(
        [each["score"] for each in found], rel=1e-3, abs=1e-5
    )
