"""Weights that changed on the disk, or are another model's, are refused by whatever reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import RunCli
from test_results_folder import content
from test_resume_stage2 import flip

from gol_decouple import runs, sealed_tensors
from gol_decouple.stages.classifier_file import CLASSIFIER

DAMAGED = "cannot be read: it is damaged: its checksum is not that of its content"
AGAIN = "manifest.json and run: gol-decouple stage1 "


@pytest.fixture
def run(retrained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(retrained_run, tmp_path / "runs" / "colours"))


def refused(run_cli: RunCli, run: Path, *command: object) -> str:
    """What a command says that is refused, and changes nothing."""
    before = content(run)
    outcome = run_cli(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert content(run) == before
    return outcome.err


@pytest.mark.parametrize("place", [-1, -10_000, 12_000])
def test_a_flipped_bit_in_the_model_is_found(run_cli: RunCli, run: Path, photos: Path, place: int) -> None:
    flip(run / runs.MODEL, place)
    for command in (
        ("predict", run, photos),
        ("predict", run, photos, "--method", "softmax"),
        ("export", run, "--out", run.parent / "out"),
    ):
        told = refused(run_cli, run, *command)
        assert f"error: the model in {run / runs.MODEL} {DAMAGED}\n" in told
        assert AGAIN in told
    assert not (run.parent / "out").exists()


def test_a_flipped_bit_in_a_checkpoint_of_ours_is_found(
    run_cli: RunCli, run: Path, small_config: Path, tmp_path: Path
) -> None:
    flip(run / runs.MODEL, -1)
    arguments = ("--checkpoint", run / runs.MODEL, "--runs-dir", tmp_path / "other")
    told = refused(run_cli, run, "stage1", small_config, *arguments)
    assert "is not a readable safetensors file: it is damaged" in told
    assert "hint: copy it again from where it was made, or make it again\n" in told
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("place", [-1, 20, 300])
def test_a_flipped_bit_in_a_classifier_is_found(run_cli: RunCli, run: Path, photos: Path, place: int) -> None:
    (folder,) = (run / "stage2").glob("softmax-*")
    flip(folder / CLASSIFIER, place)
    for command in (
        ("predict", run, photos, "--method", "softmax"),
        ("export", folder, "--out", run.parent / "out"),
        ("analyze", run, "--what", "norms", "--out", run.parent / "figures"),
    ):
        told = refused(run_cli, run, *command)
        assert f"error: the classifier in {folder} cannot be read: {CLASSIFIER}: " in told
        assert f"hint: remove {folder} and repeat the command that made it\n" in told


def test_features_that_cannot_be_read_keep_nobody_from_predicting(run_cli: RunCli, run: Path, photos: Path) -> None:
    (run / runs.FEATURES).write_bytes(b"no features")
    assert run_cli("predict", run, photos).code == 0


def test_exported_weights_are_sealed(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    assert run_cli("export", run, "--method", "softmax", "--out", tmp_path / "out").code == 0
    found = sealed_tensors.load(tmp_path / "out" / runs.MODEL)
    assert (found.metadata, found.is_sealed) == ({"format": "pt"}, True)
