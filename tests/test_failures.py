"""What goes wrong outside the arguments: data, learning rates, disks, memory, signals. Nothing done before is lost."""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunCli, colour_images
from test_cli import ROOT, snapshot
from test_files import file_size_limit

from gol_decouple import files
from gol_decouple.cli import program, train
from gol_decouple.cli import report as report_command
from gol_decouple.errors import machine_failure


def arrays(counts: tuple[int, ...] = (12, 6, 3)) -> dict[str, Any]:
    """A small, right set of images; each test spoils it in its own way."""
    train, test = colour_images(counts, 0), colour_images((2, 2, 2), 1)
    return {
        "train_images": train[0],
        "train_labels": train[1],
        "test_images": test[0],
        "test_labels": test[1],
        "class_names": np.array(["red", "green", "blue"]),
    }


@pytest.fixture
def own_run(tmp_path: Path, finished_run: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


@pytest.fixture
def stage1(tmp_path: Path, small_config: Path, run_cli: RunCli) -> Any:
    """Stage one on given arrays, one epoch unless told otherwise."""

    def run(data: dict[str, Any], *more: object) -> Any:
        path = tmp_path / "data.npz"
        np.savez(path, **data)
        arguments = ["--data-root", path, "--runs-dir", tmp_path / "runs", "--set", "stage1.epochs=1", *more]
        return run_cli("stage1", small_config, *arguments)

    return run


# Data


def without(key: str) -> Any:
    return lambda data: {name: value for name, value in data.items() if name != key}


def changed(key: str, change: Any) -> Any:
    return lambda data: data | {key: change(data[key])}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("train_images"), "has no train_images; it holds class_names, test_images, test_labels, train_labels"),
        (without("test_labels"), "has no test_labels"),
        (changed("train_labels", lambda labels: np.stack([labels, labels], 1)), "train: labels are int64 [21, 2]"),
        (changed("train_labels", lambda labels: labels[:-1]), "train: 21 images but 20 labels"),
        (changed("train_labels", lambda labels: labels / 2), "train: labels are float64 [21]"),
        (changed("train_labels", lambda labels: labels + 1), "label 3 in the train split is outside 0..2"),
        (changed("test_labels", lambda labels: labels - 1), "label -1 in the test split is outside 0..2"),
        (changed("train_labels", lambda labels: labels.astype(object)), "is not a readable .npz file"),
        (changed("train_images", lambda images: images / 255.0), "train: images are float64 [21, 8, 8, 3]"),
        (changed("train_images", lambda images: images[..., :2]), "train: images are uint8 [21, 8, 8, 2]"),
        (lambda data: data | {"test_images": data["test_images"][:0], "test_labels": data["test_labels"][:0]},
         "the test split has no image"),
        (lambda data: data | {"train_images": data["train_images"][:0], "train_labels": data["train_labels"][:0]},
         "the train split has no image"),
    ],
)  # fmt: skip
def test_images_that_are_not_right_are_refused_before_anything_is_made(
    tmp_path: Path, stage1: Any, spoil: Any, message: str
) -> None:
    outcome = stage1(spoil(arrays()))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert "data.npz" in outcome.err or "data.kind" in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_file_that_is_no_npz(tmp_path: Path, small_config: Path, run_cli: RunCli, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    outcome = run_cli("stage1", small_config, "--data-root", path, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {path} is not a readable .npz file" in outcome.err


@pytest.mark.parametrize("path", ["missing.npz", "."])
def test_data_that_is_not_there(tmp_path: Path, small_config: Path, run_cli: RunCli, path: str) -> None:
    outcome = run_cli("stage1", small_config, "--data-root", path, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: data.path = {path}: there is no such file" in outcome.err
    assert "hint: " in outcome.err


def test_a_class_without_train_images_is_only_a_warning(tmp_path: Path, stage1: Any) -> None:
    outcome = stage1(arrays((12, 0, 3)))
    assert outcome.code == 0, outcome.err
    (warning,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert "green" in warning
    assert "red" not in warning
    with (tmp_path / "runs" / "colours" / "per_class.csv").open() as file:
        assert [(row["name"], row["train_count"], row["group"]) for row in csv.DictReader(file)][1] == (
            "green",
            "0",
            "few",
        )


def test_an_imbalance_factor_that_a_class_cannot_fill_names_the_class(tmp_path: Path, stage1: Any) -> None:
    outcome = stage1(arrays(), "--set", "data.imbalance_factor=2")
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: class 1 ('green') has 6 train images, but imbalance factor 2 asks for 8" in outcome.err
    assert "hint: choose a larger data.imbalance_factor" in outcome.err
    assert not (tmp_path / "runs").exists()


# Training that diverges


def test_stage_two_that_diverges_keeps_what_was_there(own_run: Path, run_cli: RunCli) -> None:
    settings = ["--set", "stage2.epochs=2", "--set", "stage2.lr=1e38"]
    assert run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=2").code == 0
    before = snapshot(own_run)
    outcome = run_cli("stage2", own_run, "--activation", "gumbel", *settings)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: gumbel (lr 1e+38, seed 0) diverged in epoch 1: the loss is nan\n" in outcome.err
    assert "hint: lower stage2.lr (now 1e+38)" in outcome.err
    assert snapshot(own_run) == before


def test_stage_one_that_diverges_says_what_helps(tmp_path: Path, stage1: Any) -> None:
    outcome = stage1(arrays(), "--set", "stage1.lr=1e30", "--set", "stage1.epochs=3")
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: stage one diverged in epoch 1, step 2, at learning rate 1e+30: the loss is nan\n" in outcome.err
    assert "hint: try --set stage1.lr=1e+29 --overwrite" in outcome.err
    assert not (tmp_path / "runs" / "colours" / "manifest.json").exists()


# Disks


def test_a_disk_that_fills_in_stage_one_loses_nothing(tmp_path: Path, stage1: Any) -> None:
    with file_size_limit(1_000_000):
        outcome = stage1(arrays())
    assert (outcome.code, outcome.out) == (3, "")
    run = tmp_path / "runs" / "colours"
    assert f"error: {run / 'last.pt'} cannot be written: File too large\n" in outcome.err
    assert "hint: choose another place (--runs-dir for runs)" in outcome.err
    whole = [".lock", "config.toml", "sessions.json"]
    assert sorted(path.name for path in run.iterdir()) == whole, "no half-written file stays"
    again = stage1(arrays())
    assert again.code == 0, again.err


def test_a_disk_that_fills_in_stage_two_loses_nothing(
    own_run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(own_run)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    arguments = ["stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1"]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        outcome = run_cli(*arguments)
    assert (outcome.code, outcome.out) == (3, "")
    assert "error: the disk is full: " in outcome.err
    assert (
        "hint: free some space, or write to another disk (--runs-dir for runs), then run the same command again"
        in outcome.err
    )
    assert snapshot(own_run) == before
    assert run_cli(*arguments).code == 0


def test_results_that_cannot_be_printed(finished_run: Path) -> None:
    arguments = [sys.executable, "-m", "gol_decouple", "report", str(finished_run), "--format", "json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "error: No space left on device\n")


# The machine


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (MemoryError("Unable to allocate 7 TiB"), "out of memory", "more memory"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee ..."),
            "CUDA out of memory",
            "more memory",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 7"),
            "can't allocate memory",
            "more memory",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "worker (pid 7) is killed",
            "num_workers",
        ),
        (OSError(errno.EIO, "Input/output error", "a.npz"), "a.npz: Input/output error", None),
        (OSError("odd"), "odd", None),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "a.png: Too many open files", "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory", "more memory"),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nTraceback ...\nOSError: [Errno 5] bad: 'a.png'"),
            "OSError: [Errno 5] bad: 'a.png'",
            None,
        ),
        (
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 1.\nTraceback (most recent call last):\n"
                "RuntimeError: unable to write to file </torch_7_1_0>: No space left on device (28)"
            ),
            "unable to write to file </torch_7_1_0>",
            "--shm-size",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."),
            "killed by signal: Bus error",
            "--shm-size",
        ),
        (
            RuntimeError("unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"),
            "shared memory",
            "num_workers",
        ),
        (RuntimeError("received 0 items of ancdata"), "0 items", "ulimit -n"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "exited unexpectedly", "num_workers"),
    ],
)
def test_failures_of_the_machine_are_told_apart_from_bugs(
    monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, error: Exception, message: str, hint: str | None
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(report_command, "print_report", fail)
    outcome = run_cli("report")
    assert (outcome.code, outcome.out) == (3, "")
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert (len(lines) == 1) if hint is None else (hint in lines[1])


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("stage1", ["stage1.batch_size", "stage1.passes", "features.batch_size", "stage1.num_workers"]),
        ("stage2", ["stage2.memory_gb", "stage2.batch_size", "fewer methods, seeds"]),
        ("tune", ["stage2.memory_gb", "stage2.batch_size"]),
        ("predict", ["features.batch_size"]),
    ],
)
def test_out_of_memory_says_what_to_lower(command: str, settings: list[str]) -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried"), OSError(errno.ENOMEM, "Cannot allocate")):
        failure = machine_failure(error, command)
        assert failure is not None
        assert failure.exit_code == 3
        assert all(setting in str(failure.hint) for setting in settings)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        RuntimeError("Caught KeyError in DataLoader worker process 0."),
        KeyError("out of memory"),
    ],
)
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    assert machine_failure(error) is None
    monkeypatch.setattr(report_command, "print_report", fail)
    with pytest.raises(type(error)):
        run_cli("report")


