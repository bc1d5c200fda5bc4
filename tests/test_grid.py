"""`stage2` with many classifiers in one command: every method, point of a grid and seed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Outcome, RunCli, write_gaussians
from safetensors.torch import load_file
from test_cli import snapshot

import gol_decouple
from gol_decouple.runs import is_finished, read_manifest
from gol_decouple.stages import saved
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job


@pytest.fixture
def own_run(tmp_path: Path, finished_run: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is trained, in the order of the calls, each of which is one go through the features."""
    calls: list[list[str]] = []
    real = saved.train_together

    def watched(rows: TrainRows, jobs: Sequence[Job], *more: Any) -> Iterator[Any]:
        calls.append([f"{job.method.start} {job}" for job in jobs])
        return real(rows, jobs, *more)

    monkeypatch.setattr(saved, "train_together", watched)
    return calls


def folders(run: Path) -> list[Path]:
    return sorted((run / "stage2").iterdir())


def keys(run: Path) -> list[str]:
    """Names of the folders, without their hashes."""
    return sorted(folder.name.rpartition("-")[0] for folder in folders(run))


def finished(outcome: Outcome) -> int:
    return outcome.err.count(" is finished and kept as it is")


def test_methods_seeds_and_a_grid_are_one_training(own_run: Path, run_cli: RunCli, trained: list[list[str]]) -> None:
    arguments = ("--activation", "gumbel", "--activation", "sigmoid", "--seeds", 2, "--set", "stage2.lr=[1e-5,1e-3]")
    outcome = run_cli("stage2", own_run, "--keep-grid", *arguments, "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "top-1" in outcome.out
    assert [len(jobs) for jobs in trained] == [8]
    assert "8 classifiers: 1,072/1,072 samples (100%)" in outcome.err
    assert keys(own_run) == sorted(
        f"{name}-epochs2{lr}-seed{seed}"
        for name, lr, seed in [
            *product(["gumbel"], ["", "-lr0.001"], [0, 1]),
            *product(["sigmoid"], ["-lr1e-05", "-lr0.001"], [0, 1]),
        ]
    )
    rows = json.loads(run_cli("report", own_run, "--format", "json").out)
    told = [(row["method"], row["lr"], row["seed"]) for row in rows if row["stage"] == 2]
    assert sorted(told) == sorted(product(["gumbel", "sigmoid"], [1e-5, 1e-3], [0, 1]))
    table = run_cli("report", own_run, "--format", "markdown").out.splitlines()
    assert len([line for line in table if "| gumbel | from" in line]) == 2, "seeds are averaged, points are not"


def test_each_point_is_what_it_is_alone(own_run: Path, run_cli: RunCli) -> None:
    grid = ("--set", "stage2.lr=[1e-5,1e-3]", "--set", "stage2.batch_size=[8,32]", "--set", "stage2.epochs=3")
    assert (
        run_cli("stage2", own_run, "--keep-grid", "--activation", "gumbel", "--method", "crt", *grid, "--seeds", 2).code
        == 0
    )
    assert len(folders(own_run)) == 16
    for folder in folders(own_run):
        manifest = read_manifest(folder)
        changes = {name: manifest["settings"][name] for name in ("lr", "batch_size", "epochs")}
        name, seed = manifest["method"], manifest["seed"]
        wanted = gol_decouple.retrain(own_run / "features.h5", name, seed=seed, device="cpu", **changes)
        weights = load_file(folder / "classifier.safetensors")
        torch.testing.assert_close(weights["weight"], wanted.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weights["bias"], wanted.bias, rtol=1e-5, atol=1e-6)
        assert manifest["metrics"]["top1"] == pytest.approx(wanted.metrics["top1"], abs=1e-9)


def test_points_that_are_one_to_a_method_are_trained_once(
    own_run: Path, run_cli: RunCli, trained: list[list[str]]
) -> None:
    arguments = ("--activation", "softmax", "--activation", "gumbel", "--set", "stage2.epochs=1")
    outcome = run_cli("stage2", own_run, "--keep-grid", *arguments, "--set", "stage2.q_min=[-3,-4]")
    assert outcome.code == 0, outcome.err
    assert "no effect" not in outcome.err
    assert [len(jobs) for jobs in trained] == [3]
    assert keys(own_run) == ["gumbel-epochs1-q_min-3-seed0", "gumbel-epochs1-seed0", "softmax-epochs1-seed0"]
    assert finished(run_cli("stage2", own_run, "--keep-grid", *arguments, "--set", "stage2.q_min=[-4,-4,-3]")) == 3
    alone = run_cli("stage2", own_run, "--keep-grid", *arguments[:2], *arguments[4:], "--set", "stage2.q_min=[-3,-4]")
    assert finished(alone) == 1
    assert alone.err.count("warning: stage2.q_min has no effect on softmax\n") == 1


def test_a_grid_of_what_is_there_trains_the_rest(own_run: Path, run_cli: RunCli, trained: list[list[str]]) -> None:
    epochs = ("--set", "stage2.epochs=1")
    assert (
        run_cli("stage2", own_run, "--keep-grid", "--activation", "gumbel", *epochs, "--set", "stage2.lr=1e-3").code
        == 0
    )
    before = snapshot(own_run)
    outcome = run_cli(
        "stage2", own_run, "--keep-grid", "--activation", "gumbel", *epochs, "--set", "stage2.lr=[1e-4,1e-3,1e-2]"
    )
    assert outcome.code == 0, outcome.err
    assert finished(outcome) == 1
    assert trained[1] == ["stage_one gumbel (lr 0.0001, seed 0)", "stage_one gumbel (lr 0.01, seed 0)"]
    after = snapshot(own_run)
    assert {path: after[path] for path in before} == before


def test_starts_are_a_grid_too(own_run: Path, run_cli: RunCli) -> None:
    start = ("--set", 'stage2.start=["fresh","stage_one"]')
    outcome = run_cli("stage2", own_run, "--keep-grid", "--activation", "gumbel", "--set", "stage2.epochs=1", *start)
    assert outcome.code == 0, outcome.err
    assert keys(own_run) == ["gumbel-epochs1-seed0", "gumbel-epochs1-startfresh-seed0"]
    assert {read_manifest(folder)["started_from"] for folder in folders(own_run)} == {"fresh", "stage_one"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stage2.memory_gb=[1,2]", "error: stage2.memory_gb takes one value"),
        ("stage2.lr=[1e-3,-1]", "error: --set stage2.lr=[1e-3,-1]: input should be greater than 0"),
        ("stage2.lr=[]", "error: --set stage2.lr=[]: the list is empty"),
        ("stage2.start=[fresh]", "error: --set stage2.start=[fresh]: input should be 'fresh', 'stage_one' or 'paper'"),
    ],
)
def test_a_grid_that_is_not_right_leaves_no_trace(own_run: Path, run_cli: RunCli, setting: str, message: str) -> None:
    before = snapshot(own_run)
    outcome = run_cli("stage2", own_run, "--keep-grid", "--activation", "gumbel", "--set", setting)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(message)
    assert snapshot(own_run) == before
    assert not (own_run / "stage2").exists()


