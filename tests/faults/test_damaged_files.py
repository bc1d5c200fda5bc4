"""Damaged files of a run: no command ends in a traceback or changes what is good, and the message names the file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli

from gol_decouple.doctor.files import examine_file
from gol_decouple.doctor.findings import State
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.runs import read_config
from gol_decouple.targets import find_target, stage2_settings

COMMANDS: dict[str, tuple[str, ...]] = {
    "stage2": ("stage2", "RUN", "--method", "gumbel", "--set", "stage2.epochs=1", "--device", "cpu"),
    "report": ("report", "RUN"),
    "predict": ("predict", "RUN", "PHOTO"),
    "predict retrained": ("predict", "RUN", "PHOTO", "--method", "gumbel"),
}
# Where each lies, and which of the commands need it.
FILES: dict[str, set[str]] = {
    "config.toml": {"stage2", "predict", "predict retrained"},
    "manifest.json": {"stage2", "predict", "predict retrained"},
    "features.h5": {"stage2"},
    "model.safetensors": {"predict", "predict retrained"},
    "last.pt": set(),
    "log.csv": set(),
    "sessions.json": set(),
    "per_class.csv": {"predict"},
    "predictions.npz": {"stage2", "report"},
    "stage2/*/manifest.json": {"predict retrained"},
    "stage2/*/classifier.safetensors": {"predict retrained"},
    "stage2/*/per_class.csv": {"predict retrained"},
    "stage2/*/predictions.npz": {"stage2", "report"},
    "stage2/*/log.csv": set(),
    "stage2/*/choice.json": {"stage2"},
}


def link_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def folder_for(path: Path) -> None:
    path.unlink()
    path.mkdir()


def written(path: Path, content: bytes) -> None:
    """Replace a file; others that are linked with it stay."""
    path.unlink()
    path.write_bytes(content)


def another_type(path: Path) -> None:
    """What another program calls the same."""
    written(path, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)


def half_copied(path: Path) -> None:
    content = path.read_bytes()
    written(path, content[: len(content) // 2].ljust(len(content), b"\0"))


# Texts have no checksums: a number that is cut off is another number.
UNSEEN = {("log.csv", "but its last bytes"), ("per_class.csv", "but its last bytes")}
# Every bit of what is read from them is covered by a checksum.
ALL_CHECKED = ("features.h5", "predictions.npz", "model.safetensors", "stage2/*/classifier.safetensors", "last.pt")
FLIPS = 40

DAMAGES: dict[str, Callable[[Path], object]] = {
    "zero-length": lambda path: written(path, b""),
    "one byte": lambda path: written(path, path.read_bytes()[:1]),
    "first half": lambda path: written(path, path.read_bytes()[: path.stat().st_size // 2]),
    "but its last bytes": lambda path: written(path, path.read_bytes()[:-7]),
    "half-copied": half_copied,
    "another type": another_type,
    "a folder": folder_for,
    "a link to nowhere": lambda path: link_to(path, "/nowhere/at/all"),
    # Of this file a read at the beginning fails as from a broken disk.
    "unreadable": lambda path: link_to(path, "/proc/self/mem"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """A finished run with a classifier of stage two that was chosen of two. Tests link it, and replace single files."""
    from gol_decouple import runs
    from gol_decouple.config import override_section
    from gol_decouple.stages.classifier import run_stage2

    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("whole") / "colours"))
    target = find_target(run, run.parent)
    grid = override_section(stage2_settings(target), ["stage2.lr=[1e-5,1e-4]", "stage2.epochs=1"], "stage2")
    (folder,) = run_stage2(target, ["gumbel"], [0], grid, "cpu")
    assert runs.is_finished(folder)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs" / "colours", copy_function=os.link))


def member(run: Path, name: str) -> Path:
    (path,) = run.glob(name)
    return path


def snapshot(folder: Path) -> dict[str, object]:
    """Every file below a folder: its bytes, and when it was written."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink() or path.is_dir():
            found[str(path)] = status.st_mode
        elif path.name != ".lock":
            found[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), status.st_mtime_ns)
    return found


def call(run_cli: RunCli, command: str, run: Path, photos: Path) -> Outcome:
    named = {"RUN": str(run), "PHOTO": str(photos / "red" / "0.png")}
    return run_cli(*(named.get(part, part) for part in COMMANDS[command]))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_doctor_names_it_and_changes_nothing(run_cli: RunCli, run: Path, name: str, damage: str) -> None:
    path = member(run, name)
    DAMAGES[damage](path)
    before = snapshot(run)
    outcome = run_cli("doctor", path)
    assert snapshot(run) == before
    if (name.rpartition("/")[2], damage) in UNSEEN:
        return
    # A file that the disk does not give need not be damaged.
    assert outcome.code in ((2, 3) if damage == "unreadable" else (2,)), outcome.out
    assert outcome.out.startswith(("damaged: ", "not examined: "))
    assert str(path) in outcome.out
    assert "\n  hint: " in outcome.out
    assert outcome.err.startswith("error: 1 of 1 ")


