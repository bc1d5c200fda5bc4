"""The sessions of a training: what trained each part of the model that came of it, and nothing that was lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Outcome, RunCli

from gol_decouple import provenance, runs
from gol_decouple.errors import InputError
from gol_decouple.stages.manifest import environment
from gol_decouple.stages.sessions import begin_session, sessions_of

CPU = torch.device("cpu")


def began(folder: Path) -> list[tuple[int, int]]:
    return [(one["epochs_done"], one["steps_done"]) for one in sessions_of(folder)]


def test_each_begins_where_the_last_checkpoint_was(tmp_path: Path) -> None:
    assert sessions_of(tmp_path) == []
    begin_session(tmp_path, 0, 0, CPU)
    with provenance.commanded(["stage1", "mine.toml"]):
        begin_session(tmp_path, 2, 5, CPU)
    first, second = sessions_of(tmp_path)
    assert first == {"epochs_done": 0, "steps_done": 0, "command": None, "environment": environment(CPU)}
    assert (second["command"], began(tmp_path)) == (["gol-decouple", "stage1", "mine.toml"], [(0, 0), (2, 5)])


@pytest.mark.parametrize(
    ("begins", "left"),
    [
        ([(0, 0), (0, 0)], [(0, 0)]),
        ([(0, 0), (2, 5), (2, 5)], [(0, 0), (2, 5)]),
        ([(0, 0), (2, 5), (2, 1)], [(0, 0), (2, 1)]),
        ([(0, 0), (2, 5), (3, 0), (1, 9)], [(0, 0), (1, 9)]),
        ([(3, 0), (4, 0)], [(3, 0), (4, 0)]),
    ],
    ids=["killed before it saved", "again", "an earlier checkpoint", "the previous checkpoint", "of an older version"],
)
def test_a_session_of_which_nothing_is_in_the_model_is_not_told(
    tmp_path: Path, begins: list[tuple[int, int]], left: list[tuple[int, int]]
) -> None:
    for epochs_done, steps_done in begins:
        begin_session(tmp_path, epochs_done, steps_done, CPU)
    assert began(tmp_path) == left


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"sessions": {}}', '{"sessions": [1]}', '{"sessions": [{"epochs_done": 1, "steps_done": 0}]}'],
)
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / runs.SESSIONS
    path.write_text(content)
    with pytest.raises(InputError, match=str(path)) as caught:
        begin_session(tmp_path, 1, 0, CPU)
    assert caught.value.hint == f"remove {path} to go without: it only tells which sessions trained the model"
    assert path.read_text() == content


def run_of(outcome: Outcome, folder: Path) -> list[tuple[int, int]]:
    assert outcome.code == 0, outcome.err
    told = json.loads((folder / runs.MANIFEST).read_text())["sessions"]
    assert told == sessions_of(folder)
    return began(folder)


def test_a_run_tells_its_sessions(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    folder = tmp_path / "runs" / "mine"
    command = ["stage1", str(small_config), "--runs-dir", str(tmp_path / "runs"), "--name", "mine"]
    assert run_of(run_cli(*command), folder) == [(0, 0)]
    # Features that are made again train nothing.
    (folder / runs.FEATURES).unlink()
    assert run_of(run_cli(*command), folder) == [(0, 0)]
    # A training that goes on from a checkpoint is told beside what it began with.
    for name in (runs.MANIFEST, runs.FEATURES):
        (folder / name).unlink()
    state = torch.load(folder / "last.pt", weights_only=True)
    torch.save(state | {"epochs_done": 2, "log": state["log"][:2]}, folder / "last.pt")
    assert run_of(run_cli(*command), folder) == [(0, 0), (2, 0)]
    assert run_of(run_cli(*command, "--overwrite"), folder) == [(0, 0)]


def test_a_training_that_cannot_note_its_session_ends_before_it_begins(
    tmp_path: Path, small_config: Path, run_cli: RunCli
) -> None:
    folder = tmp_path / "runs" / "mine"
    command = ["stage1", str(small_config), "--runs-dir", str(tmp_path / "runs"), "--name", "mine"]
    assert run_cli(*command).code == 0
    for name in (runs.MANIFEST, runs.FEATURES):
        (folder / name).unlink()
    state = torch.load(folder / "last.pt", weights_only=True)
    torch.save(state | {"epochs_done": 2, "log": state["log"][:2]}, folder / "last.pt")
    (folder / runs.SESSIONS).write_text("[")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.csv"}
    outcome = run_cli(*command)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {folder / runs.SESSIONS} " in outcome.err
    assert f"hint: remove {folder / runs.SESSIONS} to go without" in outcome.err
    assert "Traceback" not in outcome.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.csv"} == before
    (folder / runs.SESSIONS).unlink()
    assert run_of(run_cli(*command), folder) == [(2, 0)]


def test_a_loaded_model_has_none(tmp_path: Path, small_config: Path, finished_run: Path, run_cli: RunCli) -> None:
    command = ["stage1", str(small_config), "--checkpoint", str(finished_run / runs.MODEL), "--set", "stage1.epochs=0"]
    outcome = run_cli(*command, "--runs-dir", str(tmp_path / "runs"), "--name", "loaded")
    assert run_of(outcome, tmp_path / "runs" / "loaded") == []
