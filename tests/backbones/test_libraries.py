"""Backbones of timm and torchvision: the classifier's features, names, sizes, seeds, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from gol_decouple.backbones import build_model
from gol_decouple.errors import InputError

C = 7

# Name, image size, the library's name of its classifier, feature size.
SPREAD = [
    ("timm:resnet18", 32, "fc", 512),
    ("timm:resnet50.a1_in1k", 32, "fc", 2048),
    ("timm:seresnet50", 32, "fc", 2048),
    ("timm:vit_tiny_patch16_224", 32, "head", 192),
    ("timm:swin_tiny_patch4_window7_224", 64, "head.fc", 768),
    ("timm:convnext_atto", 32, "head.fc", 320),
    ("timm:efficientnet_b0", 32, "classifier", 1280),
    ("timm:mobilenetv3_small_100", 32, "classifier", 1024),
    ("timm:regnetx_002", 32, "head.fc", 368),
    ("torchvision:resnet18", 32, "fc", 512),
    ("torchvision:resnet50.IMAGENET1K_V1", 32, "fc", 2048),
    ("torchvision:alexnet", 64, "classifier.6", 4096),
    ("torchvision:densenet121", 32, "classifier", 1024),
    ("torchvision:mobilenet_v3_small", 32, "classifier.3", 1024),
    ("torchvision:efficientnet_b0", 32, "classifier.1", 1280),
    ("torchvision:convnext_tiny", 32, "classifier.2", 768),
    ("torchvision:swin_t", 32, "head", 768),
    ("torchvision:vit_b_32", 64, "heads.head", 768),
    ("torchvision:shufflenet_v2_x0_5", 32, "fc", 1024),
]


def plain(name: str, size: int) -> nn.Module:
    """The library's own model."""
    library, _, rest = name.partition(":")
    if library == "timm":
        return timm.create_model(rest, num_classes=C, **({"img_size": size} if "vit" in rest or "swin" in rest else {}))
    architecture = rest.partition(".")[0]
    return models.get_model(
        architecture, num_classes=C, **({"image_size": size} if architecture.startswith("vit") else {})
    )


@pytest.mark.parametrize(("name", "size", "classifier", "feature_size"), SPREAD)
def test_features_are_what_the_librarys_classifier_sees(
    name: str, size: int, classifier: str, feature_size: int
) -> None:
    model = build_model(name, C, seed=0, size=size)
    assert model.training
    assert (model.classifier_name, model.classifier.in_features) == (classifier, feature_size)
    theirs = plain(name, size)
    weights = {f"{classifier}.{part}": tensor for part, tensor in model.classifier.state_dict().items()}
    theirs.load_state_dict({**model.backbone.state_dict(), **weights})
    images = torch.rand(2, 3, size, size)
    seen = []
    theirs.eval().get_submodule(classifier).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), theirs(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.backbone(images), seen[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timm:resnet5", "did you mean 'timm:resnet50'"),
        ("timm:resnet50.nonsense", "there is timm:resnet50.a1_in1k, "),
        ("timm:resnet50.a1_in1", "did you mean 'timm:resnet50.a1_in1k'"),
        ("timm:", "in Python, timm.list_models() has them all"),
        ("timm:resnet*", "did you mean 'timm:resnet"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm"),
        ("torchvision:resnet51", "did you mean 'torchvision:resnet50'"),
        ("torchvision:fcn_resnet50", "torchvision:"),
        ("torchvision:resnet50.IMAGENET1K_V9", "did you mean 'torchvision:resnet50.IMAGENET1K_V"),
        ("resnet50", "did you mean 'timm:resnet50' or 'torchvision:resnet50'?"),
        ("seresnet50.a1_in1k", "did you mean 'timm:seresnet50.a1_in1k'?"),
        ("resnet23", "did you mean 'resnet32'? choose from: resnet32, timm:NAME, torchvision:NAME"),
        ("tim:resnet50", "choose from: resnet32, timm:NAME, torchvision:NAME"),
    ],
)
def test_unknown_names_are_told_near_ones(name: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        build_model(name, C, seed=0)
    assert error.value.message == f"unknown backbone {name!r}"
    assert hint in (error.value.hint or "")
    assert len(error.value.hint or "") < 200


@pytest.mark.parametrize(
    "name",
    [
        "timm:deit_tiny_distilled_patch16_224",
        "timm:resnetv2_50x1_bit",
        "timm:volo_d1_224",
        "torchvision:squeezenet1_1",
        "torchvision:googlenet",
        "torchvision:inception_v3",
    ],
)
def test_models_without_a_single_linear_classifier_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"backbone {name} cannot be used: .* classifier"):
        build_model(name, C, seed=0)


def test_what_follows_the_last_linear_layer_makes_it_no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, C)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(images.mean(dim=(2, 3))) * 2

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Scaled())
    with pytest.raises(InputError, match="no single linear classifier"):
        build_model("timm:resnet18", C, seed=0, size=8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm:vit_tiny_patch16_224", 8),
        ("timm:inception_v3", 32),
        ("torchvision:vit_b_32", 65),
        ("torchvision:alexnet", 16),
    ],
)
def test_images_of_a_size_that_the_backbone_cannot_take(name: str, size: int) -> None:
    with pytest.raises(InputError, match=f"backbone {name} does not take images of {size}x{size}: ..") as error:
        build_model(name, C, seed=0, size=size)
    assert "transform.size" in (error.value.hint or "")


def test_weights_follow_the_seed_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, same, other = (build_model("timm:resnet18", C, seed=seed, size=32).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])
    assert first["backbone.layer1.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)


def test_the_blank_image_moves_no_statistics() -> None:
    fresh, built = (
        plain("timm:resnet18", 32).state_dict(),
        build_model("timm:resnet18", C, seed=0, size=32).state_dict(),
    )
    moving = [name for name in fresh if "running" in name or "num_batches" in name]
    assert moving
    assert all(torch.equal(fresh[name], built[f"backbone.{name}"]) for name in moving)


@pytest.mark.parametrize(
    "name",
    ["timm:resnet18", "timm:seresnet50", "torchvision:resnet18", "torchvision:mobilenet_v2", "timm:convnext_atto"],
)
def test_pooled_features_keep_float32_under_autocast(name: str) -> None:
    model = build_model(name, C, seed=0, size=64).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.backbone(torch.rand(4, 3, 64, 64))
        assert model(torch.rand(4, 3, 64, 64)).dtype is torch.bfloat16
    assert features.dtype is torch.float32
    assert (features != features.bfloat16().float()).float().mean() > 0.2


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "torchvision:alexnet"])
def test_other_features_are_float32_under_autocast(name: str) -> None:
    model = build_model(name, C, seed=0, size=64).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.backbone(torch.rand(1, 3, 64, 64)).dtype is torch.float32


def test_libraries_are_imported_only_when_asked_for() -> None:
    lines = [
        "import sys",
        "from gol_decouple.backbones import build_model",
        "from gol_decouple.stages import backbone",
        "build_model('resnet32', 3, 0)",
        "assert 'timm' not in sys.modules and 'huggingface_hub' not in sys.modules",
        "from gol_decouple.backbones import checkpoints",
        "assert 'timm' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