def test_a_config_that_is_cut_off_between_two_lines_is_refused(run_cli: RunCli, run: Path) -> None:
    path = run / "config.toml"
    lines = path.read_text().splitlines(keepends=True)
    for count in range(1, lines.index("[methods]\n") + 1):
        written(path, "".join(lines[:count]).encode())
        with pytest.raises(InputError, match="config.toml") as caught:
            read_config(run)
    assert "ends before its last section, [methods]" in caught.value.message
    of_stage1 = ("stage1", path, "--runs-dir", run.parent, "--name", run.name)
    for command in (("stage2", run, "--method", "gumbel"), of_stage1):
        outcome = run_cli(*command)
        assert outcome.code == 2
        assert caught.value.message in outcome.err


def check_command(run_cli: RunCli, run: Path, photos: Path, name: str, damage: str, command: str) -> None:
    """It refuses what it needs, and leaves everything as it was."""
    path = member(run, name)
    DAMAGES[damage](path)
    before = snapshot(run)
    outcome = call(run_cli, command, run, photos)
    if (name.rpartition("/")[2], damage) not in UNSEEN:
        assert outcome.code in ((2, 3) if damage == "unreadable" else (2,)), outcome.err
        assert "error: " in outcome.err
        if path.is_file():
            assert str(path) in outcome.err or str(path.parent) in outcome.err
        else:
            assert str(run) in outcome.err, "what is missing is told of where it is missing"
    assert snapshot(run) == before


NEEDED = [(name, command) for name, commands in FILES.items() for command in sorted(commands)]


@pytest.mark.parametrize(("name", "command"), NEEDED)
def test_commands_refuse_what_they_need(
    run_cli: RunCli, run: Path, photos: Path, name: str, command: str, request: pytest.FixtureRequest
) -> None:
    turn = NEEDED.index((name, command))
    check_command(run_cli, run, photos, name, list(DAMAGES)[turn % len(DAMAGES)], command)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "command"), NEEDED)
def test_commands_refuse_every_damage(
    run_cli: RunCli, run: Path, photos: Path, name: str, command: str, damage: str
) -> None:
    check_command(run_cli, run, photos, name, damage, command)


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name])
def test_a_changed_bit_ends_in_no_traceback(run: Path, name: str) -> None:
    """What has checksums is found to be damaged, or is as it was where nothing is read."""
    path, stream = member(run, name), np.random.default_rng(0)
    content, found = path.read_bytes(), []
    for place, bit in zip(stream.integers(len(content), size=FLIPS), stream.integers(8, size=FLIPS), strict=True):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        written(path, changed)
        found.append(examine_file(path, SILENT).state)
    assert set(found) <= {State.in_order, State.damaged}
    if name in ALL_CHECKED:
        assert found.count(State.damaged) > FLIPS // 2


def test_a_damaged_result_does_not_hide_the_others(run_cli: RunCli, run: Path) -> None:
    path = member(run, "stage2/*/manifest.json")
    written(path, b'{"stage": 2')
    outcome = run_cli("report", run, "--format", "json")
    assert outcome.code == 2, "a program must not take it for all"
    assert [row["stage"] for row in json.loads(outcome.out)] == [1]
    told, error, hint = outcome.err.splitlines()
    assert told.startswith(f"warning: left out: {path} is not readable JSON")
    assert (error, hint) == ("error: 1 result is damaged and left out", f"hint: gol-decouple doctor {run}")


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": []},
        {"settings": [1]},
        {"changed_settings": 3},
        {"seed": "0"},
        {"method": None},
        {"train_counts": 7},
        {"features": {}},
        {"seconds": float("nan")},
        {"detection": [1]},
        {"detection": {"boxes": None}},
        {"cascade": 5},
        {"run": {}, "split": []},
    ],
    ids=str,
)
def test_a_manifest_of_other_kinds_of_values(run_cli: RunCli, run: Path, photos: Path, change: dict[str, Any]) -> None:
    path = run / "manifest.json"
    written(path, json.dumps(json.loads(path.read_text()) | change).encode())
    for command in ("stage2", "report"):
        outcome = call(run_cli, command, run, photos)
        assert (outcome.code, str(path) in outcome.err) == (2, True), outcome.err
    assert run_cli("doctor", path).code == 2
    assert call(run_cli, "predict", run, photos).code in (0, 2)
