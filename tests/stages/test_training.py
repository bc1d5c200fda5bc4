"""Stage one's loop: its schedule, its checkpoints, and that interrupting it changes nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Interrupt, RunCli
from rich.console import Console
from torch import nn

from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.runs import read_manifest
from gol_decouple.settings import Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.training import Trainer


def trainer(config: Config, folder: Path) -> Trainer:
    data = load_data(config.data)
    return Trainer(build_model(config.backbone.name, data.num_classes, config.seed), data, config, folder)


def log(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.pt", weights_only=True)
    return state["model"] | {f"momentum {k}": v["momentum_buffer"] for k, v in state["optimizer"]["state"].items()}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(
    tmp_path: Path, small_config: Path, interrupt: Interrupt, num_workers: int
) -> None:
    config = load_config(str(small_config), [f"stage1.num_workers={num_workers}"])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    trainer(config, whole).run(SILENT)

    interrupt(trainer(config, parts), 2)
    trainer(config, parts).run(SILENT)

    first, second = weights(whole), weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [[row["train_loss"] for row in log(run)] for run in (whole, parts)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(tmp_path: Path, small_config: Path) -> None:
    config = load_config(str(small_config))
    trainer(config, tmp_path).run(SILENT)
    finished = weights(tmp_path)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:1000])
    said = Console(file=io.StringIO(), width=1000)
    trainer(config, tmp_path).run(Progress(said))
    assert f"warning: {tmp_path / 'last.pt'} is damaged and left aside" in said.file.getvalue()
    assert "continuing stage one after epoch 2 of 3" in said.file.getvalue()
    assert all(torch.equal(finished[name], value) for name, value in weights(tmp_path).items())


def test_without_a_checkpoint_that_can_be_read_nothing_is_trained_over_them(tmp_path: Path, small_config: Path) -> None:
    config = load_config(str(small_config), ["stage1.epochs=2"])
    trainer(config, tmp_path).run(SILENT)
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        trainer(config, tmp_path).run(SILENT)
    torch.save({"model": {}}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        trainer(config, tmp_path).run(SILENT)
    assert (tmp_path / "previous.pt").read_bytes() == b"damaged"


def test_the_machines_failures_are_not_taken_for_damage(
    tmp_path: Path, small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(str(small_config), ["stage1.epochs=1"])
    trainer(config, tmp_path).run(SILENT)

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "load", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        trainer(config, tmp_path).run(SILENT)


def test_other_data_are_not_trained_into_the_same_run(tmp_path: Path, small_config: Path, images_npz: Path) -> None:
    arrays = dict(np.load(images_npz))
    np.savez(tmp_path / "images.npz", **arrays)
    config = load_config(str(small_config), [f"data.path={tmp_path / 'images.npz'}", "stage1.epochs=1"])
    trainer(config, tmp_path).run(SILENT)
    np.savez(tmp_path / "images.npz", **arrays | {"test_images": arrays["test_images"][::-1]})
    with pytest.raises(InputError, match="the data have changed since the training in") as error:
        trainer(config, tmp_path).run(SILENT)
    assert "--overwrite" in (error.value.hint or "")


def test_divergence_is_an_error_that_keeps_the_checkpoint(tmp_path: Path, small_config: Path) -> None:
    config = load_config(str(small_config), ["stage1.lr=1e30"])
    with pytest.raises(
        InputError, match=r"diverged in epoch 1, step \d, at learning rate 1e\+30: the loss is"
    ) as error:
        trainer(config, tmp_path).run(SILENT)
    assert error.value.hint == "try --set stage1.lr=1e+29 --overwrite"


def test_milestones_are_written_for_the_recipes_length(tmp_path: Path, small_config: Path) -> None:
    settings = ["stage1.schedule=step", "stage1.milestones=[200, 220]", "stage1.gamma=0.01", "stage1.lr=0.1"]
    config = load_config(str(small_config), [*settings, "stage1.recipe_epochs=240", "stage1.epochs=12"])
    rates = [trainer(config, tmp_path)._lr(epoch, 0) for epoch in (0, 9, 10, 11)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 1e-3, 1e-5])


@pytest.mark.parametrize(
    ("epochs", "places", "expected"),
    [
        (200, [(0, 0), (10, 0), (40, 0), (50, 0), (199, 4)], [0.0, 0.04, 0.16, 0.2, 0.2]),
        (20, [(0, 0), (1, 0), (4, 0), (5, 0), (19, 4)], [0.0, 0.04, 0.16, 0.2, 0.2]),
        (2, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4)], [0.0, 0.08, 0.16, 0.2, 0.2]),
    ],
)
def test_warm_up_is_written_for_the_recipes_length(
    tmp_path: Path, small_config: Path, epochs: int, places: list[tuple[int, int]], expected: list[float]
) -> None:
    settings = ["stage1.warmup_epochs=50", "stage1.recipe_epochs=200", "stage1.lr=0.2"]
    training = trainer(load_config(str(small_config), [*settings, f"stage1.epochs={epochs}"]), tmp_path)
    np.testing.assert_allclose([training._lr(epoch, step) for epoch, step in places], expected, rtol=1e-12)


def test_the_rate_rises_with_every_step_of_the_warm_up(tmp_path: Path, small_config: Path) -> None:
    settings = ["stage1.warmup_epochs=2", "stage1.recipe_epochs=3", "stage1.lr=0.1", "stage1.schedule=step"]
    training = trainer(load_config(str(small_config), settings), tmp_path)
    used = []
    training._optimizer.register_step_pre_hook(lambda *_: used.append(training._optimizer.param_groups[0]["lr"]))
    training.run(SILENT)
    np.testing.assert_allclose(used, [0.01 * step for step in range(10)] + [0.1] * 5, rtol=1e-12)
    np.testing.assert_allclose([float(row["lr"]) for row in log(tmp_path)], [0.0, 0.05, 0.1])


def test_max_steps_end_the_training_and_leave_its_schedule(tmp_path: Path, small_config: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = trainer(load_config(str(small_config), ["stage1.schedule=cosine"]), tmp_path / "whole")
    cut = trainer(load_config(str(small_config), ["stage1.schedule=cosine", "stage1.max_steps=7"]), tmp_path / "cut")
    rates: list[list[float]] = []
    for training in (whole, cut):
        used: list[float] = []
        optimizer = training._optimizer
        optimizer.register_step_pre_hook(lambda own, *_, used=used: used.append(own.param_groups[0]["lr"]))
        training.run(SILENT)
        rates.append(used)
    assert len(rates[0]) == 15
    assert rates[1] == rates[0][:7]
    rows = log(tmp_path / "cut")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["train_loss"] == log(tmp_path / "whole")[0]["train_loss"]
    assert rows[0]["accuracy"] == ""
    assert rows[1]["accuracy"] != "", "the last epoch that is run"


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_the_loss_is_the_cross_entropy_of_smoothed_labels(tmp_path: Path, small_config: Path, smoothing: float) -> None:
    settings = [f"stage1.label_smoothing={smoothing}", "stage1.precision=float32", "device=cpu"]
    training = trainer(load_config(str(small_config), settings), tmp_path)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0, 1, 1])
    training.model.eval()
    with torch.inference_mode():
        loss = float(training.task._loss(training.model, images, labels, 0, 0))
        logits = training.model(images).numpy().astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = (1 - smoothing) * np.eye(3)[labels.numpy()] + smoothing / 3
    assert loss == pytest.approx(-np.mean(np.sum(targets * log_softmax, axis=1)), rel=1e-5)


@pytest.mark.parametrize(("sampler", "visits"), [("random", [6, 21, 40]), ("class_balanced", [22, 22, 23])])
def test_an_epoch_visits_classes_as_the_sampler_says(
    tmp_path: Path, small_config: Path, sampler: str, visits: list[int]
) -> None:
    training = trainer(load_config(str(small_config), [f"stage1.sampler={sampler}"]), tmp_path)
    orders = []
    for epoch in range(2):
        training._keys.epoch = epoch
        batches = list(training.task.batches)
        assert [len(labels) for _, labels in batches] == [16] * 4 + [3]
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert sorted(torch.bincount(labels, minlength=3).tolist()) == visits
        # A class is a colour: the images are those of the labels.
        assert torch.equal(images.float().mean(dim=(1, 2)).argmax(dim=1), labels)
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


def test_an_image_drawn_twice_in_an_epoch_is_augmented_twice(tmp_path: Path, small_config: Path) -> None:
    settings = ["stage1.sampler=class_balanced", "transform.crop_padding=3"]
    batches = list(trainer(load_config(str(small_config), settings), tmp_path).task.batches)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    blue = images[labels == 2]
    assert len(blue) >= 22
    # Drawn by the image alone, the class's six images would be six pictures.
    assert len({image.numpy().tobytes() for image in blue}) > 18


def test_the_manifest_names_the_sampler(tmp_path: Path, small_config: Path, finished_run: Path) -> None:
    config = load_config(str(small_config), ["stage1.sampler=class_balanced", "stage1.epochs=1"])
    manifest = read_manifest(run_stage1(config, tmp_path))
    assert (manifest["sampler"], manifest["settings"]["sampler"]) == ("class_balanced", "class_balanced")
    assert read_manifest(finished_run)["sampler"] == "random"


def test_the_model_learns_and_the_log_says_so(finished_run: Path) -> None:
    rows = log(finished_run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert rows[0]["accuracy"] == ""
    assert float(rows[-1]["accuracy"]) > 40


def test_a_model_with_dropout_ends_bit_equal_too(tmp_path: Path, small_config: Path, interrupt: Interrupt) -> None:
    config = load_config(str(small_config))

    def own(folder: Path) -> Trainer:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.5))
        return Trainer(ImageClassifier(network, 16, 3), load_data(config.data), config, folder)

    own(tmp_path / "whole").run(SILENT)
    interrupt(own(tmp_path / "parts"), 1)
    torch.manual_seed(99)
    own(tmp_path / "parts").run(SILENT)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_last_batch_that_is_too_small_for_batchnorm_is_told(tmp_path: Path, small_config: Path) -> None:
    # Of 67 images, batches of 11 leave one; its maps have one position.
    config = load_config(str(small_config), ["stage1.batch_size=11"])
    network = nn.Sequential(nn.Conv2d(3, 8, 8), nn.BatchNorm2d(8), nn.Flatten())
    training = Trainer(ImageClassifier(network, 8, 3), load_data(config.data), config, tmp_path)
    with pytest.raises(InputError, match="the last batch leaves 1") as caught:
        training.run(SILENT)
    assert caught.value.hint is not None
    assert "stage1.batch_size=12" in caught.value.hint


def test_features_of_a_random_network_are_told(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    outcome = run_cli("stage1", small_config, "--runs-dir", tmp_path, "--set", "stage1.epochs=0")
    assert outcome.code == 0
    assert "warning: nothing is trained and no weights are loaded: the features are those of a random" in outcome.err
    assert "stage one, random weights" in outcome.out
    outcome = run_cli("stage2", tmp_path / "colours", "--activation", "gumbel", "--set", "stage2.epochs=1")
    assert "stage one, random weights" in outcome.out
    model = tmp_path / "colours" / "model.safetensors"
    loaded = run_cli("stage1", small_config, "--runs-dir", tmp_path, "--name", "loaded", "--checkpoint", model)
    assert "nothing is trained" not in loaded.err
    assert "stage one, loaded" in loaded.out


def test_the_model_can_be_read_by_whom_the_umask_lets(finished_run: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in finished_run.iterdir() if path.suffix != ".lock"}
    assert modes["model.safetensors"] == modes["config.toml"] == modes["manifest.json"]
