"""Checkpoints for backbones of libraries: theirs, the field's, ours; and the way back into a file's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.checkpoints import load_checkpoint
from gol_decouple.errors import InputError

C = 5
Weights = dict[str, torch.Tensor]

LIBRARY_MODELS: dict[str, Callable[[], nn.Module]] = {
    "timm:resnet18": lambda: timm.create_model("resnet18", num_classes=C),
    "timm:convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=C),
    "timm:vit_tiny_patch16_224": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=C, img_size=32),
    "timm:mobilenetv3_small_100": lambda: timm.create_model("mobilenetv3_small_100", num_classes=C),
    "torchvision:resnet18": lambda: models.resnet18(num_classes=C),
    "torchvision:mobilenet_v3_small": lambda: models.mobilenet_v3_small(num_classes=C),
    "torchvision:convnext_tiny": lambda: models.convnext_tiny(num_classes=C),
    "torchvision:vit_b_32": lambda: models.vit_b_32(num_classes=C, image_size=32),
}
WRAPPED = {
    "plain": lambda state: state,
    "module": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3},
    "timm's training": lambda state: {"state_dict": state, "state_dict_ema": {n: t + 1 for n, t in state.items()}},
    "model": lambda state: {"model": {f"backbone.{name}": tensor for name, tensor in state.items()}},
}


@pytest.fixture(scope="module")
def states() -> dict[str, Weights]:
    """The states of the libraries' own models, each made once."""
    torch.manual_seed(7)
    return {name: make().state_dict() for name, make in LIBRARY_MODELS.items()}


def ours(name: str) -> ImageClassifier:
    return build_model(name, C, seed=0, size=32)


@pytest.mark.parametrize(
    ("name", "wrapping"),
    # The vision transformer of torchvision is large: once is enough.
    [(name, how) for name in LIBRARY_MODELS for how in WRAPPED if name != "torchvision:vit_b_32" or how == "module"],
)
def test_the_librarys_own_state_loads_whole(
    tmp_path: Path, states: dict[str, Weights], name: str, wrapping: str
) -> None:
    state, path = states[name], tmp_path / "model.pth"
    torch.save(WRAPPED[wrapping](state), path)
    model = ours(name)
    match = load_checkpoint(model, path)
    assert match.has_classifier
    assert match.unused == []
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.backbone.state_dict().items())
    assert torch.equal(model.classifier.weight, state[f"{model.classifier_name}.weight"])
    assert torch.equal(model.classifier.bias, state[f"{model.classifier_name}.bias"])


def test_our_own_state_loads_though_the_library_has_a_part_called_classifier(tmp_path: Path) -> None:
    source, model = ours("torchvision:mobilenet_v3_small"), build_model("torchvision:mobilenet_v3_small", C, 1, 32)
    save_file({name: tensor.contiguous() for name, tensor in source.state_dict().items()}, tmp_path / "a.safetensors")
    assert load_checkpoint(model, tmp_path / "a.safetensors").unused == []
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())


