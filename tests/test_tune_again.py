"""`tune` in a limited time, again, stopped, refused; and that it decides without the test split."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import RunCli
from test_cli import snapshot
from test_tune import COUNTS, SETTINGS, Tuned, candidates, named, rows_below, watch_training, write

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.runs import read_manifest
from gol_decouple.stages import saved, search, tuning
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job, State
from gol_decouple.stages.samples import Holdout
from gol_decouple.stages.states import STATE


@pytest.fixture
def tuned(tmp_path: Path, run_cli: RunCli) -> Tuned:
    return Tuned(tmp_path, run_cli)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    return watch_training(monkeypatch)


@pytest.fixture
def time_is_over_after(monkeypatch: pytest.MonkeyPatch, trained: list[list[str]]) -> Callable[[int], None]:
    """`time_is_over_after(rounds)`: an hour passes as so many rounds of training have begun."""

    def patch(rounds: int) -> None:
        begun = len(trained)

        def monotonic() -> float:
            return time.monotonic() + (3600.0 if len(trained) >= begun + rounds else 0.0)

        monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=monotonic))

    return patch


def without_time(told: dict[str, Any]) -> dict[str, Any]:
    """What was told, but for seconds and where classifiers are: their folders' names have a hash of the file."""
    return {name: value for name, value in told.items() if name not in ("seconds", "classifiers")}


# Time, and going on


def test_no_time_is_an_error_that_leaves_nothing(tmp_path: Path, tuned: Tuned, trained: list[list[str]]) -> None:
    file = write(tmp_path / "some.h5")
    before = snapshot(tmp_path)
    outcome = tuned(file, "--minutes", 0)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: nothing was trained in 0 minutes\nhint: more --minutes, or fewer methods\n"
    assert (snapshot(tmp_path), trained) == (before, [])
    assert not (tmp_path / "runs").exists()


def test_one_that_was_killed_as_it_was_finished_leaves_no_state(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file).code == 0
    whole = {path: path.read_bytes() for path in sorted((tmp_path / "runs").rglob("*.npz"))}
    folder = next(path for path in (tmp_path / "runs" / "some" / "candidates").glob("crt-*"))
    (folder / STATE).write_bytes(b"of an epoch before the last")
    assert tuned(file).code == 0
    assert not (folder / STATE).exists()
    assert {path: path.read_bytes() for path in sorted((tmp_path / "runs").rglob("*.npz"))} == whole


def are_different(told: dict[str, Any]) -> bool:
    """Whether the best settings of no two methods are as good as each other."""
    return len({row["value"] for row in told["methods"]}) == len(told["methods"])


def test_the_same_command_again_trains_nothing(tmp_path: Path, tuned: Tuned, trained: list[list[str]]) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file).code == 0
    before, told = snapshot(tuned.folder(file)), tuned.told(file)
    assert are_different(told)
    calls = len(trained)
    assert calls > 0
    for minutes in (10, 0):
        again = tuned(file, "--minutes", minutes)
        assert again.code == 0, again.err
        assert without_time(tuned.told(file)) | {"minutes": 10.0} == without_time(told)
        assert tuned.told(file)["classifiers"] == told["classifiers"]
    assert len(trained) == calls
    tuning_path = str(tuned.folder(file) / "tuning.json")
    choices = {path for path in before if path.endswith("choice.json")}
    after = snapshot(tuned.folder(file))
    assert after.keys() == before.keys()
    assert {path for path in after if after[path] != before[path]} <= {tuning_path, *choices}
    assert all(after[path][1] == before[path][1] for path in choices)


def test_more_minutes_go_on_with_what_was_left(
    tmp_path: Path,
    tuned: Tuned,
    trained: list[list[str]],
    time_is_over_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file, runs="whole").code == 0
    whole = tuned.told(file, "whole")
    assert are_different(whole)
    everything = sorted(job for jobs in trained for job in jobs)
    trained.clear()
    time_is_over_after(2)
    outcome = tuned(file)
    assert outcome.code == 0, outcome.err
    told = tuned.told(file)
    assert sum(row["left"] for row in told["methods"]) > 0
    for words, row in zip(rows_below(outcome.out, "method recipe tried"), told["methods"], strict=True):
        tried = len(row["tried"])
        assert (row["left"] + tried) == SETTINGS[row["method"]]
        assert f" {tried} of {SETTINGS[row['method']]} " in " ".join(words)
        chosen = {json.dumps(one["settings"]): one["value"] for one in row["tried"]}
        assert row["value"] == max(chosen.values())
    assert len(trained) == 2
    kept = snapshot(tuned.folder(file) / "candidates")
    monkeypatch.setattr(search, "time", time)
    assert tuned(file).code == 0
    assert without_time(tuned.told(file)) == without_time(whole)
    assert sorted(job for jobs in trained for job in jobs) == everything, "each once"
    after = snapshot(tuned.folder(file) / "candidates")
    assert {path: after[path] for path in kept} == kept


