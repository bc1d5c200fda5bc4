"""Stage one stopped within an epoch: it ends after a step, saves, and continues as if it had not been stopped."""

from __future__ import annotations

import csv
import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from gol_decouple.backbones import ImageClassifier
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.stages import training
from gol_decouple.stages.classification import Classification
from gol_decouple.stages.training import Trainer

Make = Callable[[Path], "Trainer[Any]"]
STEPS, EPOCHS = 5, 3  # of `small_config`


class Stopped(BaseException):
    pass


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    def raising(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, raising) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert all(signal.signal(number, handler) is raising for number, handler in before.items())


def maker(config: Path, *settings: str) -> Make:
    """What makes a trainer of a small model, with BatchNorm and dropout, in a folder, which is made."""
    loaded = load_config(str(config), list(settings))

    def make(folder: Path) -> Trainer[Any]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(36, 8)]
        return Trainer(ImageClassifier(nn.Sequential(*layers), 8, 3), load_data(loaded.data), loaded, folder)

    return make


def signalled_in_step(trainer: Trainer[Any], number: int, which: signal.Signals = signal.SIGTERM) -> Trainer[Any]:
    """A trainer that gets a signal in one of its steps of the optimiser, counted from 0 since its start."""
    real, count = trainer._step, 0

    def step(epoch: int, own: int) -> None:
        nonlocal count
        if count == number:
            signal.raise_signal(which)
        count += 1
        real(epoch, own)

    trainer._step = step  # type: ignore[method-assign]
    return trainer


def kept(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "last.pt", weights_only=True))


