"""What is not trained does not move: weights without gradient, BatchNorm statistics, and the moving average."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.freezing import train_only
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.stages.training import Trainer


def trained(config: Path, folder: Path, parts: tuple[str, ...], name: str, *settings: str) -> tuple[Trainer, dict]:
    """A trainer after one epoch in which only `parts` were trained, and the state before."""
    settings = ("stage1.epochs=1", "stage1.lr=0.1", "stage1.weight_decay=0.1", "stage1.momentum=0.9", *settings)
    loaded = load_config(str(config), settings)
    data = load_data(loaded.data)
    model = build_model(name, data.num_classes, seed=0, size=8 if name != "resnet32" else None)
    train_only(model, parts)
    before = copy.deepcopy(model.state_dict())
    folder.mkdir(exist_ok=True)
    trainer = Trainer(model, data, loaded, folder)
    trainer.run(SILENT)
    return trainer, before


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet32", ("layer3",)),
        ("resnet32", ()),
        ("resnet32", ("layer1", "layer3.4.bn2")),
        ("timm:resnet10t", ("layer4",)),
        ("torchvision:resnet18", ("bn1", "layer4.1")),
    ],
)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_frozen_is_bit_equal_after_an_epoch_and_the_rest_moved(
    tmp_path: Path, small_config: Path, name: str, parts: tuple[str, ...], ema: float
) -> None:
    trainer, before = trained(small_config, tmp_path, parts, name, f"stage1.ema={ema}")
    assert (trainer.model is trainer._model) is (ema == 0)
    after = trainer.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    wanted = {key for key in before if key.startswith(("classifier.", *(f"backbone.{part}." for part in parts)))}
    assert moved == wanted
    assert any("running_mean" in key for key in moved) is bool(parts)
    assert all(torch.equal(before[key], trainer._model.state_dict()[key]) for key in before.keys() - wanted)


def test_the_optimiser_holds_only_what_is_trained(tmp_path: Path, small_config: Path) -> None:
    trainer, _ = trained(small_config, tmp_path, ("layer3",), "resnet32")
    held = {id(parameter) for group in trainer._optimizer.param_groups for parameter in group["params"]}
    named = dict(trainer.model.named_parameters())
    assert {key for key in named if id(named[key]) in held} == {
        key for key in named if key.startswith(("backbone.layer3.", "classifier."))
    }
    assert all((named[key].grad is not None) is (id(named[key]) in held) for key in named)


def test_frozen_modules_stay_in_eval_mode_and_come_back_with_the_others() -> None:
    model = build_model("resnet32", 3, seed=0)
    train_only(model, ["layer2.0"])
    for _ in range(2):
        model.eval()
        assert not any(module.training for module in model.modules())
        model.train()
        training = {name for name, module in model.backbone.named_modules() if module.training}
        assert training == {"", "layer2"} | {name for name in training if name.startswith("layer2.0")}
        assert len(training) > 3


def test_a_parameter_of_the_backbones_own_is_a_part(tmp_path: Path) -> None:
    model = build_model("timm:vit_tiny_patch16_224", 3, seed=0, size=32)
    train_only(model, ["cls_token", "blocks.11"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if not name.startswith(("backbone.blocks.11.", "classifier."))} == {
        "backbone.cls_token"
    }


@pytest.mark.parametrize("part", ["layer5", "layer", "classifier", "", "layer1.", "bn1.running_mean"])
def test_a_name_that_is_no_part(part: str) -> None:
    model: ImageClassifier = build_model("resnet32", 3, seed=0)
    with pytest.raises(InputError, match=f"backbone.trainable: the backbone has no part '{part}'") as error:
        train_only(model, ["layer1", part])
    assert error.value.hint == "its parts: conv1, bn1, layer1, layer2, layer3"
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.frozen == ()
