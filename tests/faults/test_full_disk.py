"""A disk that is full, or cannot be written: a message, nothing half-written, and afterwards the result of any other
run."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli
from small_disk import SmallDisk, files, on_small_disk, run
from test_files import file_size_limit

from gol_decouple import features
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.predictions import Best, ImageDetections
from gol_decouple.stages import saved
from gol_decouple.stages.drawn_pictures import DrawnPictures

METHODS = ("--method", "gumbel", "--method", "ncm", "--set", "stage2.epochs=3", "--device", "cpu")
# What tells of a run's time and place, or is for a run that is not done.
NOT_COMPARED = ("manifest.json", "config.toml", "sessions.json", "log.csv", "last.pt", "previous.pt", "features.h5")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def results(folder: Path) -> dict[str, bytes]:
    """What two equal runs have bit by bit."""
    return {name: content for name, content in files(folder).items() if Path(name).name not in NOT_COMPARED}


def refused(outcome: Outcome, disk: Path) -> None:
    """Whether a command told that the disk is full, and left no half files."""
    lines = outcome.err.splitlines()
    assert outcome.code == 3, outcome.err
    assert "Traceback" not in outcome.err
    assert lines[-2].startswith(f"error: the disk is full: {disk}"), lines
    assert lines[-1].startswith("hint: free some space"), lines
    assert not [name for name in files(disk) if ".tmp." in name]


def attempts(disk: SmallDisk, arguments: tuple[object, ...], step: int, least: int) -> None:
    """Run a command with ever more room until it succeeds; it has to fail `least` times before."""
    for count in range(100):
        disk.leave(count * step)
        outcome = run(*arguments)
        if outcome.code == 0:
            assert count >= least, f"it failed {count} times only"
            return
        refused(outcome, disk.path)
    raise AssertionError("it never succeeded")


# On a full disk


def test_stage_one_fails_where_the_disk_is_full_and_continues_once_there_is_room(
    disk: Path, small_config: Path, finished_run: Path
) -> None:
    def work(small: SmallDisk) -> dict[str, bytes]:
        command = ("stage1", small_config, "--runs-dir", small.path, "--device", "cpu")
        attempts(small, command, step=1_500_000, least=4)
        x = features.open(small.path / "colours" / "features.h5")["train"].features[:]
        return {**results(small.path / "colours"), "features": x.tobytes()}

    found = on_small_disk(disk, 40, work)
    own = features.open(finished_run / "features.h5")["train"].features[:]
    assert found.pop("features") == own.tobytes()
    assert found == results(finished_run)


def test_a_features_file_is_reserved_before_the_first_image(disk: Path, small_config: Path) -> None:
    """The checkpoint fits, and the features do not: nothing of them is computed in vain."""

    def work(small: SmallDisk) -> tuple[Outcome, list[str]]:
        views = ["--set", "features.views=1000", "--set", "stage1.epochs=0"]
        outcome = run("stage1", small_config, "--runs-dir", small.path, "--device", "cpu", *views)
        refused(outcome, small.path)
        return outcome, list(files(small.path))

    outcome, left = on_small_disk(disk, 8, work)
    assert "features.h5" in outcome.err
    assert "images/s" not in outcome.err
    assert "colours/features.h5" not in left


def test_stage_two_fails_where_the_disk_is_full_and_continues_once_there_is_room(
    tmp_path: Path, disk: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    other = Path(shutil.copytree(finished_run, tmp_path / "other" / "colours"))
    assert run("stage2", other, *METHODS).code == 0

    def work(small: SmallDisk) -> dict[str, bytes]:
        run_folder = Path(shutil.copytree(finished_run, small.path / "colours"))
        before = files(run_folder)
        attempts(small, ("stage2", run_folder, *METHODS), step=4096, least=4)
        after = files(run_folder)
        assert before.items() <= after.items(), "stage one is as it was"
        # What is finished stays as it is where its replacement has no room.
        small.leave(0)
        refused(run("stage2", run_folder, *METHODS, "--overwrite", "--set", "stage2.gradients=true"), small.path)
        assert before.items() <= files(run_folder).items()
        small.make_room()
        assert run("stage2", run_folder, *METHODS).code == 0
        assert run("report", run_folder).code == 0
        return results(run_folder / "stage2")

    assert on_small_disk(disk, 40, work) == results(other / "stage2")


def lvis_like(path: Path) -> Path:
    """Annotations in COCO's format."""
    tree = {
        "images": [{"id": 1, "width": 9, "height": 9, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9}],
    }
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("export", "RUN", "--out", "DISK/exported"),
        ("export", "RUN", "--method", "softmax", "--out", "DISK/exported"),
        ("analyze", "RUN", "--out", "DISK/analysed"),
        ("convert", "COCO", "DISK/lvis.json"),
    ],
    ids=lambda command: " ".join(command[:1] + command[2:4]),
)
def test_commands_that_write_leave_nothing_half_written(
    tmp_path: Path, disk: Path, retrained_run: Path, command: tuple[str, ...]
) -> None:
    coco = lvis_like(tmp_path / "coco.json")

    def work(small: SmallDisk) -> None:
        (small.path / "kept.txt").write_text("kept")
        given = {"RUN": str(retrained_run), "COCO": str(coco)}
        arguments = [given.get(word, word.replace("DISK", str(small.path))) for word in command]
        small.leave(0)
        refused(run(*arguments), small.path)
        assert list(files(small.path)) == ["kept.txt"]
        small.make_room()
        outcome = run(*arguments)
        assert outcome.code == 0, outcome.err
        assert len(files(small.path)) > 1

    on_small_disk(disk, 40, work)


