"""Stage one of a detector on the command line: it trains, logs its losses, continues bit-equal, and is saved."""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from annotated import MAIN, narrow_backbone
from conftest import Interrupt, RunCli
from safetensors.torch import load_file
from test_distributed import two_processes

from gol_decouple import runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.detector_weights import start_detector
from gol_decouple.config import load_config
from gol_decouple.data.annotated_batches import Target
from gol_decouple.data.lvis import load_annotated
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.samplers import repeat_factors
from gol_decouple.settings import Config
from gol_decouple.stages.detection import Detection
from gol_decouple.stages.training import Trainer


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: a detector's checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def trainer(config: Config, folder: Path) -> Trainer[torch.nn.Module]:
    data = load_annotated(config.data)
    folder.mkdir(exist_ok=True)
    return Trainer(start_detector(config, data.num_classes)[0], data, config, folder)


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_detector_is_trained_saved_and_loaded(folder: Path, detector_config: Path, run_cli: RunCli) -> None:
    arguments = [detector_config, "--runs-dir", folder / "runs"]
    outcome = run_cli("stage1", *arguments)
    assert outcome.code == 0, outcome.err
    run = folder / "runs" / "tiny"
    assert "Mask R-CNN with torchvision:resnet18 on tiny (4 train, 3 val images, 3 classes), 2 epochs" in outcome.err
    assert "features of RoIs: 7/7 images (100%)" in outcome.err
    rows = log_of(run)
    assert tuple(rows[0]) == ("epoch", "lr", "train_loss", *Detection.columns, "images_per_second", "seconds")
    assert len(rows) == 2
    for row in rows:
        assert sum(float(row[name]) for name in Detection.columns) == pytest.approx(float(row["train_loss"]))
    saved = load_file(run / "model.safetensors")
    config = load_config(str(run / "config.toml"), [f"stage1.checkpoint={run / 'model.safetensors'}"])
    detector, match = start_detector(config, 3)
    assert match is not None
    assert match.has_classifier
    assert all(torch.equal(tensor, saved[name]) for name, tensor in detector.state_dict().items())
    fresh = start_detector(load_config(str(detector_config)), 3)[0].state_dict()
    moved = [name for name, tensor in saved.items() if not torch.equal(tensor, fresh[name])]
    for part in ("backbone.body.conv1", "backbone.fpn", "rpn.head", "roi_heads.box_head", "roi_heads.mask_head"):
        assert any(name.startswith(part) for name in moved), part
    outcome = run_cli("stage1", *arguments, "--name", "loaded", "--checkpoint", run / "model.safetensors")
    assert outcome.code == 0, outcome.err
    assert "backbone.body          36 tensors" in outcome.err
    loaded = load_file(folder / "runs" / "loaded" / "model.safetensors")
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert (folder / "runs" / "loaded" / runs.CHECKPOINT).is_file()


def test_an_interrupted_detector_ends_bit_equal(folder: Path, detector_config: Path, interrupt: Interrupt) -> None:
    config = load_config(str(detector_config), ["stage1.num_workers=1"])
    whole = trainer(config, folder / "whole")
    whole.run(SILENT)
    shutil.rmtree(folder / "whole")
    interrupt(trainer(config, folder / "parts"), 1)
    parts = trainer(config, folder / "parts")
    parts.run(SILENT)
    first, second = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["train_loss"] for row in whole._log.rows] == [row["train_loss"] for row in parts._log.rows]


