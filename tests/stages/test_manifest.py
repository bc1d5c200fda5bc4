"""What every manifest says of how its result was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from conftest import RunCli
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import features, provenance, runs
from gol_decouple.config import load_config
from gol_decouple.errors import InputError
from gol_decouple.features.extract import tensors_sha256
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.saved import CLASSIFIER
from gol_decouple.stages.training import Trainer


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / runs.MANIFEST).read_text())
    return found


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


def test_stage_one_of_the_command_line(
    tmp_path: Path, small_config: Path, finished_run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished_run / runs.MODEL, "mine.safetensors")
    arguments = ["stage1", str(small_config), "--checkpoint", "mine.safetensors", "--name", "a b", "--seed", "5"]
    assert run_cli(*arguments).code == 0
    told = manifest_of(tmp_path / "runs" / "a b")
    config = load_config(str(tmp_path / "runs" / "a b" / runs.CONFIG))
    assert told["config"] == config.model_dump(mode="json", exclude_none=True)
    assert (told["config"]["seed"], told["config"]["data"]["seed"], told["config"]["features"]["seed"]) == (5, 0, 0)
    assert told["command"] == ["gol-decouple", *arguments]
    assert told["folder"] == str(tmp_path)
    file = features.open(tmp_path / "runs" / "a b" / runs.FEATURES)
    assert told["inputs"] == {
        "dataset_sha256": file.origin["dataset"]["sha256"],
        "weights_sha256": tensors_sha256(load_file("mine.safetensors")),
        "features": str(file.path.resolve()),
        "checkpoint": {
            "path": str(tmp_path / "mine.safetensors"),
            "sha256": provenance.file_sha256(tmp_path / "mine.safetensors"),
        },
    }
    assert told["features"]["fingerprint"] == file.fingerprint
    environment = told["environment"]
    assert environment["device"] == "cpu"
    assert environment["threads"] == torch.get_num_threads()
    assert environment["deterministic"] is False
    assert environment["versions"] == provenance.versions()
    assert environment["versions"]["h5py"] == h5py.__version__
    assert environment["checkout"] == provenance.checkout()
    assert environment["code_sha256"] == provenance.code_sha256()
    assert told["software"]["torch"] == torch.__version__
    assert told["version"] == gol_decouple.__version__


def test_a_run_without_a_checkpoint_names_none(finished_run: Path) -> None:
    told = manifest_of(finished_run)
    assert told["inputs"]["checkpoint"] is None
    assert told["command"] is None  # a program made it


def test_classifiers_of_the_command_line(run: Path, run_cli: RunCli) -> None:
    arguments = ["stage2", str(run), "--method", "gumbel", "--set", "stage2.memory_gb=1", "--seed", "3"]
    assert run_cli(*arguments, "--deterministic").code == 0
    (folder,) = (run / runs.STAGE2).iterdir()
    told = manifest_of(folder)
    assert told["command"] == ["gol-decouple", *arguments, "--deterministic"]
    assert told["config"] == {"stage2": {"refit": None, "memory_gb": 1.0, "gradients": False}}
    assert told["seed"] == 3
    assert told["settings"]["lr"] == 1e-5
    assert told["stack"] == [{"seed": 3, "lr": 1e-5, "start": "stage_one"}]
    assert told["inputs"]["features"] == str((run / runs.FEATURES).resolve())
    assert told["inputs"]["weights_sha256"] == manifest_of(run)["inputs"]["weights_sha256"]
    assert told["classifier_sha256"] == tensors_sha256(load_file(folder / CLASSIFIER))
    assert told["environment"]["deterministic"] is True


def test_candidates_and_what_was_chosen(run: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", run, "--method", "ncm", "--set", "stage2.temperature=val").code == 0
    (candidate,), (final,) = ((run / name).iterdir() for name in (runs.CANDIDATES, runs.STAGE2))
    for folder in (candidate, final):
        told = manifest_of(folder)
        assert told["stack"] == []
        assert {"environment", "inputs", "command", "folder", "config"} <= told.keys()
    assert manifest_of(final)["temperature"] > 0


def test_a_detector_names_its_annotations(retrained_detector: Path, annotated_root: Path) -> None:
    path = annotated_root / "train.json"  # as the fixture evaluates
    for folder in (retrained_detector, *(retrained_detector / runs.STAGE2).iterdir()):
        told = manifest_of(folder)["inputs"]
        assert told["annotations"] == {"path": str(path.resolve()), "sha256": provenance.file_sha256(path)}


def test_the_report_takes_manifests_of_a_former_version(run: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", run, "--activation", "gumbel", "--set", "stage2.epochs=1").code == 0
    before = run_cli("report", run, "--format", "json")
    for folder in (run, *(run / runs.STAGE2).iterdir()):
        told = manifest_of(folder)
        for name in ("config", "environment", "inputs", "command", "folder", "stack", "classifier_sha256"):
            told.pop(name, None)
        (folder / runs.MANIFEST).write_text(json.dumps(told))
    after = run_cli("report", run, "--format", "json")
    assert after.code == 0, after.err
    assert after.out == before.out


# --deterministic


def test_a_deterministic_run_is_another_one(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    """What is there was not made so: it is neither kept as if it were, nor continued."""
    given = ["stage1", small_config, "--runs-dir", tmp_path, "--set", "stage1.epochs=0"]
    assert run_cli(*given).code == 0
    again = run_cli(*given, "--deterministic")
    assert again.code == 2
    assert "deterministic: False -> True" in again.err


def test_stage_two_is_as_deterministic_as_the_run(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    given = ["--runs-dir", tmp_path, "--set", "stage1.epochs=0", "--deterministic"]
    assert run_cli("stage1", small_config, *given).code == 0
    assert not torch.are_deterministic_algorithms_enabled()
    assert run_cli("stage2", tmp_path / "colours", "--activation", "gumbel", "--set", "stage2.epochs=1").code == 0
    folders = list((tmp_path / "colours" / runs.STAGE2).iterdir())
    assert len(folders) == 2  # Softmax is trained first
    assert all(manifest_of(folder)["environment"]["deterministic"] for folder in folders)


def test_an_operation_without_a_deterministic_form(
    tmp_path: Path, small_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))

    monkeypatch.setattr(Trainer, "run", run)
    done = run_cli("stage1", small_config, "--runs-dir", tmp_path, "--deterministic")
    assert done.code == 2
    assert "error: put_ has no deterministic form on this device" in done.err
    assert "Traceback" not in done.err
    config = load_config(str(small_config), ["deterministic=true"])
    with pytest.raises(InputError, match="put_"):
        run_stage1(config, tmp_path / "library")
    assert not torch.are_deterministic_algorithms_enabled()
