"""Mistakes and interruptions around a choice: what is told, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli, write_gaussians

import gol_decouple
from gol_decouple import features, methods
from gol_decouple.errors import InputError
from gol_decouple.stages import saved, states
from gol_decouple.stages.jobs import Job, State

GRID = ("--method", "crt", "--set", "stage2.lr=[1e-3,1e-2]", "--set", "stage2.epochs=3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gaussians(tmp_path / "some.h5")


@pytest.mark.parametrize("command", ["stage2", "tune"])
def test_refit_of_two_values_is_refused_before_anything_is_trained(
    tmp_path: Path, file: Path, run_cli: RunCli, command: str
) -> None:
    outcome = run_cli(command, file, *GRID, "--set", "stage2.refit=[true,false]", "--runs-dir", tmp_path / "r")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: stage2.refit takes one value")
    assert not (tmp_path / "r").exists()


def test_one_sample_of_every_class_leaves_none_to_hold_out(tmp_path: Path, run_cli: RunCli) -> None:
    x, labels = np.eye(3, 8, dtype=np.float32), np.arange(3)
    path = features.write(tmp_path / "few.h5", {"train": (x, labels), "test": (x, labels)})
    outcome = run_cli("stage2", path, *GRID, "--runs-dir", tmp_path / "r")
    assert (outcome.code, outcome.out) == (2, "")
    assert "has no val split, and no class with two train samples to hold one out" in outcome.err
    assert run_cli("stage2", path, *GRID, "--keep-grid", "--runs-dir", tmp_path / "r").code == 0


def test_candidates_that_were_to_be_overwritten_continue(
    tmp_path: Path, file: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("stage2", file, *GRID, "--runs-dir", tmp_path / "r")
    assert run_cli(*arguments).code == 0
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real = saved.Saved._save_states

    def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
        real(self, states)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saved.Saved, "_save_states", save)
        assert run_cli(*arguments, "--overwrite").code == 130
    assert len(list((tmp_path / "r").rglob(states.STATE))) == 2
    outcome = run_cli(*arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("continuing after epoch 1") == 2
    assert not list((tmp_path / "r").rglob(states.STATE))


def test_what_is_trained_anew_alone_was_not_chosen(tmp_path: Path, file: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", file, *GRID, "--runs-dir", tmp_path / "r").code == 0
    (choice,) = (tmp_path / "r").rglob("choice.json")
    chosen = "1e-2" if "lr0.01" in choice.parent.name else "1e-3"
    alone = ("--method", "crt", "--set", f"stage2.lr={chosen}", "--set", "stage2.epochs=3", "--overwrite")
    outcome = run_cli("stage2", file, *alone, "--runs-dir", tmp_path / "r")
    assert outcome.code == 0, outcome.err
    assert not choice.exists()
    assert "best of" not in outcome.out


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_predictions_of_a_candidate_that_are_damaged_are_named(
    tmp_path: Path, file: Path, run_cli: RunCli, content: bytes | None
) -> None:
    arguments = ("tune", file, "--method", "ncm", "--minutes", 1, "--runs-dir", tmp_path / "r")
    assert run_cli(*arguments).code == 0
    for path in (tmp_path / "r").glob("*/candidates/*/predictions.npz"):
        path.unlink() if content is None else path.write_bytes(content)
    outcome = run_cli(*arguments)
    assert outcome.code == 2
    assert "predictions.npz is not a readable file of predictions" in outcome.err
    assert "hint: remove " in outcome.err


def test_a_parameter_that_ncm_does_not_have_is_named(file: Path) -> None:
    method = replace(methods.get("ncm"), classifier_params={"metric": "cosine"})
    with pytest.raises(InputError, match="classifier 'ncm' has no parameter 'metric'"):
        gol_decouple.retrain(file, method)


def test_a_temperature_is_fitted_on_classes_that_were_trained_on(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    x = (np.eye(3, 8)[labels] + 0.5 * stream.normal(size=(60, 8))).astype(np.float32)
    seen = labels < 2
    splits = {"train": (x[seen], labels[seen]), "val": (x, labels), "test": (x, labels)}
    path = features.write(tmp_path / "some.h5", splits, class_names=["a", "b", "c"])
    without = features.write(
        tmp_path / "two.h5", splits | {"val": (x[seen], labels[seen])}, class_names=["a", "b", "c"]
    )
    found, wanted = (gol_decouple.retrain(one, "ncm", temperature="val").temperature for one in (path, without))
    assert found == wanted
    assert 0.02 < found < 50
