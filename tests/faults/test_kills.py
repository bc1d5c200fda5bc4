"""Runs that are killed at random moments end like those that were not (see kill_runs.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kill_runs
import numpy as np
import pytest
import torch
from kill_checks import DONE, content, differences, progress, unreadable
from kill_lives import INT, KILL, TERM, Command, Lives, Server, Start, check_end, check_progress
from kill_moments import Stroke
from kill_runs import SCENARIOS, kill_often
from safetensors.numpy import save_file

FAST = [scenario.name for scenario in SCENARIOS if not scenario.slow]
FEWEST = 50  # kills of the fast tests


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("printed")) as server:
        yield server


@pytest.fixture
def make_lives(server: Server, tmp_path: Path) -> Callable[[int], Lives]:
    return lambda seed: Lives(server, SCENARIOS, tmp_path, kill_runs.make_data(tmp_path / "data"), seed)


def test_killed_runs_end_like_others(make_lives: Callable[[int], Lives]) -> None:
    lives = make_lives(0)
    print(f"\n{kill_often(lives, FAST, FEWEST)}")
    assert lives.kills.total() >= FEWEST
    assert {name for name, _, _ in lives.kills} == set(FAST), "every one was killed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_killed_runs_end_like_others(make_lives: Callable[[int], Lives], seed: int) -> None:
    print(f"\n{kill_often(make_lives(seed), [scenario.name for scenario in SCENARIOS], 100)}")


# That what is asked of killed runs can be told


def start(code: int, *strokes: Stroke, err: str = "", seen: dict[str, int] | None = None) -> Start:
    return Start(["stage1"], False, strokes, code, 1.0, "", err, seen)


STOPPED = "error: stopped\nhint: run the same command again: it continues where it was\n"


@pytest.mark.parametrize(
    "good",
    [
        start(0),
        start(-9, Stroke(1, KILL)),
        start(143, Stroke(1, TERM), err=STOPPED),
        start(130, Stroke(1, INT), err=STOPPED),
        start(143, Stroke(1, TERM), Stroke(2, KILL), err=STOPPED),
        start(-15, Stroke(1, TERM), seen={}),
    ],
)
def test_an_end_that_fits_its_signals(good: Start) -> None:
    check_end(good, Command([]))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (start(2, err="error: no\n"), "code 2"),
        (start(-15, Stroke(1, TERM)), "code -15"),
        (start(1, Stroke(1, TERM)), "code 1"),
        (start(-9), "code -9"),
        (start(143, Stroke(1, TERM)), r"says \[\]"),
        (start(143, Stroke(1, TERM), err="error: stopped\n"), "says"),
        (start(130, Stroke(1, TERM), err=STOPPED), "code 130"),
        (start(-9, Stroke(1, KILL), err="Traceback (most recent call last):\n"), "Traceback"),
        (start(0, err="warning: last.pt is damaged and left aside\n"), "damaged"),
        (start(0, err="error: stopped\n"), "says"),
    ],
)
def test_an_end_that_does_not(bad: Start, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_end(bad, Command([]))


def test_what_was_saved_must_not_be_lost() -> None:
    before = {"runs/a/last.pt": 2.0, "runs/a/features.h5": 3.0}
    goes_on = start(0, err="continuing stage one after epoch 2 of 3\n")
    done = dict.fromkeys(before, DONE)
    check_progress(goes_on, before, done, ["stage1"])
    check_progress(start(-9), before, before, ["stage1"])
    check_progress(start(-9), before, {}, ["stage1", "--overwrite"])
    for after in ({}, before | {"runs/a/last.pt": 1.0}, before | {"runs/a/features.h5": 2.0}):
        with pytest.raises(AssertionError, match="was at"):
            check_progress(start(-9), before, after, ["stage1"])
    for err in ("", "continuing stage one after epoch 1 of 3\n"):
        with pytest.raises(AssertionError, match="epochs were done"):
            check_progress(start(0, err=err), before, done, ["stage1"])


def write_files(folder: Path, epochs: int = 2) -> Path:
    """One of every kind of file."""
    folder.mkdir()
    (folder / "config.toml").write_text("a = 1\n")
    (folder / "manifest.json").write_text(json.dumps({"seconds": epochs, "history": [{"loss": 0.5}]}))
    (folder / "log.csv").write_text(f"epoch,seconds\n1,{epochs}.5\n2,2.5\n")
    torch.save({"epochs_done": epochs, "model": {"a": torch.arange(50.0)}}, folder / "last.pt")
    save_file({"a": np.arange(50.0)}, folder / "model.safetensors", {"history": "[1, 2]"})
    np.savez(folder / "predictions.npz", id=np.arange(100))
    return folder


def test_files_of_equal_runs_do_not_differ(tmp_path: Path) -> None:
    one, other = write_files(tmp_path / "one"), write_files(tmp_path / "other")
    (other / "manifest.json").write_text(json.dumps({"history": [{"loss": 0.5}], "seconds": 7}))
    assert differences(one, other) == unreadable(one, other) == []


@pytest.mark.parametrize("name", ["config.toml", "manifest.json", "log.csv", "last.pt", "model.safetensors"])
def test_half_a_file_is_found(tmp_path: Path, name: str) -> None:
    one, other = write_files(tmp_path / "one"), write_files(tmp_path / "other")
    os.truncate(one / name, (one / name).stat().st_size // 2)
    assert [told.split(":")[0] for told in unreadable(one, other)] == [name]


@pytest.mark.parametrize(
    ("name", "kind"), [("last.pt", np.float32), ("model.safetensors", np.float64), ("predictions.npz", np.int64)]
)
def test_a_changed_number_is_found(tmp_path: Path, name: str, kind: type) -> None:
    one, other = write_files(tmp_path / "one"), write_files(tmp_path / "other")
    data = (one / name).read_bytes()
    (one / name).write_bytes(data.replace(kind(7).tobytes(), kind(8).tobytes()))
    wrong = unreadable(one, other)
    assert [told.split(":")[0] for told in wrong] == [name]


def test_other_content_is_found(tmp_path: Path) -> None:
    one, other = write_files(tmp_path / "one"), write_files(tmp_path / "other", epochs=3)
    (one / "manifest.json").write_text(json.dumps({"history": [{"loss": 0.25}]}))
    (one / "config.toml").write_text("a = 2\n")
    (one / "log.csv.tmp.12").write_text("epoch")
    (other / "per_class.csv").write_text("class\n0\n")
    assert unreadable(one, other) == ["config.toml: neither the old file nor the new one"]
    named = ["config.toml: differs", "last.pt: differs", "log.csv.tmp.12: left over", "manifest.json: differs"]
    assert differences(one, other) == [*named, "per_class.csv: missing"]


def test_a_file_of_no_known_kind_is_found(tmp_path: Path) -> None:
    one = write_files(tmp_path / "one")
    (one / "core").write_text("")
    assert [told.split(":")[0] for told in unreadable(one, one)] == ["core"]


def test_progress_is_that_of_the_files(tmp_path: Path) -> None:
    run = write_files(tmp_path / "run")
    (run / "manifest.json").unlink()
    (run / "features.h5.partial").write_bytes(b"")
    (run / "features.h5.partial.0.log").write_text("\ntrain 0 0 1\n\ntrain 0 1 2\n")
    folder = run / "stage2" / "gumbel"
    folder.mkdir(parents=True)
    save_file({"a": np.zeros(1)}, folder / "state.safetensors", {"history": "[{}, {}]"})
    assert progress(tmp_path) == {str(run / "last.pt"): 2, str(run / "features.h5"): 2, str(folder): 2}
    (folder / "manifest.json").write_text("{}")
    (run / "manifest.json").write_text("{}")
    assert progress(tmp_path) == dict.fromkeys(progress(tmp_path), DONE)
    assert content(run / "log.csv") == [{"epoch": "1", "seconds": "2.5"}, {"epoch": "2", "seconds": "2.5"}]


def died_of(folder: Path, *strokes: Stroke) -> int:
    """What ends a process that writes `a` at its first operation, makes it another's at its second, and renames it."""
    told = ", ".join(f"Stroke({stroke.at}, {int(stroke.number)}, midway={stroke.midway})" for stroke in strokes)
    work = "a.write_text('all'); a.chmod(0o644); os.replace(a, 'b'); os.pwrite(os.open('b', os.O_RDWR), b'1234', 0)"
    script = f"import os, pathlib; from kill_moments import Moments, Stroke; Moments([{told}]).watch_system()"
    script += f"; a = pathlib.Path('a'); {work}"
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run([sys.executable, "-c", script], cwd=folder, env=paths, check=False).returncode


@pytest.mark.parametrize(
    ("at", "midway", "left"),
    [
        (1, False, {}),
        (1, True, {"a": ""}),
        (2, False, {"a": "all"}),
        (3, False, {"a": "all"}),
        (4, False, {"b": "all"}),
        (5, True, {"b": "12l"}),
        (6, False, {"b": "1234"}),
    ],
)
def test_a_process_is_killed_at_the_operation_it_was_told(
    tmp_path: Path, at: int, midway: bool, left: dict[str, str]
) -> None:
    assert died_of(tmp_path, Stroke(at, KILL, midway=midway)) == (0 if at == 6 else -KILL)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left
