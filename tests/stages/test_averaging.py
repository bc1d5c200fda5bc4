"""The moving average of weights against its recursion, and its place in stage one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Interrupt
from safetensors.torch import load_file
from torch import nn

from gol_decouple import features
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.data.transforms import Normalise
from gol_decouple.features.extract import weights_sha256
from gol_decouple.progress import SILENT
from gol_decouple.settings import Config
from gol_decouple.stages.averaging import MovingAverage
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.training import Trainer

DECAY = 0.9
TRACKED = "num_batches_tracked"
State = dict[str, torch.Tensor]


@pytest.fixture
def config(small_config: Path) -> Config:
    settings = [f"stage1.ema={DECAY}", "stage1.epochs=2", "stage1.batch_size=32", "device=cpu"]
    return load_config(str(small_config), settings)


def trainer(config: Config, folder: Path) -> Trainer:
    data = load_data(config.data)
    folder.mkdir(exist_ok=True)
    return Trainer(build_model(config.backbone.name, data.num_classes, config.seed), data, config, folder)


def small_model() -> ImageClassifier:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ImageClassifier(nn.Sequential(*layers), 4, 3)


def move(model: ImageClassifier, step: int) -> None:
    """Other weights and statistics, as a step of training gives them."""
    draws = torch.Generator().manual_seed(step)
    model.train()(torch.randn(5, 3, 6, 6, generator=draws) + step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=draws)


def copy_of(model: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def recursion(states: list[State], decay: float) -> dict[str, np.ndarray]:
    """The average of weights and statistics after each of `states` in turn, in float64."""
    names = [name for name in states[0] if not name.endswith(TRACKED)]
    average = {name: states[0][name].numpy().astype(np.float64) for name in names}
    for state in states[1:]:
        for name in names:
            average[name] = decay * average[name] + (1.0 - decay) * state[name].numpy().astype(np.float64)
    return average


def check_equals(state: State, wanted: dict[str, np.ndarray]) -> None:
    assert {name for name in state if not name.endswith(TRACKED)} == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(state[name].numpy(), value, rtol=1e-5, atol=1e-6, err_msg=name)


def last_weights(folder: Path) -> State:
    return torch.load(folder / "last.pt", weights_only=True)["model"]


def saved_average(folder: Path) -> State:
    state = torch.load(folder / "last.pt", weights_only=True)["average"]
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if name.startswith("module.")}


def test_the_first_update_copies() -> None:
    model = small_model()
    average = MovingAverage(model, DECAY)
    start = copy_of(model)
    move(model, 1)
    average.update(model)
    first = copy_of(model)
    assert all(torch.equal(tensor, first[name]) for name, tensor in average.model.state_dict().items())
    assert not torch.equal(first["classifier.weight"], start["classifier.weight"])
    assert not torch.equal(first["backbone.1.running_mean"], start["backbone.1.running_mean"])


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_weights_and_statistics_follow_the_recursion(decay: float) -> None:
    model = small_model()
    average = MovingAverage(model, decay)
    states = []
    for step in range(1, 7):
        move(model, step)
        average.update(model)
        states.append(copy_of(model))
        check_equals(average.model.state_dict(), recursion(states, decay))
    assert {"backbone.1.running_mean", "backbone.1.running_var", "classifier.bias"} <= recursion(states, decay).keys()


def test_the_average_does_not_move_with_the_model_and_leaves_it_alone() -> None:
    model = small_model()
    average = MovingAverage(model, DECAY)
    for step in (1, 2):
        move(model, step)
        before = copy_of(model)
        average.update(model)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    held = copy_of(average.model)
    move(model, 3)
    assert all(torch.equal(held[name], tensor) for name, tensor in average.model.state_dict().items())


def test_the_count_of_batches_stays_a_count_and_the_model_usable() -> None:
    model = small_model()
    average = MovingAverage(model, DECAY)
    for step in range(1, 30):
        move(model, step)
        average.update(model)
    count = average.model.state_dict()[f"backbone.1.{TRACKED}"]
    assert count.dtype == torch.int64
    assert 0 < count <= 29
    images = torch.randn(4, 3, 6, 6)
    assert average.model.eval()(images).isfinite().all()
    assert average.model.train()(images).isfinite().all()
    small_model().load_state_dict(average.model.state_dict())


def test_a_saved_average_continues_as_if_it_had_not_been_interrupted() -> None:
    model = small_model()
    whole = MovingAverage(model, DECAY)
    for step in (1, 2):
        move(model, step)
        whole.update(model)
    resumed = MovingAverage(small_model(), DECAY)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in whole.state_dict().items()})
    move(model, 3)
    for average in (whole, resumed):
        average.update(model)
    continued = resumed.model.state_dict()
    assert all(torch.equal(continued[name], tensor) for name, tensor in whole.model.state_dict().items())


def test_the_trained_model_is_the_average_over_all_steps(tmp_path: Path, config: Config) -> None:
    training = trainer(config, tmp_path)
    states: list[State] = []
    training._optimizer.register_step_post_hook(lambda *_: states.append(copy_of(training._model)))
    training.run(SILENT)
    assert len(states) == 2 * 3
    check_equals(training.model.state_dict(), recursion(states, DECAY))
    last = states[-1]["classifier.weight"]
    assert torch.equal(last_weights(tmp_path)["classifier.weight"], last)
    assert (training.model.classifier.weight - last).abs().max() > 1e-4


def test_without_an_average_the_model_is_the_last_weights(tmp_path: Path, small_config: Path) -> None:
    training = trainer(load_config(str(small_config), ["stage1.epochs=1", "device=cpu"]), tmp_path)
    training.run(SILENT)
    assert torch.equal(training.model.classifier.weight, last_weights(tmp_path)["classifier.weight"])
    assert saved_average(tmp_path) == {}


def test_averaging_changes_nothing_of_the_training(tmp_path: Path, config: Config) -> None:
    trainer(config, tmp_path / "with").run(SILENT)
    without = config.model_copy(update={"stage1": config.stage1.model_copy(update={"ema": 0.0})})
    trainer(without, tmp_path / "without").run(SILENT)
    first, second = last_weights(tmp_path / "with"), last_weights(tmp_path / "without")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_logs_accuracy_is_the_averages(tmp_path: Path, config: Config) -> None:
    training = trainer(config, tmp_path)
    with torch.no_grad():
        for model, favourite in ((training._model, 0), (training.model, 2)):
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(torch.eye(3)[favourite])
    assert set(training.task.predict(training.model, "test").tolist()) == {2}


def test_an_interrupted_run_ends_bit_equal_with_its_average(
    tmp_path: Path, config: Config, interrupt: Interrupt
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = trainer(config, whole)
    uninterrupted.run(SILENT)
    interrupt(trainer(config, parts), 1)
    resumed = trainer(config, parts)
    resumed.run(SILENT)
    for read in (last_weights, saved_average):
        first, second = read(whole), read(parts)
        assert first.keys() == second.keys() == resumed.model.state_dict().keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    average = saved_average(parts)
    for training in (uninterrupted, resumed):
        assert all(torch.equal(average[name], tensor) for name, tensor in training.model.state_dict().items())


def test_stage_one_keeps_the_average_and_extracts_with_it(tmp_path: Path, config: Config) -> None:
    folder = run_stage1(config, tmp_path / "runs")
    kept, average = load_file(folder / "model.safetensors"), saved_average(folder)
    assert kept.keys() == average.keys()
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert kept[f"backbone.bn1.{TRACKED}"].dtype == torch.int64

    data = load_data(config.data)
    model, last = (build_model("resnet32", 3, seed=9).eval() for _ in range(2))
    model.load_state_dict(kept)
    last.load_state_dict(last_weights(folder))
    file = features.open(folder / "features.h5")
    assert file.origin["backbone"]["sha256"] == weights_sha256(model)
    assert weights_sha256(model) != weights_sha256(last)
    np.testing.assert_array_equal(file.classifier.weight, kept["classifier.weight"])

    rows = file["test"]
    images = Normalise(config.transform)(torch.from_numpy(data.splits["test"].images[rows.ids]))
    with torch.inference_mode():
        wanted, others = model.backbone(images), last.backbone(images)
    np.testing.assert_allclose(rows.features[0], wanted, rtol=1e-2, atol=1e-3)
    assert (wanted - others).abs().max() > 0.1
