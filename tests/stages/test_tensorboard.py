"""TensorBoard's files of stage two: every epoch of every classifier, what it came to, and none without being asked."""

from __future__ import annotations

import builtins
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import RunCli

ON = ("--set", "stage2.tensorboard=true")


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    shown.Reload()
    return {tag: {event.step: event.value for event in shown.Scalars(tag)} for tag in shown.Tags()["scalars"]}


@pytest.fixture
def run(tmp_path: Path, finished_run: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_every_epoch_and_the_accuracies_are_shown(run: Path, run_cli: RunCli) -> None:
    made = run_cli("stage2", run, "--method", "gumbel", "--method", "ncm", "--set", "stage2.epochs=3", *ON)
    assert made.code == 0, made.err
    for name, epochs in (("gumbel", 3), ("ncm", 0)):
        (folder,) = (path.parent for path in (run / "stage2").glob(f"{name}*/manifest.json"))
        manifest = json.loads((folder / "manifest.json").read_text())
        shown = scalars(folder)
        for metric in ("top1", "top1_medium", "top1_few"):
            assert shown[f"test/{metric}"] == {epochs: pytest.approx(manifest["metrics"][metric], rel=1e-6)}
        assert "test/top1_many" not in shown, "there are no such classes"
        if not epochs:
            assert "stage2/loss" not in shown
            continue
        assert sorted(shown["stage2/loss"]) == sorted(shown["stage2/lr"]) == [1, 2, 3]
        assert list(shown["stage2/lr"].values()) == pytest.approx([1e-5] * 3)
        with (folder / "log.csv").open(newline="") as file:
            losses = {int(row["epoch"]): float(row["train_loss"]) for row in csv.DictReader(file)}
        assert shown["stage2/loss"] == pytest.approx(losses, rel=1e-6)


def test_it_changes_nothing_of_a_classifier(run: Path, run_cli: RunCli) -> None:
    settings = ("--method", "gumbel", "--set", "stage2.epochs=2")
    assert run_cli("stage2", run, *settings).code == 0
    (folder,) = (run / "stage2").iterdir()
    assert not (folder / "tensorboard").exists()
    before = (folder / "classifier.safetensors").read_bytes()
    assert run_cli("stage2", run, *settings, *ON, "--overwrite").code == 0
    assert [path.name for path in (run / "stage2").iterdir()] == [folder.name], "the same classifier"
    assert (folder / "classifier.safetensors").read_bytes() == before
    assert sorted(scalars(folder)["stage2/loss"]) == [1, 2]
    assert run_cli("doctor", run).code == 0


def test_epochs_that_are_trained_again_are_shown_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from gol_decouple.stages.tensorboard import Boards

    for losses in ((3.0, 2.0, 1.0), (3.0, 2.5)):  # the second takes up what was saved after the first epoch
        time.sleep(1)  # TensorBoard reads files in the order of the seconds in which they were begun
        boards = Boards()
        first = 1 if len(losses) == 3 else 2
        for done in range(first, len(losses) + 1):
            rows = [{"epoch": epoch + 1, "lr": 0.1, "loss": loss} for epoch, loss in enumerate(losses[:done])]
            boards.epoch(tmp_path, rows)
    assert scalars(tmp_path)["stage2/loss"] == {1: 3.0, 2: 2.5}


def test_what_is_not_trained_is_shown_once_and_what_was_trained_elsewhere_whole(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from gol_decouple.stages.tensorboard import SHOWN, Boards

    row = dict.fromkeys(SHOWN) | {"split": "test", "top1": 40.0, "epochs": 0}
    for top1 in (40.0, 41.0):
        Boards().finish(tmp_path / "ncm", row | {"top1": top1}, [])
    assert scalars(tmp_path / "ncm") == {"test/top1": {0: 41.0}}
    history = [{"epoch": epoch, "lr": 0.5, "loss": 4.0 / epoch} for epoch in (1, 2)]
    Boards().finish(tmp_path / "gumbel", row | {"epochs": 2}, history)
    assert scalars(tmp_path / "gumbel")["stage2/loss"] == {1: 4.0, 2: 2.0}
    assert scalars(tmp_path / "gumbel")["test/top1"] == {2: 40.0}


def test_a_classifier_trained_again_without_it_keeps_nothing_of_the_former_one(run: Path, run_cli: RunCli) -> None:
    settings = ("--method", "gumbel", "--set", "stage2.epochs=1")
    assert run_cli("stage2", run, *settings, *ON).code == 0
    (folder,) = (run / "stage2").iterdir()
    assert (folder / "tensorboard").is_dir()
    assert run_cli("stage2", run, *settings, "--overwrite").code == 0
    assert not (folder / "tensorboard").exists()


def test_candidates_of_a_choice_have_theirs(run: Path, run_cli: RunCli) -> None:
    made = run_cli("stage2", run, "--method", "gumbel", "--set", "stage2.lr=[1e-5,1e-4]", *ON)
    assert made.code == 0, made.err
    folders = [path.parent for path in run.rglob("manifest.json") if path.parent not in (run, *run.glob("stage2/*"))]
    assert len(folders) == 2
    for folder in folders:
        shown = scalars(folder)
        assert len(shown["stage2/loss"]) == 30
        assert any(tag.endswith("/top1") and not tag.startswith("test/") for tag in shown)


def test_without_tensorboard_nothing_is_trained(run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real_import(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    outcome = run_cli("stage2", run, "--method", "gumbel", *ON)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: stage2.tensorboard = true, but TensorBoard is not installed\n" in outcome.err
    assert 'hint: pip install "gol-decouple[tensorboard]"' in outcome.err
    assert not list(run.glob("stage2/*/manifest.json"))
