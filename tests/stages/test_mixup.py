"""Mixup: the mixed images and labels against the paper's formula, and its place in stage one's loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Interrupt

from gol_decouple import runtime
from gol_decouple.backbones import build_model
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.progress import SILENT
from gol_decouple.settings import Config
from gol_decouple.stages.classification import MIXUP
from gol_decouple.stages.mixup import mix
from gol_decouple.stages.training import Trainer

LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def trainer(config: Config, folder: Path) -> Trainer:
    data = load_data(config.data)
    folder.mkdir(exist_ok=True)
    return Trainer(build_model(config.backbone.name, data.num_classes, config.seed), data, config, folder)


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def mixed(alpha: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    return mix(images(), alpha, torch.Generator().manual_seed(seed))


def state(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "last.pt", weights_only=True)
    return saved["model"] | {f"momentum {k}": v["momentum_buffer"] for k, v in saved["optimizer"]["state"].items()}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_images_are_mixed_as_in_the_paper(alpha: float, seed: int) -> None:
    result, others, share = mixed(alpha, seed)
    plain = images().numpy().astype(np.float64)
    wanted = share * plain + (1.0 - share) * plain[others.numpy()]
    np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert sorted(others.tolist()) == list(range(6))
    assert 0.0 <= share <= 1.0


def test_the_images_given_stay_as_they_are() -> None:
    given = images()
    mix(given, 1.0, torch.Generator().manual_seed(1))
    assert torch.equal(given, images())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    draws = 3000
    one = torch.zeros(2, 1)
    shares = np.array([mix(one, alpha, torch.Generator().manual_seed(seed))[2] for seed in range(draws)])
    variance = 1.0 / (4.0 * (2.0 * alpha + 1.0))
    # About four standard errors: the variance's own is at most that of a normal distribution.
    assert shares.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / draws))
    assert shares.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / draws))


def test_every_image_meets_every_other_equally_often() -> None:
    draws = 1200
    met = np.zeros((6, 6))
    for seed in range(draws):
        met[np.arange(6), mixed(1.0, seed)[1].numpy()] += 1
    np.testing.assert_allclose(met, draws / 6, atol=5 * np.sqrt(draws * 5 / 36))


def test_equal_generators_mix_equally_and_others_do_not() -> None:
    first, same, other = mixed(1.0, 4), mixed(1.0, 4), mixed(1.0, 5)
    assert torch.equal(first[0], same[0])
    assert torch.equal(first[1], same[1])
    assert first[2] == same[2]
    assert first[2] != other[2]
    assert not torch.equal(first[0], other[0])


def test_the_global_streams_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    mixed(1.0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mixed_cross_entropy(tmp_path: Path, small_config: Path, smoothing: float) -> None:
    settings = ["stage1.mixup=1.0", f"stage1.label_smoothing={smoothing}", "stage1.precision=float32", "device=cpu"]
    training = trainer(load_config(str(small_config), settings), tmp_path)
    training.model.eval()
    losses = []
    for epoch, step in ((0, 0), (0, 1), (1, 0)):
        result, others, share = mix(images(), 1.0, runtime.generator(0, MIXUP, epoch, step))
        with torch.inference_mode():
            logits = training.model(result).numpy().astype(np.float64)
            loss = float(training.task._loss(training.model, images(), LABELS, epoch, step))
        log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        one_hot = np.eye(3)[LABELS.numpy()]
        target = share * one_hot + (1.0 - share) * one_hot[others.numpy()]
        target = (1.0 - smoothing) * target + smoothing / 3
        assert loss == pytest.approx(-np.mean(np.sum(target * log_softmax, axis=1)), rel=1e-5)
        losses.append(loss)
    assert len(set(losses)) == 3


def test_an_interrupted_run_with_mixup_ends_bit_equal(tmp_path: Path, small_config: Path, interrupt: Interrupt) -> None:
    config = load_config(
        str(small_config), ["stage1.mixup=0.2", "stage1.epochs=2", "stage1.batch_size=32", "device=cpu"]
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(config, whole).run(SILENT)
    interrupt(trainer(config, parts), 1)
    trainer(config, parts).run(SILENT)
    first, second = state(whole), state(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)

    without = tmp_path / "without"
    trainer(config.model_copy(update={"stage1": config.stage1.model_copy(update={"mixup": 0.0})}), without).run(SILENT)
    assert not torch.equal(first["classifier.weight"], state(without)["classifier.weight"])


def test_a_model_trained_with_mixup_learns(tmp_path: Path, small_config: Path) -> None:
    training = trainer(load_config(str(small_config), ["stage1.mixup=0.2"]), tmp_path)
    training.run(SILENT)
    labels = load_data(load_config(str(small_config)).data).splits["test"].labels
    assert np.mean(training.task.predict(training.model, "test") == labels) > 0.4