# Signals


pytestmark = pytest.mark.usefixtures("handlers_as_before")


def stop_at_the_next_checkpoint(process: subprocess.Popen[str], checkpoint: Path, stop: signal.Signals) -> None:
    """Send a signal once a checkpoint is written after now."""
    started = time.time_ns()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # between two renames there is none
            if checkpoint.stat().st_mtime_ns > started:
                break
        assert time.time_ns() < started + 60e9, "no checkpoint in a minute"
        time.sleep(0.01)
    process.send_signal(stop)


def test_a_stopped_run_says_so_and_continues(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    np.savez(tmp_path / "data.npz", **arrays((3, 2, 1)))
    run, epochs = tmp_path / "runs" / "colours", 16
    arguments = ["stage1", str(small_config), "--data-root", str(tmp_path / "data.npz"), "--runs-dir", str(run.parent)]
    settings = [f"stage1.epochs={epochs}", "stage1.batch_size=2", "stage1.num_workers=0", "stage1.evaluate_every=0"]
    arguments += [argument for setting in settings for argument in ("--set", setting)]
    # The same command twice, in one process because importing torch takes longer than all the rest.
    script = "import sys; from gol_decouple.cli import main; print(main(), flush=True); sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stop_at_the_next_checkpoint(process, run / "last.pt", signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "130\n"
    stop_at_the_next_checkpoint(process, run / "last.pt", signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    stopped = ["error: stopped", "hint: run the same command again: it continues where it was"]
    lines = [line for line in err.splitlines() if not line.startswith("memory: ")]
    assert lines[1:3] == stopped
    # Each was saved within the epoch that it was stopped in.
    within = rf"continuing stage one after epoch \d+ of {epochs}, step [123] of 3 of the next"
    assert re.fullmatch(within, lines[4])
    assert lines[5:] == stopped
    assert not (run / "manifest.json").exists()

    outcome = run_cli(*arguments)
    assert outcome.code == 0, outcome.err
    assert re.search(within, outcome.err)
    log = (run / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == [str(epoch + 1) for epoch in range(epochs)]
    assert run_cli(*arguments, "--runs-dir", tmp_path / "whole").code == 0
    for name in ("model.safetensors", "features.h5"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / "colours" / name).read_bytes(), name


def test_a_start_that_was_killed_once_its_features_were_there_leaves_no_log(
    own_run: Path, small_config: Path, run_cli: RunCli
) -> None:
    whole = {path.name: path.read_bytes() for path in (own_run / "features.h5", own_run / "model.safetensors")}
    (own_run / "manifest.json").unlink()
    (own_run / "features.h5.partial.0.log").write_text("\ntrain 0 0 1\n")
    assert run_cli("stage1", small_config, "--runs-dir", own_run.parent).code == 0
    assert (own_run / "manifest.json").exists()
    assert not list(own_run.glob("*.log"))
    assert {name: (own_run / name).read_bytes() for name in whole} == whole


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ([], "run the same command again: it continues where it was"),
        (["--overwrite"], "run the same command again: it trains all of it again"),
    ],
)
def test_how_to_continue_does_not_throw_away_what_is_done(
    monkeypatch: pytest.MonkeyPatch,
    own_run: Path,
    small_config: Path,
    run_cli: RunCli,
    stop: signal.Signals,
    code: int,
    more: list[str],
    hint: str,
) -> None:
    monkeypatch.setattr(train, "print_report", lambda *_: signal.raise_signal(stop))
    outcome = run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1", *more)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.splitlines()[-2:] == ["error: stopped", f"hint: {hint}"]


def test_what_has_nothing_to_continue_only_stops(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    monkeypatch.setattr(report_command, "print_report", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert (outcome := run_cli("report")).err == "error: stopped\n"
    assert outcome.code == 143


def test_signals_raise_no_more_once_the_program_has_told_of_one(
    monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    both, told = (signal.SIGTERM, signal.SIGINT), []
    for stop in both:
        monkeypatch.setattr(report_command, "print_report", lambda *_, stop=stop: signal.raise_signal(stop))
        with monkeypatch.context() as patch:
            patch.setattr(program, "_tell", lambda *_: told.extend(map(signal.getsignal, both)))
            run_cli("report")
    assert told == 4 * [signal.SIG_DFL]


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_not_lost_where_python_lets_no_exception_through(
    monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, stop: signal.Signals, code: int
) -> None:
    class Going:
        def __del__(self) -> None:
            signal.raise_signal(stop)

    def report(*_: object) -> None:
        Going()
        time.sleep(60.0)

    monkeypatch.setattr(report_command, "print_report", report)
    outcome = run_cli("report")
    assert (outcome.code, outcome.err) == (code, "error: stopped\n")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def test_a_signal_after_the_end_raises_nothing(run_cli: RunCli) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    assert run_cli("methods").code == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_workers_that_are_terminated_too_are_no_news(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    def torch_reports_a_dead_worker(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    signal.signal(signal.SIGCHLD, torch_reports_a_dead_worker)
    monkeypatch.setattr(report_command, "print_report", lambda *_: signal.raise_signal(signal.SIGTERM))
    outcome = run_cli("report")
    signal.raise_signal(signal.SIGCHLD)
    assert (outcome.code, outcome.err.splitlines()[0]) == (143, "error: stopped")