def test_more_methods_go_on_from_those_that_are_there(tmp_path: Path, tuned: Tuned, trained: list[list[str]]) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file, names=["crt"]).code == 0
    alone = tuned.told(file)["methods"]
    trained.clear()
    assert tuned(file, names=["crt", "gumbel"]).code == 0
    assert sorted(job.split()[0] for jobs in trained for job in jobs) == ["gumbel"] * 5
    (crt,) = [row for row in tuned.told(file)["methods"] if row["method"] == "crt"]
    assert crt | {"over_best": None} == alone[0] | {"over_best": None}


@pytest.mark.usefixtures("handlers_as_before")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_continues(
    tmp_path: Path, tuned: Tuned, monkeypatch: pytest.MonkeyPatch, stop: signal.Signals, code: int
) -> None:
    """Stopped in the first training, in a later one, and when the decision stands but no final classifier does."""
    file = write(tmp_path / "some.h5")
    assert tuned(file, runs="whole").code == 0
    whole = tuned.told(file, "whole")
    assert are_different(whole)
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real_save, real_final, passes = saved.Saved._save_states, tuning.make_final, 0

    def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
        nonlocal passes
        real_save(self, states)
        passes += 1
        if passes in (1, 3):
            signal.raise_signal(stop)

    def final(*arguments: Any) -> Any:
        signal.raise_signal(stop)
        return real_final(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(saved.Saved, "_save_states", save)
        patch.setattr(tuning, "make_final", final)
        for place in range(3):
            outcome = tuned(file)
            assert (outcome.code, outcome.out) == (code, ""), outcome.err
            assert outcome.err.splitlines()[-2:] == [
                "error: stopped",
                "hint: run the same command again: it continues where it was",
            ]
            assert (": continuing after epoch 1\n" in outcome.err) == (place > 0)
            assert (tuned.folder(file) / "tuning.json").exists() == (place == 2)
            assert not (tuned.folder(file) / "stage2").exists()
    stopped = tuned.told(file)
    assert "classifiers" not in stopped
    assert without_time(stopped) == without_time(whole)
    outcome = tuned(file)
    assert outcome.code == 0, outcome.err
    assert without_time(tuned.told(file)) == without_time(whole)
    names = [[Path(folder).name for folder in told["classifiers"]] for told in (tuned.told(file), whole)]
    assert names[0] == names[1]
    for section in ("candidates", "stage2"):
        folders = [sorted((tuned.folder(file, runs) / section).iterdir()) for runs in ("runs", "whole")]
        assert [folder.name for folder in folders[0]] == [folder.name for folder in folders[1]]
        for folder, other in zip(*folders, strict=True):
            assert (folder / "classifier.safetensors").read_bytes() == (other / "classifier.safetensors").read_bytes()
            assert not (folder / "state.safetensors").exists()


# What fails


def test_a_setting_that_diverges_is_left_out_with_a_warning(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, "--set", "stage2.lr=[0.1,1e38]", names=["crt", "tau_norm"])
    assert outcome.code == 0, outcome.err
    assert "warning: left out: crt (lr 1e+38, seed 0) diverged in epoch 1: the loss is " in outcome.err
    told = tuned.told(file)
    (crt,) = [row for row in told["methods"] if row["method"] == "crt"]
    assert [one["value"] is None for one in crt["tried"]] == [False, True]
    assert (crt["settings"], told["untried"]) == ({"epochs": 2}, [])
    assert "failed (lr 1e+38)" in outcome.out
    assert len(candidates(tuned.folder(file))["crt"]) == 1


def test_a_method_that_cannot_be_trained_does_not_stop_the_others(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, "--set", "stage2.lr=1e38", names=["crt", "tau_norm"])
    assert outcome.code == 0, outcome.err
    told = tuned.told(file)
    assert told["untried"] == ["crt"]
    assert [row["method"] for row in told["methods"]] == ["tau_norm"]
    assert "no time for, or failed: crt\n" in outcome.out


def test_where_nothing_can_be_trained_there_is_no_decision(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, "--set", "stage2.lr=1e38", names=["crt", "softmax"])
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("warning: left out: ") == 2
    assert "\nerror: all that was tried failed\nhint: lower learning rates" in outcome.err
    assert not (tuned.folder(file) / "tuning.json").exists()
    assert not (tuned.folder(file) / "stage2").exists()


def test_a_final_classifier_that_cannot_be_trained_is_a_warning(
    tmp_path: Path, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With val beside train, where its candidates could be."""
    real = saved.train_together

    def failing(rows: TrainRows, jobs: Sequence[Job], *more: Any) -> Iterator[Any]:
        if rows.num_samples == sum(COUNTS):
            yield from real(rows, jobs, *more)
        else:
            yield from ((job, InputError(f"{job} diverged")) for job in jobs)

    monkeypatch.setattr(saved, "train_together", failing)
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, "--set", "stage2.refit=true", names=["crt", "ncm"])
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: crt (lr 1, seed 0) diverged\n") == 1
    assert [read_manifest(folder)["method"] for folder in (tuned.folder(file) / "stage2").iterdir()] == ["ncm"]
    assert [row["method"] for row in tuned.told(file)["methods"]] == ["ncm", "crt"]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--method", "gumbl"], "unknown method 'gumbl'", "did you mean 'gumbel'?"),
        (["--method", "gol"], "method gol is for features with background samples", "--method all leaves such"),
        (["--set", "stage2.lr=-1"], "--set stage2.lr=-1: input should be greater than 0", None),
        (["--set", "stage2.learning=1"], "unknown key 'learning'", None),
        (["--minutes", "-1"], "invalid value for '--minutes'", "gol-decouple tune --help"),
        (["--minutes", "soon"], "invalid value for '--minutes'", "gol-decouple tune --help"),
        (["--seeds", "0"], "invalid value for '--seeds'", "gol-decouple tune --help"),
    ],
)
def test_a_wrong_argument_leaves_no_trace(
    tmp_path: Path, run_cli: RunCli, arguments: list[str], message: str, hint: str | None
) -> None:
    file = write(tmp_path / "some.h5")
    outcome = run_cli("tune", file, *named("crt"), *arguments, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert hint is None or f"\nhint: {hint}" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_not_there(tmp_path: Path, run_cli: RunCli) -> None:
    outcome = run_cli("tune", tmp_path / "nowhere", "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: {tmp_path / 'nowhere'} is neither a run folder nor a features file\n"
        "hint: gol-decouple stage1 CONFIG makes a run\n"
    )


def test_a_file_without_test_has_nothing_to_report_on(tmp_path: Path, tuned: Tuned) -> None:
    stream = np.random.default_rng(0)
    split = stream.normal(size=(30, 4)).astype(np.float32), np.repeat([0, 1, 2], 10)
    file = features.write(tmp_path / "some.h5", {"train": split, "val": split})
    outcome = tuned(file)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {file} has no test split to report on\n")
    assert not (tmp_path / "runs").exists()


# The decision does not depend on test


@pytest.fixture
def accesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Which splits are looked at, and whether the decision stood then."""
    seen: list[tuple[str, bool]] = []
    real = FeaturesFile.__getitem__

    def watched(self: FeaturesFile, split: str) -> Any:
        seen.append((split, (tmp_path / "runs" / "some" / "tuning.json").exists()))
        return real(self, split)

    monkeypatch.setattr(FeaturesFile, "__getitem__", watched)
    return seen


@pytest.mark.parametrize("refit", ["true", "false"])
@pytest.mark.parametrize("val", [True, False], ids=["val", "without val"])
@pytest.mark.parametrize("classifier", ["random", None])
def test_test_is_looked_at_when_the_decision_stands(
    tmp_path: Path, tuned: Tuned, accesses: list[tuple[str, bool]], classifier: str | None, val: bool, refit: str
) -> None:
    file = write(tmp_path / "some.h5", classifier, val)
    settings = ("--set", f"stage2.refit={refit}", "--set", "stage2.temperature=val", "--set", "stage2.lr=[0.1,0.01]")
    assert tuned(file, *settings, names=["crt", "tau_norm"]).code == 0
    assert ("test", False) not in accesses
    assert ("test", True) in accesses
    assert ("val" if val else "train", False) in accesses


def test_choosing_by_test_would_be_seen(
    tmp_path: Path, tuned: Tuned, accesses: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Holdout, "of", classmethod(lambda cls, file: cls("test")))
    assert tuned(write(tmp_path / "some.h5"), names=["tau_norm"]).code == 0
    assert ("test", False) in accesses


@pytest.mark.parametrize("val", [True, False], ids=["val", "without val"])
def test_files_that_differ_in_test_alone_lead_to_one_decision(tmp_path: Path, tuned: Tuned, val: bool) -> None:
    files = [write(tmp_path / str(seed) / "some.h5", val=val, test_seed=seed) for seed in (1, 2)]
    for seed, file in enumerate(files):
        assert tuned(file, "--seeds", 2, runs=f"runs{seed}").code == 0
    told = [tuned.told(files[0], f"runs{seed}") for seed in (0, 1)]
    assert without_time(told[0]) == without_time(told[1])
    best = [read_manifest(Path(one["classifiers"][0])) for one in told]
    assert best[0]["metrics"]["top1"] != best[1]["metrics"]["top1"]
