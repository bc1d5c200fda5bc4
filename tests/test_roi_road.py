"""RoIs on the command line: stage two trains on them, says no accuracy of them, and chooses nothing by it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import Outcome, RunCli
from roi_files import IMAGE_COUNTS, NUM_IMAGES, C, write
from safetensors.torch import load_file

from gol_decouple import features, methods

FAST = ("--set", "stage2.epochs=2")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("rois") / "rois.h5", num_train=60, num_test=10)


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    shutil.copy(written.parent / "val.json", tmp_path / "val.json")
    return Path(shutil.copy(written, tmp_path / "rois.h5"))


def stage2(run_cli: RunCli, path: Path, *more: object) -> Outcome:
    return run_cli("stage2", path, "--annotations", path.parent / "val.json", *more)


def made_in(runs: Path) -> dict[str, Path]:
    return {folder.name.split("-")[0]: folder for folder in (runs / "rois" / "stage2").iterdir()}


def test_stage_two_and_its_report(run_cli: RunCli, path: Path) -> None:
    runs = path.parent / "runs"
    arguments = ("--method", "gol", "--method", "norcal", "--activation", "softmax", "--runs-dir", runs, *FAST)
    done = stage2(run_cli, path, *arguments)
    assert done.code == 0, done.err
    assert "top-1" not in done.out
    assert "%" not in done.out
    assert "AP of boxes" in done.out
    told = re.findall(r"warning: there are (\d+) RoIs, and batches of 8,192: one step an epoch", done.err)
    assert len(told) == 1
    assert 120 <= int(told[0]) <= 360
    folders = made_in(runs)
    assert set(folders) == {"gol", "norcal", "softmax"}
    manifest = json.loads((folders["gol"] / "manifest.json").read_text())
    assert manifest["detection"]["annotations"] == "val.json"
    assert (manifest["image_counts"], manifest["num_images"]) == (IMAGE_COUNTS, NUM_IMAGES)
    assert manifest["settings"]["batch_size"] == 8192
    assert manifest["metrics"]["top1"] is None
    assert not (folders["gol"] / "predictions.npz").exists()
    shapes = {name: load_file(folder / "classifier.safetensors")["weight"].shape[0] for name, folder in folders.items()}
    assert shapes == {"gol": C, "norcal": C + 1, "softmax": C + 1}
    again = stage2(run_cli, path, *arguments)
    assert again.err.count("is finished and kept as it is") == 3
    rows = json.loads(run_cli("report", runs, "--format", "json").out)
    assert {row["top1"] for row in rows} == {None}
    assert all(0 <= row["ap_box"] <= 100 for row in rows)


def test_the_start_of_the_paper_is_told(run_cli: RunCli, path: Path) -> None:
    runs = path.parent / "runs"
    settings = ("--set", "stage2.start=paper", "--set", "stage2.batch_size=100")
    done = stage2(run_cli, path, "--activation", "gumbel", "--runs-dir", runs, *settings, *FAST)
    assert done.code == 0, done.err
    recipe = " ".join(done.out.split())
    assert "fresh, weights 0.001, biases -2" in recipe
    assert "batch_size 100" in recipe


def test_streamed(run_cli: RunCli, path: Path) -> None:
    memory = ("--set", "stage2.memory_gb=1e-5")
    done = stage2(run_cli, path, "--method", "gol", "--runs-dir", path.parent / "runs", *memory, *FAST)
    assert done.code == 0, done.err
    assert "is streamed" in done.err


def test_patterns_find_what_fits_rois(run_cli: RunCli, path: Path) -> None:
    runs = path.parent / "runs"
    done = stage2(run_cli, path, "--method", "all", "--runs-dir", runs, "--set", "stage2.epochs=1")
    assert done.code == 0, done.err
    assert set(made_in(runs)) == set(methods.fits(background=True))
    refused = stage2(run_cli, path, "--method", "logit*", "--runs-dir", runs)
    assert refused.code == 2
    assert "error: 'logit*' matches only methods that make no sense with background samples: logit_" in refused.err


def test_a_method_for_images_is_refused_before_anything_is_trained(run_cli: RunCli, path: Path) -> None:
    runs = path.parent / "runs"
    done = stage2(run_cli, path, "--method", "gol", "--method", "tau_norm", "--runs-dir", runs)
    assert done.code == 2
    assert "error: method tau_norm makes no sense with background samples" in done.err
    assert "hint: methods for RoIs: softmax, crt" in done.err
    assert not runs.exists()


def test_nothing_is_chosen_by_the_accuracy_of_rois(run_cli: RunCli, path: Path) -> None:
    runs = path.parent / "runs"
    grid = (path, "--method", "gol", "--runs-dir", runs, "--set", "stage2.lr=[1e-4,1e-5]", *FAST)
    refused = stage2(run_cli, *grid)
    assert refused.code == 2
    assert f"error: {path} holds RoIs, whose accuracy is nothing to choose settings or methods by" in refused.err
    assert not runs.exists()
    kept = stage2(run_cli, *grid, "--keep-grid")
    assert kept.code == 0, kept.err
    assert len(list((runs / "rois" / "stage2").iterdir())) == 2
    tuned = run_cli("tune", path, "--method", "gol", "--runs-dir", runs)
    assert tuned.code == 2
    assert "whose accuracy is nothing to choose settings or methods by" in tuned.err


def test_other_files_are_none_of_detection(gaussians: Path, tmp_path: Path) -> None:
    assert not features.is_detection(gaussians)
    assert not features.is_detection(tmp_path / "none.h5")