def test_drawn_pictures_leave_no_half_picture(disk: Path) -> None:
    def work(small: SmallDisk) -> str:
        small.leave(0)
        nothing = ImageDetections(Path("a.png"), (9, 9), [], [], [], [], [], [])
        pictures = DrawnPictures(small.path / "drawn", [Path("a.png")], Best(None, 0.5))
        with pytest.raises(EnvironmentFailure) as failure:
            pictures.add(np.zeros((9, 9, 3), np.uint8), nothing)
        assert not files(small.path)
        return failure.value.message

    assert on_small_disk(disk, 1, work) == f"the disk is full: {disk}/drawn/a.png could not be written"


# Stand-ins that need no disk of their own


def test_a_quota_stops_stage_two_without_a_half_file(tmp_path: Path, finished_run: Path, run_cli: RunCli) -> None:
    """No file may grow beyond some bytes: the system's refusal comes in the middle of a write."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "colours"))
    before = files(folder)
    for limit in (0, 100, 700):
        with file_size_limit(limit):
            outcome = run_cli("stage2", folder, *METHODS)
        assert outcome.code == 3
        assert "cannot be written: File too large" in outcome.err
        assert "Traceback" not in outcome.err
        left = files(folder)
        assert before.items() <= left.items()
        assert not [name for name in left if ".tmp." in name]
    assert run_cli("stage2", folder, *METHODS).code == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_as_late_as_the_disk_can_tell_one_leaves_the_old_file(
    tmp_path: Path, finished_run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """A network file system may take every byte, and say when the file is closed that there is no room."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "colours"))
    before = files(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        outcome = run_cli("stage2", folder, *METHODS)
    assert outcome.code == 3
    told = f"error: {folder}" if number == errno.EIO else f"error: the disk is full: {folder}"
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert files(folder) == before
    assert run_cli("stage2", folder, *METHODS).code == 0


# On a disk that cannot be written


def test_a_read_only_run_can_be_read_and_says_what_cannot_be_written(
    disk: Path, photos: Path, retrained_run: Path, small_config: Path
) -> None:
    def work(small: SmallDisk) -> None:
        folder = Path(shutil.copytree(retrained_run, small.path / "colours"))
        small.read_only()
        before = files(small.path)
        for arguments in (
            ("report", folder),
            ("predict", folder, photos / "red" / "0.png", "--device", "cpu"),
            ("stage1", small_config, "--runs-dir", small.path, "--device", "cpu"),  # it is finished
        ):
            outcome = run(*arguments)
            assert outcome.code == 0, outcome.err
        for arguments in (
            ("stage1", small_config, "--runs-dir", small.path, "--device", "cpu", "--name", "new"),
            ("stage1", small_config, "--runs-dir", small.path, "--device", "cpu", "--overwrite"),
            ("stage2", folder, *METHODS, "--set", "stage2.lr=0.5"),
            ("tune", folder, "--method", "ncm", "--minutes", "0.01", "--device", "cpu"),
            ("export", folder, "--out", small.path / "exported"),
            ("analyze", folder, "--out", small.path / "analysed"),
        ):
            outcome = run(*arguments)
            assert outcome.code == 3, (arguments, outcome.err)
            lines = outcome.err.splitlines()
            assert lines[-2].startswith(f"error: {small.path}"), lines
            assert lines[-2].endswith(" cannot be written: Read-only file system"), lines
            assert "choose another " in lines[-1], lines
        assert files(small.path) == before

    on_small_disk(disk, 40, work)