def test_one_memory_in_a_list_is_one_value(own_run: Path, run_cli: RunCli) -> None:
    grid = ("--set", "stage2.memory_gb=[1]", "--set", "stage2.lr=[1e-5,1e-4]", "--set", "stage2.epochs=1")
    assert run_cli("stage2", own_run, "--keep-grid", "--activation", "gumbel", *grid).code == 0
    assert len(folders(own_run)) == 2


# Points that diverge


def test_a_point_that_diverges_does_not_stop_the_others(
    own_run: Path, run_cli: RunCli, trained: list[list[str]]
) -> None:
    arguments = ("stage2", own_run, "--keep-grid", "--activation", "gumbel", "--set", "stage2.epochs=2")
    grid = ("--set", "stage2.lr=[1e-5,1e38,1e-3]")
    outcome = run_cli(*arguments, *grid)
    assert outcome.code == 2
    assert "lr 0.001" in outcome.out, "what is finished is reported"
    lines = outcome.err.splitlines()
    told = "gumbel (lr 1e+38, seed 0) diverged in epoch 1: the loss is nan"
    assert f"warning: {told}; the others go on" in lines, "as soon as it is known"
    assert lines[-2] == "error: gumbel (lr 1e+38, seed 0) diverged in epoch 1: the loss is nan"
    assert lines[-1] == "hint: lower stage2.lr (now 1e+38)"
    assert keys(own_run) == ["gumbel-epochs2-lr0.001-seed0", "gumbel-epochs2-seed0"]
    assert all(is_finished(folder) for folder in folders(own_run))
    before = snapshot(own_run)
    again = run_cli(*arguments, *grid)
    assert (again.code, finished(again)) == (2, 2)
    assert again.err.splitlines()[-2:] == lines[-2:]
    assert [len(jobs) for jobs in trained] == [3, 1]
    assert snapshot(own_run) == before
    assert run_cli(*arguments, "--set", "stage2.lr=[1e-5,1e-4,1e-3]").code == 0
    assert trained[2] == ["stage_one gumbel (lr 0.0001, seed 0)"]


