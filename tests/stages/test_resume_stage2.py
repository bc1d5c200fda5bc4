"""Stage two that is stopped goes on where it was, and ends with what it would have made without the stop."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunCli, write_gaussians
from rich.console import Console
from safetensors.torch import load_file, save_file

from gol_decouple import sealed_tensors
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.progress import Progress
from gol_decouple.runs import CHOICE, LOG, MANIFEST, is_finished, read_manifest
from gol_decouple.settings import Stage2Config
from gol_decouple.stages import manifest, saved, states
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.jobs import Job, State
from gol_decouple.stages.stack import Stack
from gol_decouple.stages.states import STATE
from gol_decouple.targets import find_target

SMALL = Stage2Config(epochs=5, batch_size=16)
# Epochs of both lengths, of two methods and two seeds each: eight classifiers.
LENGTHS = [Stage2Config(epochs=epochs, batch_size=16) for epochs in (2, 5)]

# Runs stage two into a folder and returns what it says; `stop_after` so many passes it is stopped, or killed.
Stage2 = Callable[..., str]


class Stopped(BaseException):
    """As a signal would: no exception that anything is prepared for."""


@pytest.fixture
def stage2(gaussians: Path, monkeypatch: pytest.MonkeyPatch) -> Stage2:
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real = saved.Saved._save_states

    def run(
        runs_dir: Path,
        names: Sequence[str] = ("gumbel",),
        grid: Sequence[Stage2Config] = (SMALL,),
        seeds: Sequence[int] = (0,),
        features: Path = gaussians,
        stop_after: int | None = None,
        killed: bool = False,
        reraise: bool = False,
        overwrite: bool = False,
    ) -> str:
        passes = 0

        def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
            nonlocal passes
            real(self, states)
            passes += 1
            if passes == stop_after:
                raise Stopped

        said = io.StringIO()
        progress = Progress(Console(file=said, soft_wrap=True))
        with monkeypatch.context() as patch:
            patch.setattr(saved.Saved, "_save_states", save)
            if killed:
                patch.setattr(saved.Saved, "_save_last", lambda self: None)
            try:
                run_stage2(
                    find_target(features, runs_dir), names, seeds, grid, "cpu", overwrite, progress, keep_grid=True
                )
            except Stopped:
                if reraise:
                    raise
                return said.getvalue()
        assert stop_after is None, f"it was done after {passes} passes"
        return said.getvalue()

    return run


def folders(runs_dir: Path) -> list[Path]:
    return sorted(path for path in runs_dir.glob("*/stage2/*"))


def names_of_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_equal_results(runs_dir: Path, wanted: Path, chosen: bool = False) -> None:
    """The same classifiers, to the last bit, from the same histories; and nothing is left over."""
    assert [path.name for path in folders(runs_dir)] == [path.name for path in folders(wanted)]
    for folder, other in zip(folders(runs_dir), folders(wanted), strict=True):
        names = [*([CHOICE] if chosen else []), CLASSIFIER, LOG, MANIFEST, "per_class.csv", "predictions.npz"]
        assert names_of_files(folder) == names
        assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names[:chosen])
        for name in (CLASSIFIER, LOG):
            assert (folder / name).read_bytes() == (other / name).read_bytes(), folder.name
        manifest, other_manifest = read_manifest(folder), read_manifest(other)
        # The folder is named in the command, and what was finished before a stop is not trained beside the rest again.
        for told in (manifest, other_manifest):
            told["seconds"] = told["stack"] = told["command"] = None
        assert manifest == other_manifest


def content(paths: Iterable[Path]) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.mark.parametrize("stops", [[1], [2], [3], [4], [1, 1, 2], [3, 1]], ids=str)
@pytest.mark.parametrize("memory_gb", [None, 1e-9], ids=["in memory", "streamed"])
def test_stopped_and_continued_is_not_stopped(
    tmp_path: Path, stage2: Stage2, stops: list[int], memory_gb: float | None
) -> None:
    grid = [point.model_copy(update={"memory_gb": memory_gb}) for point in LENGTHS]
    eight = {"names": ["softmax", "gumbel"], "grid": grid, "seeds": [0, 1]}
    stage2(tmp_path / "whole", **eight)
    epochs = 0
    for stop in stops:
        said = stage2(tmp_path / "stopped", stop_after=stop, **eight)
        assert said.count(f": continuing after epoch {epochs}\n") == (0 if epochs == 0 else 8 if epochs < 2 else 4)
        assert said.count(": it was trained before, and is evaluated now\n") == (4 if epochs == 2 else 0)
        epochs += stop
        done = [folder for folder in folders(tmp_path / "stopped") if is_finished(folder)]
        left = [folder for folder in folders(tmp_path / "stopped") if not is_finished(folder)]
        assert (len(done), len(left)) == ((0, 8) if epochs <= 2 else (4, 4))
        assert all("-epochs2-" in folder.name for folder in done)
        assert all(names_of_files(folder) == [STATE] for folder in left)
        assert not any((folder / STATE).exists() for folder in done)
    kept = content(path for folder in done for path in folder.iterdir())
    said = stage2(tmp_path / "stopped", **eight)
    assert said.count(" is finished and kept as it is") == len(done)
    assert said.count(": it was trained before, and is evaluated now\n") == (4 if epochs == 2 else 0)
    assert said.count(f": continuing after epoch {epochs}\n") == len(left) - (4 if epochs == 2 else 0)
    assert content(kept) == kept
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")
    rows = {read_manifest(folder)["shuffled_rows"] for folder in folders(tmp_path / "stopped")}
    assert rows == {None if memory_gb is None else 32}


@pytest.mark.parametrize("name", ["softmax", "crt", "sigmoid", "gumbel_paper", "gumbel_crt", "gumbel_published"])
def test_every_method_goes_on(tmp_path: Path, stage2: Stage2, name: str) -> None:
    stage2(tmp_path / "whole", [name])
    stage2(tmp_path / "stopped", [name], stop_after=3)
    assert ": continuing after epoch 3\n" in stage2(tmp_path / "stopped", [name])
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_killed_between_two_states(tmp_path: Path, stage2: Stage2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some go on after the third epoch, and some after the second."""
    four = {"names": ["softmax", "gumbel"], "seeds": [0, 1]}
    stage2(tmp_path / "whole", **four)
    written: list[Path] = []
    write = sealed_tensors.write

    def save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
        written.append(path)
        path.write_bytes(b"half")
        if len(written) == 2 * 4 + 2:
            raise Stopped
        write(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(sealed_tensors, "write", save)
        stage2(tmp_path / "stopped", **four, stop_after=5, killed=True)
    assert [names_of_files(folder) for folder in folders(tmp_path / "stopped")] == [[STATE]] * 4
    said = stage2(tmp_path / "stopped", **four)
    assert said.count(": continuing after epoch 3\n") == 1
    assert said.count(": continuing after epoch 2\n") == 3
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_nothing_is_saved_before_it_is_time(tmp_path: Path, stage2: Stage2, monkeypatch: pytest.MonkeyPatch) -> None:
    stage2(tmp_path / "whole")
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 1e9)
    stage2(tmp_path / "stopped", stop_after=4, killed=True)
    assert folders(tmp_path / "stopped") == []
    assert "continuing" not in stage2(tmp_path / "stopped")
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_the_softmax_classifiers_that_are_trained_first_go_on_too(tmp_path: Path, stage2: Stage2) -> None:
    bare = write_gaussians(tmp_path / "bare.h5", with_classifier=False)
    two = {"features": bare, "seeds": [0, 1]}
    stage2(tmp_path / "whole", **two)
    stage2(tmp_path / "stopped", **two, stop_after=10)
    assert [folder.name.split("-seed")[0] for folder in folders(tmp_path / "stopped")] == ["softmax-startfresh"] * 2
    said = stage2(tmp_path / "stopped", **two, stop_after=23)  # 20 of 30 epochs are left of Softmax
    assert said.count(": continuing after epoch 10\n") == 2
    by_method = {folder.name.split("-")[0]: names_of_files(folder) for folder in folders(tmp_path / "stopped")}
    assert by_method["gumbel"] == [STATE]
    assert MANIFEST in by_method["softmax"]
    said = stage2(tmp_path / "stopped", **two)
    assert "training one first" not in said
    assert said.count(": continuing after epoch 3\n") == 2
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


