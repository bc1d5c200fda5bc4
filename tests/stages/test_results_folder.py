"""Two commands on one folder: the second is refused, nothing is mixed, and those that only read go on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Outcome, RunCli

from gol_decouple import runs
from gol_decouple.config import load_config
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.stages import starting

FAST = ("--set", "stage2.epochs=2", "--device", "cpu")


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Of every file its bytes and time, and of every folder when something in it was made or removed."""
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
        if path.name != runs.LOCK
    }


@contextmanager
def another_works_on(folder: Path) -> Iterator[None]:
    """As in another process; and meanwhile nothing in the folder changes."""
    with runs.working_on(folder):
        before = content(folder)
        yield
        assert content(folder) == before


def assert_refused(outcome: Outcome, folder: Path, hint: str) -> None:
    assert (outcome.code, outcome.out) == (3, "")
    told = outcome.err.splitlines()[-2:]
    assert told[0] == f"error: another process is working on {folder}"
    assert told[1].startswith("hint: wait until it is done")
    assert hint in told[1]


@pytest.fixture
def run(retrained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(retrained_run, tmp_path / "runs" / "colours"))


def test_a_second_command_on_a_run_is_refused(run_cli: RunCli, run: Path, small_config: Path) -> None:
    with another_works_on(run):
        for command in (
            ("stage2", run, "--activation", "gumbel", *FAST),
            ("stage2", run / "features.h5", "--activation", "gumbel", "--overwrite", *FAST),
            ("stage2", run, "--activation", "gumbel", "--set", "stage2.lr=[1e-5,1e-4]", *FAST),
            ("tune", run, "--minutes", 0.01, "--method", "gumbel", *FAST),
        ):
            assert_refused(run_cli(*command), run, "repeat the command")
        again = ("stage1", small_config, "--runs-dir", run.parent, "--overwrite")
        assert_refused(run_cli(*again), run, "choose another --name")


def test_merging_beside_a_stage_one_is_refused(run_cli: RunCli, run: Path) -> None:
    (run / runs.MANIFEST).unlink()
    with another_works_on(run):
        assert_refused(run_cli("merge", run), run, "")


def test_those_that_read_go_on_beside_and_write_nothing(
    run_cli: RunCli, run: Path, photos: Path, tmp_path: Path
) -> None:
    """So that a folder that cannot be written, and has no lock, is as good."""
    (run / runs.LOCK).unlink()
    commands = (
        ("predict", run, photos, "--method", "softmax"),
        ("report", run),
        ("export", run, "--method", "softmax", "--out", tmp_path / "out"),
        ("analyze", run, "--what", "norms", "--out", tmp_path / "figures"),
    )
    before = content(run)
    for command in commands:
        assert run_cli(*command).code == 0
    assert content(run) == before
    assert not (run / runs.LOCK).exists()
    with another_works_on(run):
        assert run_cli("report", run.parent).code == 0


def test_features_made_elsewhere_lock_the_folder_of_their_results(
    run_cli: RunCli, gaussians: Path, tmp_path: Path
) -> None:
    arguments = ("stage2", gaussians, "--activation", "gumbel", *FAST, "--runs-dir", tmp_path)
    with another_works_on(tmp_path / "gaussians"):
        assert_refused(run_cli(*arguments), tmp_path / "gaussians", "or choose another --runs-dir")
    assert run_cli(*arguments).code == 0


def test_without_locks_all_goes_on(
    run_cli: RunCli, gaussians: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert run_cli("stage2", gaussians, "--activation", "gumbel", *FAST, "--runs-dir", tmp_path).code == 0


# Features of one name


def test_a_copy_of_the_features_is_the_same(run_cli: RunCli, gaussians: Path, tmp_path: Path) -> None:
    arguments = ("--activation", "gumbel", *FAST, "--runs-dir", tmp_path / "runs")
    assert run_cli("stage2", gaussians, *arguments).code == 0
    again = run_cli("stage2", shutil.copyfile(gaussians, tmp_path / "gaussians.h5"), *arguments)
    assert again.code == 0
    assert "is finished and kept as it is" in again.err


# Runs of one name


def test_a_run_that_was_begun_meanwhile_is_not_taken_over(tmp_path: Path, small_config: Path) -> None:
    """Both found nothing of the name; the first had begun, and was killed, before the second made its folder."""
    first, second = (load_config(str(small_config), [f"seed={seed}"]) for seed in (0, 1))
    folder = tmp_path / first.name
    for config in (first, second):
        assert runs.open_run(config, tmp_path, False, SILENT) == (folder, False)
    with starting.ExitStack() as stack:
        starting.begin(stack, folder, first, None, overwrite=False)
    before = content(folder)
    with pytest.raises(InputError, match="exists with another config: seed"), starting.ExitStack() as stack:
        starting.begin(stack, folder, second, None, overwrite=False)
    assert content(folder) == before
    with starting.ExitStack() as stack:
        starting.begin(stack, folder, first, None, overwrite=False)


def test_results_of_features_do_not_go_into_a_run_that_was_begun_meanwhile(
    run_cli: RunCli, gaussians: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs.working_on

    @contextmanager
    def late(folder: Path, hint: str = "") -> Iterator[None]:
        with real(folder, hint):
            (folder / runs.CONFIG).write_text("")
            yield

    monkeypatch.setattr(runs, "working_on", late)
    refused = run_cli("stage2", gaussians, "--activation", "gumbel", *FAST, "--runs-dir", tmp_path)
    assert refused.code == 2
    assert f"results of {gaussians} would go to {tmp_path / 'gaussians'}, which is a run of its own" in refused.err
    assert sorted(path.name for path in (tmp_path / "gaussians").iterdir()) == [runs.LOCK, runs.CONFIG]