def feature_and_classifier(state: Weights) -> dict[str, object]:
    """The layout of OLTR and classifier-balancing."""
    backbone = {f"module.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    classifier = {f"module.{name}": tensor for name, tensor in state.items() if name.startswith("fc.")}
    return {"epoch": 3, "best_acc": 0.5, "state_dict_best": {"feat_model": backbone, "classifier": classifier}}


@pytest.mark.parametrize("name", ["torchvision:resnet152", "timm:resnet18"])
def test_split_models_of_the_field_load(tmp_path: Path, name: str) -> None:
    model, source = ours(name), build_model(name, C, seed=5, size=32)
    state = source.backbone.state_dict() | {f"fc.{part}": t for part, t in source.classifier.state_dict().items()}
    torch.save(feature_and_classifier(state), tmp_path / "oltr.pth")
    match = load_checkpoint(model, tmp_path / "oltr.pth")
    assert match.has_classifier
    assert all(torch.equal(tensor, source.state_dict()[key]) for key, tensor in model.state_dict().items())
    assert match.found["backbone.layer1.0.conv1.weight"] == (
        *("state_dict_best", "feat_model"),
        "module.layer1.0.conv1.weight",
    )
    assert match.found["classifier.bias"] == ("state_dict_best", "classifier", "module.fc.bias")


def test_the_norm_of_a_head_is_the_backbones(tmp_path: Path, states: dict[str, Weights]) -> None:
    state = {name: tensor for name, tensor in states["timm:convnext_atto"].items() if not name.startswith("head.fc.")}
    assert "head.norm.weight" in state
    torch.save(state, tmp_path / "a.pth")
    match = load_checkpoint(ours("timm:convnext_atto"), tmp_path / "a.pth")
    assert match.found["backbone.head.norm.weight"] == ("head.norm.weight",)
    assert not match.has_classifier
    del state["head.norm.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"1 tensors of the backbone are missing \(head.norm.weight\)"):
        load_checkpoint(ours("timm:convnext_atto"), tmp_path / "a.pth")


def test_a_layer_of_the_backbone_may_be_called_like_a_classifier(tmp_path: Path) -> None:
    model = ImageClassifier(nn.Sequential(), 4, C, classifier_name="fc")
    model.backbone.add_module("head", nn.Linear(6, 4))
    state = {"head.weight": torch.rand(4, 6), "head.bias": torch.rand(4), "fc.weight": torch.rand(C, 4)}
    torch.save(state, tmp_path / "a.pth")
    assert load_checkpoint(model, tmp_path / "a.pth").has_classifier
    assert torch.equal(model.backbone.head.weight, state["head.weight"])
    assert torch.equal(model.classifier.weight, state["fc.weight"])


def test_the_librarys_name_counts_before_other_names_of_classifiers(tmp_path: Path, states: dict[str, Weights]) -> None:
    state = states["timm:resnet18"]
    other = {f"{owner}.{part}": state[f"fc.{part}"] + 1 for owner in ("linear", "head") for part in ("weight", "bias")}
    torch.save(other | state, tmp_path / "a.pth")
    model = ours("timm:resnet18")
    match = load_checkpoint(model, tmp_path / "a.pth")
    assert torch.equal(model.classifier.weight, state["fc.weight"])
    assert match.unused == list(other)


def test_a_classifier_for_other_classes_is_left_out(tmp_path: Path, states: dict[str, Weights]) -> None:
    torch.save(states["torchvision:mobilenet_v3_small"], tmp_path / "a.pth")
    model = build_model("torchvision:mobilenet_v3_small", C + 1, seed=0, size=32)
    match = load_checkpoint(model, tmp_path / "a.pth")
    assert not match.has_classifier
    assert "classifier.3.weight is [5, 1024], not [6, 1024]: left out" in match.table()


@pytest.mark.parametrize("layout", [*WRAPPED.values(), feature_and_classifier])
def test_the_keys_lead_to_each_tensor_in_the_file(
    tmp_path: Path, states: dict[str, Weights], layout: Callable[[Weights], dict[str, object]]
) -> None:
    path = tmp_path / "a.pth"
    torch.save(layout(states["torchvision:resnet18"]), path)
    model = ours("torchvision:resnet18")
    told = json.loads(json.dumps(load_checkpoint(model, path).as_dict()))
    assert (told["path"], told["format"]) == (str(path), "torch")
    assert told["tensors"].keys() == model.state_dict().keys()
    tree = torch.load(path, weights_only=True)
    for name, keys in told["tensors"].items():
        found = tree
        for key in keys:
            found = found[key]
        assert torch.equal(found, model.state_dict()[name]), name


def test_safetensors_have_one_key_for_a_tensor(tmp_path: Path, states: dict[str, Weights]) -> None:
    state = {f"model.{name}": tensor.contiguous() for name, tensor in states["timm:resnet18"].items()}
    save_file(state, tmp_path / "a.safetensors")
    told = load_checkpoint(ours("timm:resnet18"), tmp_path / "a.safetensors").as_dict()
    assert told["format"] == "safetensors"
    assert told["tensors"]["classifier.weight"] == ["model.fc.weight"]
    assert {key for (key,) in told["tensors"].values()} == state.keys()