@pytest.mark.usefixtures("handlers_as_before")
def test_a_detector_that_is_stopped_within_an_epoch_ends_bit_equal(folder: Path, detector_config: Path) -> None:
    settings = ["stage1.num_workers=0", "stage1.batch_size=2", "stage1.epochs=1", "stage1.ema=0.5", "device=cpu"]
    config = load_config(str(detector_config), settings)
    whole = trainer(config, folder)
    whole.run(SILENT)
    (folder / "last.pt").unlink()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    parts = trainer(config, folder)
    parts._optimizer.register_step_post_hook(lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        parts.run(SILENT)
    assert (parts._done.epochs_done, parts._done.steps_done) == (0, 1)
    parts = trainer(config, folder)
    parts.run(SILENT)
    first, second = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    times = {"seconds", "images_per_second"}
    logs = [[value for name, value in run._log.rows[0].items() if name not in times] for run in (whole, parts)]
    assert logs[0] == logs[1]


def test_training_ends_after_max_steps(folder: Path, detector_config: Path) -> None:
    steps = []
    settings = ["stage1.epochs=9", "stage1.max_steps=3", "stage1.sampler=random", "stage1.batch_size=2"]
    training = trainer(load_config(str(detector_config), settings), folder)
    training._optimizer.register_step_post_hook(lambda *_: steps.append(training._keys.epoch))
    training.run(SILENT)
    assert steps == [0, 0, 1]
    assert [int(row["epoch"]) for row in log_of(folder)] == [1, 2]
    again = trainer(load_config(str(detector_config), settings), folder)
    again.run(SILENT)
    assert steps == [0, 0, 1]
    one, other = training.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_parts_that_are_asked_for_are_trained(folder: Path, detector_config: Path) -> None:
    settings = ['backbone.trainable=["layer4"]', "stage1.max_steps=1"]
    config = load_config(str(detector_config), settings)
    from gol_decouple.stages.detector import _detector

    detector, _ = _detector(config, ["three", "seven", "nine"], SILENT)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    training = Trainer(detector, load_annotated(config.data), config, folder)
    training.run(SILENT)
    moved = {name for name, tensor in training.model.state_dict().items() if not torch.equal(tensor, before[name])}
    body = {name.split(".")[2] for name in moved if name.startswith("backbone.body")}
    assert body == {"layer4"}
    assert any(name.startswith("rpn") for name in moved)


def test_images_of_rare_classes_come_more_often(detector_config: Path, folder: Path) -> None:
    config = load_config(str(detector_config), ["detector.repeat_threshold=0.9"])
    data = load_annotated(config.data)
    task = trainer(config, folder).task
    factors = repeat_factors(data.splits["train"].image_labels, 3, 0.9)
    assert factors.tolist() == pytest.approx([(0.9 / 0.25) ** 0.5, (0.9 / 0.75) ** 0.5, (0.9 / 0.75) ** 0.5, 3.6**0.5])
    visits = torch.zeros(4)
    for epoch in range(200):
        task.keys.epoch = epoch
        for batch in task.keys:
            for key in batch:
                visits[key.image] += 1
    torch.testing.assert_close(visits / 200, factors, atol=0.12, rtol=0)


def test_labels_reach_torchvision_in_its_order(folder: Path, detector_config: Path) -> None:
    config = load_config(str(detector_config), ["stage1.sampler=random", "transform.flip=false"])
    task = trainer(config, folder).task
    seen: dict[int, list[int]] = {}

    class Network(torch.nn.Module):
        def forward(self, images: list[torch.Tensor], targets: list[Target]) -> dict[str, torch.Tensor]:
            for image, target in zip(images, targets, strict=True):
                assert target["masks"].shape == (len(target["labels"]), *image.shape[1:])
                seen[image.shape[2]] = target["labels"].tolist()
            return dict.fromkeys(Detection.columns, torch.ones(()))

    for batch in task.batches:
        task.losses(Network(), batch, 0, 0)
    assert seen == {80: [2, 1], 72: [2], 64: [2, 2], 90: [3]}


def test_divergence_is_told(folder: Path, detector_config: Path) -> None:
    config = load_config(str(detector_config), ["stage1.lr=1e20"])
    with pytest.raises(InputError, match="stage one diverged in epoch 1"):
        trainer(config, folder).run(SILENT)


def test_one_loss_that_is_not_finite_is_enough(
    folder: Path, detector_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer(load_config(str(detector_config)), folder)

    def losses(network: torch.nn.Module, *_: object) -> dict[str, torch.Tensor]:
        nothing = 0.0 * next(network.parameters()).sum()
        return {name: nothing + (float("nan") if name == "loss_mask" else 1.0) for name in Detection.columns}

    monkeypatch.setattr(training.task, "losses", losses)
    with pytest.raises(InputError, match=r"diverged in epoch 1, step 1, at learning rate \S+: the loss is nan"):
        training.run(SILENT)


def test_two_processes_train_one_detector(folder: Path, detector_config: Path) -> None:
    arguments = ["stage1", detector_config, "--runs-dir", folder, "--name", "two", "--set", "stage1.max_steps=3"]
    outcomes = two_processes(MAIN, *arguments)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert ", 2 processes" in outcomes[0].err
    saved = load_file(folder / "two" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


@pytest.mark.slow
def test_real_photographs_train_a_detector(folder: Path, real_data: Path, run_cli: RunCli) -> None:
    images = real_data / "coco_lt" / "images"
    settings = ["stage1.max_steps=8", "data.limit=40", "stage1.batch_size=2", "stage1.num_workers=1"]
    changes = [part for setting in settings for part in ("--set", setting)]
    assert run_cli("check", "coco_lt_maskrcnn", "--data-root", images).code == 0
    outcome = run_cli("stage1", "coco_lt_maskrcnn", "--data-root", images, "--runs-dir", folder, *changes)
    assert outcome.code == 0, outcome.err
    rows = log_of(folder / "coco_lt_maskrcnn")
    assert 0.0 < float(rows[0]["train_loss"]) < 20.0
