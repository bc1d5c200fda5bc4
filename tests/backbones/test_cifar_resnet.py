"""The CIFAR ResNet against its published size and an independent reading of option-A shortcuts."""

from __future__ import annotations

import pytest
import torch

from gol_decouple.backbones import BACKBONES, build_model
from gol_decouple.backbones.cifar_resnet import BasicBlock
from gol_decouple.errors import InputError


def test_resnet32_has_464154_parameters_with_ten_classes() -> None:
    assert sum(parameter.numel() for parameter in build_model("resnet32", 10, seed=0).parameters()) == 464_154


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("size", [8, 32])
def test_features_have_the_size_the_table_says(name: str, size: int) -> None:
    model = build_model(name, 7, seed=0).eval()
    images = torch.randn(2, 3, size, size)
    features = model.backbone(images)
    assert features.shape == (2, BACKBONES[name].feature_size)
    torch.testing.assert_close(model(images), model.classifier(features))


def test_option_a_shortcut_subsamples_and_pads_channels_with_zeros() -> None:
    block = BasicBlock(4, 8, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # the residual branch is then zero, and the block its shortcut
    x = torch.rand(1, 4, 6, 6)
    out = block(x)
    torch.testing.assert_close(out[:, 2:6], x[:, :, ::2, ::2])
    assert (out[:, :2] == 0).all()
    assert (out[:, 6:] == 0).all()


def test_weights_follow_the_seed_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, same, other = (build_model("resnet32", 5, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_features_keep_float32_under_autocast() -> None:
    model = build_model("resnet32", 5, seed=0).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.backbone(torch.randn(2, 3, 16, 16))
    assert features.dtype is torch.float32


def test_unknown_backbone() -> None:
    with pytest.raises(InputError, match="unknown backbone 'resnet23'") as error:
        build_model("resnet23", 10, seed=0)
    assert "resnet32" in (error.value.hint or "")