# States that are of no use


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in load_file(path).items()}


def metadata_of(path: Path) -> dict[str, str]:
    return sealed_tensors.load(path).metadata


def foreign(**changes: torch.Tensor) -> Callable[[Path], None]:
    return lambda path: sealed_tensors.save(tensors_of(path) | changes, path, metadata_of(path))


def told(history: object) -> Callable[[Path], None]:
    return lambda path: sealed_tensors.save(tensors_of(path), path, {"history": json.dumps(history)})


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


EPOCH = {"epoch": 1, "lr": 1e-5, "loss": 1.0}
SPOIL: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "no safetensors": lambda path: path.write_bytes(b"hello, what is this?"),
    "a bit flipped": lambda path: flip(path, -5),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "header truncated": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "a classifier": lambda path: save_file({"weight": torch.zeros(3, 8), "bias": torch.zeros(3)}, path),
    "without history": lambda path: save_file(tensors_of(path), path),
    "history of no JSON": lambda path: save_file(tensors_of(path), path, {"history": "["}),
    "history of no list": told(3),
    "more epochs": told([EPOCH] * 7),
    "other sizes": foreign(trained=torch.zeros(30), velocity=torch.zeros(30)),
    "other classes": foreign(trained=torch.zeros(36), velocity=torch.zeros(36)),
    "other velocity": foreign(velocity=torch.zeros(5)),
    "other dtype": foreign(trained=torch.zeros(27, dtype=torch.float64)),
}


