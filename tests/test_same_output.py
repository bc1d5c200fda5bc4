"""Same input, same output: fixed seeds give the same bytes on a CPU, whatever the run is called and wherever it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from annotated import narrow_backbone
from conftest import RunCli
from safetensors import safe_open
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.detection.figures import CLASS_AP
from gol_decouple.stages.comparing import same
from gol_decouple.stages.saved import CLASSIFIER

ROOT = Path(gol_decouple.__file__).parents[1]
# What a run gives; log.csv and manifests tell times too.
RESULTS = {runs.MODEL, runs.FEATURES, CLASSIFIER, runs.PREDICTIONS, runs.PER_CLASS, CLASS_AP, runs.CHOICE}
METHODS = [f"--method={name}" for name in ("gumbel", "crt", "disalign", "ncm", "bags", "focal")]


def results(run: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.name in RESULTS}
    assert len(found) > 6
    return found


def figures(run: Path) -> dict[str, object]:
    """What manifests say but for times and places."""
    told: dict[str, object] = {}
    for path in run.rglob(runs.MANIFEST):
        manifest = json.loads(path.read_text())
        own = {name: manifest[name] for name in ("metrics", "seed", "features", "classifier_sha256")}
        told[str(path.relative_to(run))] = own | {"detection": manifest.get("detection")}
    return told


def run_both(run_cli: RunCli, config: Path, folder: Path, name: str, options: list[str], more: list[str]) -> Path:
    first = run_cli("stage1", config, "--runs-dir", folder, "--name", name, *options)
    assert first.code == 0, first.err
    second = run_cli("stage2", folder / name, "--set", "stage2.epochs=2", *more)
    assert second.code == 0, second.err
    return folder / name


def test_an_image_classifier_comes_out_the_same_twice(
    tmp_path: Path, small_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder, under another name, with other workers, and with deterministic operations."""
    views = ["--set", "features.views=2", "--set", "stage1.epochs=2"]
    chosen = [*METHODS, "--seeds", "2", "--set", "stage2.temperature=val"]
    monkeypatch.chdir(tmp_path)
    first = run_both(run_cli, small_config, Path("first"), "one", views, chosen)
    other = [*views, "--set", "stage1.num_workers=2", "--deterministic"]
    second = run_both(run_cli, small_config, tmp_path / "a" / "b", "another", other, chosen)
    assert results(first) == results(second)
    assert figures(first) == figures(second)
    manifests = [json.loads((run / runs.MANIFEST).read_text()) for run in (first, second)]
    assert [manifest["environment"]["deterministic"] for manifest in manifests] == [False, True]
    assert [manifest["config"]["deterministic"] for manifest in manifests] == [False, True]


def test_another_process_with_other_hashes_gives_the_same(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    first = run_both(run_cli, small_config, tmp_path / "here", "one", ["--set", "stage1.epochs=1"], METHODS)
    script = "import torch; torch.set_num_threads(1)\nfrom gol_decouple.cli import main\nfor given in ({}, {}):\n"
    script += "    import sys; sys.argv = ['gol-decouple', *given]\n    assert main() == 0\n"
    run = tmp_path / "there" / "two"
    ones = ["stage1", str(small_config), "--runs-dir", str(run.parent), "--name", "two", "--set", "stage1.epochs=1"]
    twos = ["stage2", str(run), "--set", "stage2.epochs=2", *METHODS[::-1]]
    environment: Mapping[str, str] = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script.format(ones, twos)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(first) == results(run)


def test_a_detector_comes_out_the_same_twice(
    tmp_path: Path, detector_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, its losses and RoI pooling included, has a deterministic form of everything on a CPU."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)
    methods = ["--method=gol", "--method=softmax", "--method=seesaw"]
    first = run_both(run_cli, detector_config, tmp_path / "a", "one", ["--set", "stage1.epochs=1"], methods)
    other = ["--set", "stage1.epochs=1", "--deterministic", "--set", "stage1.num_workers=2"]
    second = run_both(run_cli, detector_config, tmp_path / "b", "two", other, methods)
    found, again = results(first), results(second)
    del found[runs.MODEL], again[runs.MODEL]  # whose metadata are in an order of the library's own
    assert found == again
    models = [run / runs.MODEL for run in (first, second)]
    assert same(*map(load_file, models))
    told = []
    for path in models:
        with safe_open(path, "pt") as file:
            told.append(file.metadata())
    assert told[0] == told[1]
    assert figures(first) == figures(second)
