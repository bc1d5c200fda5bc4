"""Results of what a features file held before: left out of the report of what it holds now."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli

from gol_decouple import features
from gol_decouple.belonging import RECORD

FAST = ("--set", "stage2.epochs=1", "--device", "cpu")


def write(path: Path, seed: int, **given: object) -> Path:
    stream = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), (20, 10, 5))
    splits = {name: (stream.normal(size=(35, 4)).astype(np.float32), labels) for name in ("train", "test")}
    return features.write(path, splits, overwrite=True, **given)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> Path:
    """A features file that another program made, with a classifier, and new content since."""
    monkeypatch.chdir(tmp_path)
    path = write(Path("mine.h5"), 0, class_names=["cat", "dog", "fox"])
    assert run_cli("stage2", path, "--activation", "softmax", *FAST).code == 0
    return write(path, 1, class_names=["cat", "fox", "dog"])


def methods(text: str) -> list[str]:
    return [row["method"] for row in json.loads(text)]


def test_results_of_former_content_are_no_results_of_a_file(mine: Path, run_cli: RunCli) -> None:
    outcome = run_cli("report", mine)
    assert outcome.code == 2
    assert outcome.out == ""
    warning, error, hint = outcome.err.splitlines()
    assert warning.startswith("warning: left out, since they are of other features than runs/mine has now: softmax-")
    assert "class order: class 1 'dog' -> 'fox', and 1 more" in warning
    assert error == "error: no result in runs/mine is of the features that are there now"
    assert hint.startswith("hint: gol-decouple stage2")


def test_new_results_stand_alone_and_the_old_stay(mine: Path, run_cli: RunCli) -> None:
    before = sorted(Path("runs/mine/stage2").iterdir())
    outcome = run_cli("stage2", mine, "--activation", "sigmoid", *FAST)
    assert outcome.code == 0
    assert "warning: runs/mine has results of other features (class order: class 1 'dog' -> 'fox'" in outcome.err
    report = run_cli("report", "--format", "json")
    assert methods(report.out) == ["sigmoid", "softmax"], "with the softmax that sigmoid starts from"
    assert report.err.count("left out") == 1
    assert set(before) < set(Path("runs/mine/stage2").iterdir())
    again = run_cli("stage2", mine, "--activation", "sigmoid", *FAST)
    assert "has results of other features" not in again.err, "it is told once"


def test_a_file_that_is_back_has_its_results_back(mine: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", mine, "--activation", "sigmoid", *FAST).code == 0
    write(mine, 0, class_names=["cat", "dog", "fox"])
    report = run_cli("report", mine, "--format", "json")
    assert methods(report.out) == ["softmax", "softmax"], "with the one that it starts from"


def test_results_that_do_not_tell_which_features_are_the_last_are_reported_with_a_warning(
    mine: Path, run_cli: RunCli
) -> None:
    assert run_cli("stage2", mine, "--activation", "sigmoid", *FAST).code == 0
    (Path("runs/mine") / RECORD).unlink()
    report = run_cli("report", "--format", "json")
    assert methods(report.out) == ["sigmoid", "softmax", "softmax", "softmax"]
    assert report.err == "warning: runs/mine has results of 2 features files, which are not comparable\n"
