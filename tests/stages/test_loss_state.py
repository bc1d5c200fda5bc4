"""Where trainings begin, go on and fail: a loss's own columns, state and schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli
from safetensors.torch import load_file
from test_losses_in_training import COUPLED, DRAWING, SIZE, own, rows_of, write_five
from test_resume_stage2 import assert_equal_results, folders, foreign, metadata_of, names_of_files, tensors_of
from test_together import ROUNDING, assert_as_alone

import gol_decouple
from gol_decouple import features, methods, sealed_tensors
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.runs import is_finished
from gol_decouple.settings import Stage2Config
from gol_decouple.stages import saved
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.jobs import Job, Retrained, State
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.states import LOSS_STATE, STATE
from gol_decouple.stages.together import train_together
from gol_decouple.targets import find_target

EPOCHS = 4
KEPT = {"eqlv2": {"positive_gradient", "negative_gradient"}, "seesaw": {"samples"}}
CHANGING = {
    **{name: method.with_settings(epochs=EPOCHS) for name, method in (COUPLED | DRAWING).items()},
    "class_balanced": own("softmax", "class_balanced", epochs=EPOCHS, beta=0.99, deferred=0.5),
    "ldam": own("softmax", "ldam", epochs=EPOCHS),
}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_five(tmp_path_factory.mktemp("features") / "five.h5")


@pytest.fixture(scope="module")
def rows(five: Path) -> InMemory:
    return rows_of(five)


def train(rows: InMemory, job: Job) -> tuple[Retrained, list[State]]:
    """The classifier, and its state after every epoch."""
    states: list[State] = []
    ((_, result),) = train_together(rows, [job], on_epoch=lambda told: states.extend(state for _, state in told))
    assert isinstance(result, Retrained)
    return result, states


def assert_same(result: Retrained, wanted: Retrained) -> None:
    """To the last bit."""
    assert torch.equal(result.weight, wanted.weight)
    assert torch.equal(result.bias, wanted.bias)
    assert result.history == wanted.history
    state, other = result.loss.state_dict(), wanted.loss.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


# More columns than classes


def test_columns_beside_the_classes_start_fresh(five: Path) -> None:
    start = features.open(five).classifier
    result, same, other = (gol_decouple.retrain(five, "bags", lr=1e-12, epochs=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(result.weight[:5], start.weight, rtol=1e-5)
    np.testing.assert_allclose(result.bias[:5], start.bias, rtol=1e-5)
    assert result.weight[5:].abs().max() < 0.006
    assert result.weight[5:].std() == pytest.approx(0.001, rel=0.5)
    np.testing.assert_allclose(result.bias[5:], 0.0, atol=1e-9)
    assert torch.equal(result.weight, same.weight)
    assert not torch.equal(result.weight[5:], other.weight[5:])


def test_columns_beside_the_classes_with_a_softmax_classifier_that_is_trained_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, first = write_five(tmp_path / "bare.h5", with_classifier=False), methods.first_softmax()
    monkeypatch.setattr(methods, "first_softmax", lambda background: first.with_settings(epochs=3))
    softmax = gol_decouple.retrain(bare, "softmax", start="fresh", epochs=3, seed=2)
    bags = gol_decouple.retrain(bare, "bags", lr=1e-12, epochs=1, seed=2)
    assert bags.weight.shape == (8, SIZE)
    torch.testing.assert_close(bags.weight[:5], softmax.weight, **ROUNDING)
    assert bags.weight[5:].abs().max() < 0.006


# Going on


@pytest.mark.parametrize("name", list(CHANGING))
def test_going_on_after_any_epoch_is_not_stopping(rows: InMemory, name: str) -> None:
    method = CHANGING[name]
    wanted, states = train(rows, Job(method, 3))
    assert [len(state.history) for state in states] == [1, 2, 3, 4]
    for state in states:
        assert state.loss.keys() == KEPT.get(name, set())
        assert state.fits(method, wanted.loss, 5, SIZE)
        again, later = train(rows, Job(method, 3, state=state))
        assert_same(again, wanted)
        assert [len(one.history) for one in later] == list(range(len(state.history) + 1, EPOCHS + 1))


def test_going_on_from_different_epochs_in_one_pass(rows: InMemory) -> None:
    told = {name: train(rows, Job(CHANGING[name], 3)) for name in ("eqlv2", "seesaw", "bags", "class_balanced")}
    jobs = {Job(CHANGING[name], 3, state=state): name for name, (_, states) in told.items() for state in states}
    results = list(train_together(rows, list(jobs)))
    assert len(results) == len(jobs) == 16
    for job, result in results:
        assert isinstance(result, Retrained)
        assert_same(result, told[jobs[job]][0])


@pytest.mark.parametrize("name", list(KEPT))
def test_without_its_own_state_a_loss_would_go_on_otherwise(rows: InMemory, name: str) -> None:
    """So it is needed; and a state that was given out does not change any more."""
    wanted, states = train(rows, Job(CHANGING[name], 3))
    sums = [sum(tensor.sum().item() for tensor in state.loss.values()) for state in states]
    sums.append(sum(tensor.sum().item() for tensor in wanted.loss.state_dict().values()))
    assert 0 < sums[0] < sums[1] < sums[2] < sums[3]
    state = states[1]
    fresh = {kind: torch.zeros_like(tensor) for kind, tensor in state.loss.items()}
    again, _ = train(rows, Job(CHANGING[name], 3, state=replace(state, loss=fresh)))
    assert not torch.equal(again.weight, wanted.weight)


def test_seesaw_has_counted_every_sample_of_every_epoch(rows: InMemory) -> None:
    result, states = train(rows, Job(CHANGING["seesaw"], 0))
    counts = torch.from_numpy(rows.class_counts).double()
    for epoch, state in enumerate(states, 1):
        assert torch.equal(state.loss["samples"], epoch * counts)
    assert torch.equal(result.loss.state_dict()["samples"], EPOCHS * counts)


# Losses that change with the epochs


def test_a_loss_is_told_the_share_of_epochs_that_are_done(rows: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(Loss, "start_epoch", lambda self, share: shares.append(share))
    method = own("softmax", "cross_entropy", epochs=EPOCHS)
    _, states = train(rows, Job(method, 0))
    assert shares == [0.0, 0.25, 0.5, 0.75]
    shares.clear()
    train(rows, Job(method, 0, state=states[1]))
    assert shares == [0.5, 0.75]


def test_weights_that_are_never_used_are_plain_softmax(five: Path) -> None:
    settings = {"epochs": 3, "batch_size": 16, "seed": 2}
    plain = gol_decouple.retrain(five, "softmax", **settings)
    never, at_once = (gol_decouple.retrain(five, "class_balanced", deferred=share, **settings) for share in (1.0, 0.0))
    assert torch.equal(never.weight, plain.weight)
    assert torch.equal(never.bias, plain.bias)
    assert never.history == plain.history
    assert never.metrics == plain.metrics
    assert not torch.equal(at_once.weight, plain.weight)


def test_deferred_weights_begin_with_their_epoch(rows: InMemory) -> None:
    """Half of the epochs as plain Softmax, the other half as if the weights had always been there."""
    deferred, states = train(rows, Job(CHANGING["class_balanced"], 1))
    _, plain = train(rows, Job(own("softmax", "cross_entropy", epochs=EPOCHS), 1))
    assert torch.equal(states[1].trained, plain[1].trained)
    assert not torch.equal(states[2].trained, plain[2].trained)
    at_once = CHANGING["class_balanced"].with_settings(deferred=0.0)
    result, _ = train(rows, Job(at_once, 1, state=plain[1]))
    assert torch.equal(result.weight, deferred.weight)
    assert result.history == deferred.history


# By the command line

NAMES = ("eqlv2", "seesaw", "bags", "class_balanced")
Stage2 = Callable[..., Outcome]


@pytest.fixture
def stage2(run_cli: RunCli, five: Path, monkeypatch: pytest.MonkeyPatch) -> Stage2:
    """Stage two of some methods into a folder, interrupted after `stop_after` passes."""
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real = saved.Saved._save_states

    def run(runs_dir: Path, stop_after: int | None = None, names: Sequence[str] = NAMES, **settings: object) -> Outcome:
        arguments: list[object] = [part for name in names for part in ("--method", name)]
        for name, value in ({"epochs": EPOCHS, "batch_size": 16, "deferred": 0.5} | settings).items():
            arguments += ["--set", f"stage2.{name}={value}"]
        passes = 0

        def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
            nonlocal passes
            real(self, states)
            passes += 1
            if passes == stop_after:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(saved.Saved, "_save_states", save)
            return run_cli("stage2", five, "--keep-grid", *arguments, "--device", "cpu", "--runs-dir", runs_dir)

    return run


@pytest.mark.parametrize("settings", [{}, {"memory_gb": 1e-9}], ids=["in memory", "streamed"])
def test_a_command_that_is_interrupted_and_continued(
    tmp_path: Path, stage2: Stage2, settings: dict[str, object]
) -> None:
    assert stage2(tmp_path / "whole", **settings).code == 0
    for stop, done in ((1, 0), (2, 1)):
        outcome = stage2(tmp_path / "stopped", stop_after=stop, **settings)
        assert outcome.code == 130
        assert outcome.err.count(f": continuing after epoch {done}\n") == (len(NAMES) if done else 0)
        for folder in folders(tmp_path / "stopped"):
            assert names_of_files(folder) == [STATE]
            kept = {f"{LOSS_STATE}{name}" for name in KEPT.get(folder.name.split("-")[0], ())}
            assert load_file(folder / STATE).keys() == {"trained", "velocity"} | kept
    outcome = stage2(tmp_path / "stopped", **settings)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(": continuing after epoch 3\n") == len(NAMES)
    assert "warning" not in outcome.err
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


def without(*names: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        tensors, told = tensors_of(path), metadata_of(path)
        sealed_tensors.save({name: part for name, part in tensors.items() if name not in names}, path, told)

    return spoil


SPOIL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "missing": ("seesaw", without("loss.samples")),
    "one of two missing": ("eqlv2", without("loss.negative_gradient")),
    "of other classes": ("seesaw", foreign(**{"loss.samples": torch.zeros(4, dtype=torch.float64)})),
    "of one class": ("eqlv2", foreign(**{"loss.positive_gradient": torch.zeros(1, dtype=torch.float64)})),
    "of another dtype": ("seesaw", foreign(**{"loss.samples": torch.zeros(5)})),
    "of another loss": ("seesaw", foreign(**{"loss.positive_gradient": torch.zeros(5, dtype=torch.float64)})),
    "of a loss that has none": ("class_balanced", foreign(**{"loss.samples": torch.zeros(5, dtype=torch.float64)})),
    "without the columns beside the classes": (
        "bags",
        foreign(weight=torch.zeros(5, SIZE), bias=torch.zeros(5), velocity=torch.zeros(5 * SIZE + 5)),
    ),
}


@pytest.mark.parametrize("kind", list(SPOIL))
def test_a_loss_state_that_is_of_no_use_is_a_warning(tmp_path: Path, stage2: Stage2, kind: str) -> None:
    name, spoil = SPOIL[kind]
    two = (name, "seesaw" if name == "class_balanced" else "class_balanced")
    assert stage2(tmp_path / "whole", names=two).code == 0
    assert stage2(tmp_path / "stopped", stop_after=2, names=two).code == 130
    (folder,) = (folder for folder in folders(tmp_path / "stopped") if folder.name.startswith(f"{name}-"))
    spoil(folder / STATE)
    outcome = stage2(tmp_path / "stopped", names=two)
    assert outcome.code == 0, outcome.err
    (warning,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {folder / STATE} cannot be read, so {name} (lr ")
    assert warning.endswith("is trained from its start: it is of another training")
    assert outcome.err.count(": continuing after epoch 2\n") == 1, "the other is"
    assert_equal_results(tmp_path / "stopped", tmp_path / "whole")


# Trainings that fail


@pytest.mark.parametrize("name", list(CHANGING))
def test_a_loss_that_diverges_is_told(rows: InMemory, name: str) -> None:
    method = CHANGING[name]
    jobs = [Job(method.with_settings(lr=1e38), 0), Job(method, 0)]
    (failed, error), (good, result) = train_together(rows, jobs)
    assert (failed, good) == tuple(jobs)
    assert isinstance(error, InputError)
    assert error.message.startswith("own (lr 1e+38, seed 0) diverged in epoch 1: ")
    assert error.hint == "lower stage2.lr (now 1e+38)"
    assert_as_alone(rows, good, result)


def test_divergence_after_states_were_saved_leaves_none(tmp_path: Path, stage2: Stage2) -> None:
    """Decay of 1 multiplies the weights by the learning rate in each step."""
    settings = {"lr": "[100,1e-3]", "weight_decay": 1.0, "schedule": "constant", "epochs": 6}
    outcome = stage2(tmp_path, **settings)
    assert outcome.code == 2
    assert f"error: {len(NAMES)} classifiers failed: " in outcome.err
    assert "(lr 100, seed 0) diverged in epoch 2" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob(STATE))
    good = [folder for folder in folders(tmp_path) if is_finished(folder)]
    assert len(good) == len(NAMES)
    assert all("-lr0.001-" in folder.name for folder in good)
    left = [name for folder in folders(tmp_path) if folder not in good for name in names_of_files(folder)]
    assert left == []
    again = stage2(tmp_path, **settings)
    assert again.code == 2
    assert "continuing after" not in again.err


@pytest.mark.parametrize("memory_gb", [None, 1e-9], ids=["in memory", "streamed"])
def test_features_that_are_not_finite(
    tmp_path: Path, five: Path, monkeypatch: pytest.MonkeyPatch, memory_gb: float | None
) -> None:
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    good = features.open(five)
    splits = {name: (good[name].features[:], good[name].labels) for name in good.splits}
    splits["train"][0][1, 17, 3] = torch.nan
    with monkeypatch.context() as patch:
        patch.setattr("gol_decouple.features.writer.as_stored", lambda column, rows, *_: rows)
        path = features.write(tmp_path / "bad.h5", splits)
    message = "train features of row 17, view 1 hold NaN or infinity"
    point = Stage2Config(epochs=2, start="fresh", memory_gb=memory_gb)
    with pytest.raises(InputError, match=message):
        run_stage2(find_target(path, tmp_path / "runs"), NAMES, [0], [point], "cpu")
    assert not [found for found in tmp_path.rglob("*") if found.name in (STATE, CLASSIFIER)]
    for name in NAMES:
        with pytest.raises(InputError, match=message):
            gol_decouple.retrain(path, name, epochs=2, start="fresh", memory_gb=memory_gb)