@pytest.mark.parametrize("count", [1, 3])
def test_several_that_diverge_are_told_together(own_run: Path, run_cli: RunCli, count: int) -> None:
    outcome = run_cli(
        *("stage2", own_run, "--keep-grid", "--method", "gumbel", "--method", "softmax", "--seeds", count),
        *("--set", "stage2.lr=[1e-4,1e38]", "--set", "stage2.epochs=2"),
    )
    assert outcome.code == 2
    error, hint = outcome.err.splitlines()[-2:]
    assert error.startswith(f"error: {2 * count} classifiers failed: ")
    diverged = [f"{name} (lr 1e+38, seed {seed})" for name in ("gumbel", "softmax") for seed in range(count)]
    assert sum(f"{one} diverged in epoch " in error for one in diverged) == min(3, 2 * count)
    assert all(f"warning: {one} diverged in epoch " in outcome.err for one in diverged), "every one is named"
    assert error.endswith(" and 3 more") == (count == 3)
    assert hint == "hint: lower stage2.lr (now 1e+38)"
    assert Counter(read_manifest(folder)["settings"]["lr"] for folder in folders(own_run)) == {1e-4: 2 * count}


# Features without a Softmax classifier


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return write_gaussians(tmp_path / "bare.h5", with_classifier=False)


def test_each_softmax_classifier_is_trained_once(
    tmp_path: Path, bare: Path, run_cli: RunCli, trained: list[list[str]]
) -> None:
    """Those that were asked for are also what the others start from."""
    starts = ("--set", 'stage2.start=["fresh","stage_one"]')
    arguments = (
        "stage2",
        bare,
        "--keep-grid",
        "--activation",
        "softmax",
        "--activation",
        "gumbel",
        "--seeds",
        2,
        *starts,
    )
    outcome = run_cli(*arguments, "--runs-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("has no Softmax classifier: training one first\n") == 1
    first, then = trained
    assert first == [f"fresh softmax (lr 0.1, seed {seed})" for seed in (0, 1)]
    assert sorted(then) == [
        *(f"fresh gumbel (lr 1e-05, seed {seed})" for seed in (0, 1)),
        *(f"stage_one gumbel (lr 1e-05, seed {seed})" for seed in (0, 1)),
        *(f"stage_one softmax (lr 0.1, seed {seed})" for seed in (0, 1)),
    ]
    run = tmp_path / "runs" / "bare"
    assert len(folders(run)) == 8
    for folder in folders(run):
        manifest = read_manifest(folder)
        if manifest["settings"]["start"] == "stage_one":
            assert manifest["started_from"].startswith(f"softmax-startfresh-seed{manifest['seed']}-")
            assert is_finished(run / "stage2" / manifest["started_from"])
    before = snapshot(run)
    assert finished(run_cli(*arguments, "--runs-dir", tmp_path / "runs")) == 8
    assert len(trained) == 2
    assert snapshot(run) == before


def test_a_first_softmax_that_diverges_stops_what_would_start_from_it(
    tmp_path: Path, bare: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = saved.methods.first_softmax
    monkeypatch.setattr(saved.methods, "first_softmax", lambda background: real(background).with_settings(lr=1e38))
    outcome = run_cli("stage2", bare, "--activation", "gumbel", "--method", "crt", "--runs-dir", tmp_path / "runs")
    assert outcome.code == 2
    assert " crt " in outcome.out
    assert "error: softmax (lr 1e+38, seed 0) diverged in epoch 1: the loss is " in outcome.err
    assert keys(tmp_path / "runs" / "bare") == ["crt-seed0"]