@pytest.mark.parametrize("kind", list(SPOIL))
def test_a_state_that_is_of_no_use_is_a_warning(tmp_path: Path, stage2: Stage2, kind: str) -> None:
    stage2(tmp_path / "whole", seeds=[0, 1])
    stage2(tmp_path / "stopped", seeds=[0, 1], stop_after=2)
    spoiled = folders(tmp_path / "stopped")[0] / STATE
    SPOIL[kind](spoiled)
    said = stage2(tmp_path / "stopped", seeds=[0, 1])
    (warning,) = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {spoiled} ")
    assert "gumbel (lr 1e-05, seed 0) is trained from its start" in warning
    assert said.count(": continuing after epoch 2\n") == 1, "the other is"
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


# Overwriting


def test_overwriting_begins_at_the_beginning(tmp_path: Path, stage2: Stage2) -> None:
    stage2(tmp_path / "whole")
    stage2(tmp_path / "stopped", stop_after=3)
    (folder,) = folders(tmp_path / "stopped")
    foreign(weight=torch.ones(3, 8))(folder / STATE)
    assert "continuing" not in stage2(tmp_path / "stopped", overwrite=True)
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_overwriting_that_is_stopped_leaves_what_was_there(tmp_path: Path, stage2: Stage2) -> None:
    stage2(tmp_path)
    (folder,) = folders(tmp_path)
    before = content(folder.iterdir())
    stage2(tmp_path, overwrite=True, stop_after=3)
    assert content(before) == before
    assert is_finished(folder)


def test_overwriting_that_is_stopped_continues_without_overwriting(tmp_path: Path, stage2: Stage2) -> None:
    stage2(tmp_path)
    (folder,) = folders(tmp_path)
    stage2(tmp_path, overwrite=True, stop_after=3)
    assert ": continuing after epoch 3\n" in stage2(tmp_path)
    assert not (folder / STATE).exists()
    assert "is finished and kept as it is" in stage2(tmp_path)


def test_going_on_with_another_shuffle_buffer_is_warned_of(tmp_path: Path, stage2: Stage2) -> None:
    stage2(tmp_path, stop_after=2)
    said = stage2(tmp_path, grid=[SMALL.model_copy(update={"memory_gb": 1e-9})])
    assert "all rows were shuffled at a time until here, 32 from now on" in said


# Between two saves


class Counted:
    """Does what `real` does, and then, the given time it is called, something else."""

    def __init__(self, real: Callable[..., Any], times: int, then: Callable[[], object]) -> None:
        self.calls, self._real, self._times, self._then = 0, real, times, then

    def method(self) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = self._real(*arguments, **named)
            self.calls += 1
            if self.calls == self._times:
                self._then()
            return result

        return call


def stop() -> None:
    raise Stopped


def stopped(runs_dir: Path, stage2: Stage2, **what: Any) -> None:
    """A stage two that ends somewhere with Stopped."""
    with pytest.raises(Stopped):
        stage2(runs_dir, reraise=True, **what)


@pytest.fixture
def never_timed(monkeypatch: pytest.MonkeyPatch, stage2: Stage2) -> Stage2:
    """`stage2` that is never long enough under way to save states."""
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 1e9)
    return stage2