def assert_same(first: Any, second: Any) -> None:
    """Equal to the last bit, whatever is nested in what."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair)
    else:
        assert first == second


def assert_same_training(first: Path, second: Path) -> None:
    states = kept(first), kept(second)
    for state in states:
        for row in state["log"]:
            assert row.pop("seconds") > 0
            assert row.pop("images_per_second") > 0
    assert_same(*states)


def log(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["stage1.passes=3", "stage1.ema=0.9", "stage1.mixup=0.4", "transform.crop_padding=2"],
        ["stage1.precision=float16", "stage1.warmup_epochs=1", "stage1.sampler=class_balanced"],
        ["stage1.max_steps=8", "stage1.evaluate_every=1"],
    ],
    ids=["plain", "passes, average, mixup", "scaled losses", "max_steps"],
)
def test_stopped_in_every_step_it_ends_bit_equal(tmp_path: Path, small_config: Path, settings: list[str]) -> None:
    make = maker(small_config, "device=cpu", "stage1.num_workers=0", *settings)
    make(tmp_path / "whole").run(SILENT)
    steps = 8 if "stage1.max_steps=8" in settings else STEPS * EPOCHS
    for step in range(steps):
        with pytest.raises(Stopped):
            signalled_in_step(make(tmp_path / "parts"), 0).run(SILENT)
        state = kept(tmp_path / "parts")
        assert (state["epochs_done"], state["steps_done"]) == (step // STEPS, step % STEPS + 1)
    make(tmp_path / "parts").run(SILENT)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
    whole, parts = log(tmp_path / "whole"), log(tmp_path / "parts")
    assert [row["train_loss"] for row in whole] == [row["train_loss"] for row in parts]


def test_images_of_steps_that_are_done_are_not_loaded_again(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = maker(small_config, "stage1.num_workers=0", "stage1.epochs=1", "stage1.evaluate_every=0")
    with pytest.raises(Stopped):
        signalled_in_step(make(tmp_path), 2).run(SILENT)
    trainer = make(tmp_path)
    loaded: list[int] = []
    real = trainer.task.losses

    def losses(network: nn.Module, batch: Any, *at: int) -> dict[str, torch.Tensor]:
        loaded.append(len(batch[1]))
        return real(network, batch, *at)

    monkeypatch.setattr(trainer.task, "losses", losses)
    trainer.run(SILENT)
    assert loaded == [16, 3]


def test_workers_of_their_own_change_nothing(tmp_path: Path, small_config: Path) -> None:
    maker(small_config, "stage1.num_workers=0")(tmp_path / "whole").run(SILENT)
    make = maker(small_config, "stage1.num_workers=2")
    with pytest.raises(Stopped):
        signalled_in_step(make(tmp_path / "parts"), 7).run(SILENT)
    make(tmp_path / "parts").run(SILENT)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_where_it_continues_is_told(tmp_path: Path, small_config: Path) -> None:
    make = maker(small_config, "stage1.num_workers=0")
    with pytest.raises(Stopped):
        signalled_in_step(make(tmp_path), 7, signal.SIGINT).run(SILENT)
    said = Console(file=io.StringIO(), width=1000)
    make(tmp_path).run(Progress(said))
    lines = said.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "continuing stage one after epoch 1 of 3, step 3 of 5 of the next"
    assert lines[-1].startswith("stage one: 86/86 images (100%)")


def test_the_seconds_before_the_stop_count(tmp_path: Path, small_config: Path) -> None:
    make = maker(small_config, "stage1.num_workers=0", "stage1.epochs=1")
    with pytest.raises(Stopped):
        signalled_in_step(make(tmp_path), 2).run(SILENT)
    state = kept(tmp_path)
    assert 0 < state["seconds"] < 1000
    torch.save(state | {"seconds": 5000.0}, tmp_path / "last.pt")
    trainer = make(tmp_path)
    trainer.run(SILENT)
    (row,) = log(tmp_path)
    assert 5000 < float(row["seconds"]) < 6000
    assert float(row["images_per_second"]) == pytest.approx(67 / float(row["seconds"]))
    assert trainer.seconds == pytest.approx(float(row["seconds"]))


def test_a_signal_while_evaluating_keeps_the_epoch(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = maker(small_config, "stage1.num_workers=0", "stage1.evaluate_every=1", "stage1.epochs=2")
    make(tmp_path / "whole").run(SILENT)
    real = Classification._load

    def load(self: Classification, name: str, keys: Any) -> Iterator[Any]:
        for batch in real(self, name, keys):
            signal.raise_signal(signal.SIGTERM)
            yield batch
            raise AssertionError("evaluated on")

    with monkeypatch.context() as patch:
        trainer = make(tmp_path / "parts")
        patch.setattr(Classification, "_load", load)
        with pytest.raises(Stopped):
            trainer.run(SILENT)
    state = kept(tmp_path / "parts")
    assert (state["epochs_done"], state["steps_done"], state["log"]) == (0, STEPS, [])
    make(tmp_path / "parts").run(SILENT)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_a_signal_while_the_last_epoch_is_saved_keeps_it(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.save_state

    def save(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", save)
        with pytest.raises(Stopped):
            maker(small_config, "stage1.num_workers=0", "stage1.epochs=1")(tmp_path).run(SILENT)
    assert (kept(tmp_path)["epochs_done"], kept(tmp_path)["steps_done"]) == (1, 0)
    assert len(log(tmp_path)) == 1


def test_a_handler_that_returns_lets_the_training_go_on(tmp_path: Path, small_config: Path) -> None:
    make = maker(small_config, "stage1.num_workers=0")
    make(tmp_path / "whole").run(SILENT)
    came = []
    handler = signal.signal(signal.SIGTERM, lambda *_: came.append(kept(tmp_path / "parts")["steps_done"]))
    signalled_in_step(make(tmp_path / "parts"), 1).run(SILENT)
    signal.signal(signal.SIGTERM, handler)
    assert came == [2], "it was saved first"
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_it_is_saved_within_a_long_epoch(tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int]] = []
    real = training.save_state

    def save(folder: Path, state: dict[str, Any]) -> None:
        done.append((state["epochs_done"], state["steps_done"]))
        real(folder, state)

    monkeypatch.setattr(training, "save_state", save)
    make = maker(small_config, "stage1.num_workers=0")
    make(tmp_path / "whole").run(SILENT)
    assert done == [(1, 0), (2, 0), (3, 0)]
    done.clear()
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    make(tmp_path / "parts").run(SILENT)
    places = [(step // STEPS, step % STEPS) for step in range(1, STEPS * EPOCHS + 1)]
    assert [place for place in done if place[1] != STEPS] == places
    assert [place for place in done if place[1] == STEPS] == [(epoch, STEPS) for epoch in range(EPOCHS)]
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = maker(small_config, "stage1.num_workers=0", "stage1.epochs=1")
    trainer = signalled_in_step(make(tmp_path), 0)
    trainer._optimizer.register_step_post_hook(lambda *_: nn.init.constant_(trainer.model.classifier.bias, torch.inf))
    with pytest.raises(InputError, match="stage one diverged in epoch 1, step 1, .*: weights, or BatchNorm"):
        trainer.run(SILENT)
    assert not (tmp_path / "last.pt").exists()


def test_a_disk_that_is_full_is_told_in_the_signals_place(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(training, "save_state", full)
    with pytest.raises(InputError, match="the disk is full"):
        signalled_in_step(maker(small_config, "stage1.num_workers=0")(tmp_path), 1).run(SILENT)
