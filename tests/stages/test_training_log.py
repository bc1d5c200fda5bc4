"""Stage one's log: a row an epoch in log.csv, and the same in TensorBoard's files where they are asked for."""

from __future__ import annotations

import builtins
import csv
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Interrupt, RunCli

from gol_decouple.backbones import build_model
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.stages.training import Trainer
from gol_decouple.stages.training_log import FIELDS, TrainingLog, read_log, seconds_of, write_history

ROW = {"epoch": 1, "lr": 0.1, "train_loss": 2.5, "accuracy": None, "images_per_second": 10.0, "seconds": 1.5}


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: of each scalar, the value of each epoch."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    shown.Reload()
    return {tag: {event.step: event.value for event in shown.Scalars(tag)} for tag in shown.Tags()["scalars"]}


def test_the_log_is_a_table(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    assert seconds_of(tmp_path) == 0.0
    for epoch in (1, 2):
        log.add(ROW | {"epoch": epoch})
    log.write()
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [FIELDS] * 2
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["accuracy"] == ""
    assert seconds_of(tmp_path) == log.seconds == 3.0
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_shows_every_epoch_once(tmp_path: Path, small_config: Path, interrupt: Interrupt) -> None:
    config = load_config(str(small_config), ["stage1.tensorboard=true", "stage1.evaluate_every=1"], device="cpu")
    data = load_data(config.data)

    def trainer() -> Trainer:
        return Trainer(build_model(config.backbone.name, 3, 0), data, config, tmp_path)

    interrupt(trainer(), 2)
    trainer().run(SILENT)
    shown = scalars(tmp_path)
    assert set(shown) == {f"stage1/{name}" for name in FIELDS if name != "epoch"}
    with (tmp_path / "log.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name in ("lr", "train_loss", "accuracy"):
                assert shown[f"stage1/{name}"][int(row["epoch"])] == pytest.approx(float(row[name]), rel=1e-6)
    assert sorted(shown["stage1/train_loss"]) == [1, 2, 3]


def test_without_tensorboard_there_is_a_way_out(
    tmp_path: Path, small_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real_import(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    outcome = run_cli("stage1", small_config, "--runs-dir", tmp_path / "runs", "--set", "stage1.tensorboard=true")
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: stage1.tensorboard = true, but TensorBoard is not installed\n" in outcome.err
    assert 'pip install "gol-decouple[tensorboard]"' in outcome.err
    assert not (tmp_path / "runs").exists()


def test_the_learning_rate_is_scaled_on_request_and_told_either_way(
    tmp_path: Path, small_config: Path, run_cli: RunCli
) -> None:
    settings = ["--runs-dir", tmp_path, "--set", "stage1.epochs=1"]
    assert run_cli("stage1", small_config, "--name", "plain", *settings).code == 0
    scaled = run_cli("stage1", small_config, "--name", "scaled", *settings, "--set", "stage1.lr_batch_size=64")
    assert scaled.code == 0
    assert "lr 0.0025" in scaled.out, "0.01 for batches of 64, in batches of 16"
    for name, lr in (("plain", 0.01), ("scaled", 0.0025)):
        with (tmp_path / name / "log.csv").open(newline="") as file:
            assert [float(row["lr"]) for row in csv.DictReader(file)] == [lr]
        manifest = (tmp_path / name / "manifest.json").read_text()
        assert f'"scaled_lr": {lr}' in manifest
        assert '"batch_size": 16' in manifest
        assert '"processes": 1' in manifest


LOG_LINES = "epoch,lr,train_loss,accuracy,images_per_second,seconds\n1,0.1,2.5,,100,1.5\n2,0.1,2.0,50,100,2.5\n"


def test_the_seconds_of_a_log(tmp_path: Path) -> None:
    assert seconds_of(tmp_path) == 0.0
    (tmp_path / "log.csv").write_text(LOG_LINES)
    assert seconds_of(tmp_path) == 4.0
    (tmp_path / "log.csv").write_text(LOG_LINES.partition("\n")[0])
    assert seconds_of(tmp_path) == 0.0, "stopped in its first epoch"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no column epoch"),
        (LOG_LINES.replace("seconds", "sec").encode(), "it has no column seconds"),
        (LOG_LINES.replace("2,0.1", "3,0.1").encode(), "every epoch"),
        (LOG_LINES.replace("2.5\n", "nan\n").encode(), "sum up to nan"),
        (LOG_LINES.replace("2.5\n", "x\n").encode(), "could not convert"),
        (LOG_LINES[:-5].encode(), "float"),
        (b"\xff" * 50, "decode"),
    ],
)
def test_a_damaged_log(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        seconds_of(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path / 'log.csv'} is not a readable log of a training: ")
    assert f"remove {tmp_path / 'log.csv'} to go without" in str(caught.value.hint)


def test_the_log_of_a_retrained_classifier(tmp_path: Path) -> None:
    history = [{"epoch": 1, "lr": 0.1, "loss": 1 / 3}, {"epoch": 2, "lr": 1e-05, "loss": 0.25}]
    write_history(tmp_path, history)
    assert (tmp_path / "log.csv").read_text() == f"epoch,lr,train_loss\n1,0.1,{1 / 3}\n2,1e-05,0.25\n"
    assert read_log(tmp_path / "log.csv") == {"epoch": [1.0, 2.0], "lr": [0.1, 1e-05], "train_loss": [1 / 3, 0.25]}


def test_what_was_not_measured_is_nan(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG_LINES)
    found = read_log(tmp_path / "log.csv")
    assert list(found) == ["epoch", "lr", "train_loss", "accuracy", "images_per_second", "seconds"]
    assert math.isnan(found["accuracy"][0])
    assert found["accuracy"][1] == 50.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no column epoch"),
        (b"epoch,lr,train_loss\n2,0.1,1\n", "every epoch"),
        (b"epoch,lr,train_loss\n1,0.1\n", "ends early"),
        (b"epoch,lr,train_loss\n1,0.1,2,3\n", "more values"),
        (b"epoch,lr,train_loss\n1,0.1,x\n", "could not convert"),
        (b"\xff" * 50, "decode"),
    ],
)
def test_a_damaged_log_of_curves(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_log(tmp_path / "log.csv")
    assert f"remove {tmp_path / 'log.csv'} to go without" in str(caught.value.hint)