@pytest.mark.parametrize(("step", "epoch"), [(1, 0), (7, 1), (18, 2), (25, 4), (30, 4)])
def test_a_stop_within_an_epoch_goes_back_to_its_begin(
    tmp_path: Path, never_timed: Stage2, monkeypatch: pytest.MonkeyPatch, step: int, epoch: int
) -> None:
    never_timed(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", Counted(Stack.step, step, stop).method())
        stopped(tmp_path / "stopped", never_timed)
    assert [names_of_files(folder) for folder in folders(tmp_path / "stopped")] == ([[STATE]] if epoch else [])
    said = never_timed(tmp_path / "stopped")
    assert said.count(f": continuing after epoch {epoch}\n") == (epoch > 0)
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("what", ["predict", "save_predictions", "metrics_of"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_stop_in_the_evaluation_costs_no_epoch(
    tmp_path: Path, never_timed: Stage2, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    four = {"names": ["softmax", "gumbel"], "seeds": [0, 1]}
    never_timed(tmp_path / "whole", **four)
    with monkeypatch.context() as patch:
        patch.setattr(manifest, what, Counted(getattr(manifest, what), number, stop).method())
        stopped(tmp_path / "stopped", never_timed, **four)
    there = folders(tmp_path / "stopped")
    assert [is_finished(folder) for folder in there].count(True) == number - 1
    assert all((folder / STATE).exists() != is_finished(folder) for folder in there)
    trainings = Counted(Stack.step, 0, stop)
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", trainings.method())
        said = never_timed(tmp_path / "stopped", **four)
    assert trainings.calls == 0
    assert said.count(": it was trained before, and is evaluated now\n") == 4 - (number - 1)
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_a_candidate_goes_on_too(tmp_path: Path, gaussians: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 1e9)
    grid = [SMALL.model_copy(update={"lr": lr}) for lr in (1e-5, 1e-4)]

    def run(runs_dir: Path) -> str:
        said = io.StringIO()
        progress = Progress(Console(file=said, soft_wrap=True))
        run_stage2(find_target(gaussians, runs_dir), ["gumbel"], [0], grid, "cpu", progress=progress)
        return said.getvalue()

    run(tmp_path / "whole")
    # Of both candidates, 5 steps an epoch; of the final classifier, 6.
    for step, are_finished in ((12, False), (3, False), (15 + 13, True)):
        with monkeypatch.context() as patch:
            patch.setattr(Stack, "step", Counted(Stack.step, step, stop).method())
            with pytest.raises(Stopped):
                run(tmp_path / "stopped")
        candidates = sorted(tmp_path.glob("stopped/*/candidates/*"))
        assert [is_finished(folder) for folder in candidates] == [are_finished] * 2
    assert run(tmp_path / "stopped").count(": continuing after epoch 2\n") == 1
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole", chosen=True)


def test_a_second_signal_waits_until_all_is_saved(
    tmp_path: Path, never_timed: Stage2, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = {"names": ["softmax", "gumbel"], "seeds": [0, 1]}
    never_timed(tmp_path / "whole", **four)
    again = Counted(states.write_state, 1, lambda: signal.raise_signal(signal.SIGINT))
    with monkeypatch.context() as patch:
        patch.setattr(states, "write_state", again.method())
        patch.setattr(Stack, "step", Counted(Stack.step, 20, stop).method())
        with pytest.raises(KeyboardInterrupt):
            never_timed(tmp_path / "stopped", **four)
    assert again.calls == 4
    assert never_timed(tmp_path / "stopped", **four).count(": continuing after epoch ") == 4
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def test_a_disk_that_is_full_when_it_is_stopped_is_told_beside_the_stop(
    tmp_path: Path, never_timed: Stage2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise EnvironmentFailure("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(states, "write_state", Counted(lambda *_: None, 1, full).method())
        said = never_timed(tmp_path, stop_after=2)
    assert "warning: epochs since the last saved one are lost: the disk is full\n" in said
    assert "continuing" not in never_timed(tmp_path)


def test_an_overwriting_that_is_stopped_in_its_evaluation_is_finished_by_the_next_start(
    tmp_path: Path, never_timed: Stage2, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_timed(tmp_path / "whole")
    never_timed(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "predict", Counted(manifest.predict, 1, stop).method())
        stopped(tmp_path / "stopped", never_timed, overwrite=True)
    assert ": it was trained before, and is evaluated now\n" in never_timed(tmp_path / "stopped")
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


# By the command line


@pytest.mark.usefixtures("handlers_as_before")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_continues(
    tmp_path: Path,
    gaussians: Path,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    stop: signal.Signals,
    code: int,
) -> None:
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    arguments = ["stage2", gaussians, "--keep-grid", "--activation", "gumbel", "--device", "cpu"]
    arguments += ["--set", "stage2.lr=[1e-5,1e-4]"]
    assert run_cli(*arguments, "--runs-dir", tmp_path / "whole").code == 0
    real = saved.Saved._save_states

    def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
        real(self, states)
        signal.raise_signal(stop)

    with monkeypatch.context() as patch:
        patch.setattr(saved.Saved, "_save_states", save)
        for epoch in (1, 2):
            outcome = run_cli(*arguments, "--runs-dir", tmp_path / "stopped")
            assert (outcome.code, outcome.out) == (code, "")
            lines = outcome.err.splitlines()
            assert lines[-2:] == ["error: stopped", "hint: run the same command again: it continues where it was"]
            assert outcome.err.count(": continuing after epoch 1\n") == (0 if epoch == 1 else 2)
    outcome = run_cli(*arguments, "--runs-dir", tmp_path / "stopped")
    assert outcome.code == 0
    for lr in ("1e-05", "0.0001"):
        assert f"gumbel (lr {lr}, seed 0): continuing after epoch 2\n" in outcome.err
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")
