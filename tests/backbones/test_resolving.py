"""What a config leaves to the backbone is filled in once, from its library's own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import differing_fields, load_config, to_toml
from gol_decouple.errors import InputError
from gol_decouple.settings import Config

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def resolved(config: Path, name: str, *settings: str) -> Config:
    return resolve(load_config(str(config), [f"backbone.name={name}", *settings]))


def numbers(config: Config) -> tuple[object, ...]:
    transform = config.transform
    return transform.size, transform.resize, transform.interpolation, transform.mean, transform.std


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet32", (None, None, None, *PLAIN)),
        ("timm:resnet50", (224, 235, "bicubic", *IMAGENET)),  # a1_in1k: 224 / 0.95
        ("timm:resnet50.tv_in1k", (224, 256, "bilinear", *IMAGENET)),
        ("timm:vit_tiny_patch16_224", (224, 248, "bicubic", *PLAIN)),
        ("timm:convnext_base.fb_in22k_ft_in1k_384", (384, None, "bicubic", *IMAGENET)),  # whole images, squeezed
        ("timm:resnet101d", (256, 269, "bicubic", *IMAGENET)),
        ("torchvision:resnet50", (224, 232, "bilinear", *IMAGENET)),
        ("torchvision:resnet50.IMAGENET1K_V1", (224, 256, "bilinear", *IMAGENET)),
        ("torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1", (384, 384, "bicubic", *IMAGENET)),
    ],
)
def test_the_backbones_own_input(small_config: Path, name: str, wanted: tuple[object, ...]) -> None:
    config = resolved(small_config, name)
    assert numbers(config) == wanted
    assert (config.transform.flip, config.transform.crop_padding) == (True, 1)


def test_what_is_set_stays(small_config: Path) -> None:
    name, mean = "timm:resnet50", "transform.mean=[0.1,0.2,0.3]"
    assert numbers(resolved(small_config, name, mean)) == (224, 235, "bicubic", (0.1, 0.2, 0.3), IMAGENET[1])
    size = "transform.size=64"
    assert numbers(resolved(small_config, name, size)) == (64, None, "bicubic", *IMAGENET)
    assert numbers(resolved(small_config, name, size, "transform.resize=70"))[:2] == (64, 70)
    assert resolved(small_config, name, "transform.interpolation=bilinear").transform.interpolation == "bilinear"
    assert resolved(small_config, "resnet32", "transform.std=[1,1,1]").transform.std == (1, 1, 1)


@pytest.mark.parametrize("name", ["resnet32", "timm:resnet18", "torchvision:resnet18"])
def test_a_resolved_config_reads_back_and_resolves_to_itself(tmp_path: Path, small_config: Path, name: str) -> None:
    config = resolved(small_config, name, 'backbone.trainable=["layer3"]')
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = resolve(load_config(str(tmp_path / "config.toml")))
    assert differing_fields(config, again) == []
    assert again.backbone.trainable == ("layer3",)


def test_no_part_is_something_else_than_all_parts(small_config: Path, tmp_path: Path) -> None:
    configs = [resolved(small_config, "resnet32", *settings) for settings in ([], ["backbone.trainable=[]"])]
    assert differing_fields(*configs) == ["backbone.trainable: None -> ()"]
    (tmp_path / "config.toml").write_text(to_toml(configs[1]))
    assert load_config(str(tmp_path / "config.toml")).backbone.trainable == ()


def test_a_random_part_of_an_image_needs_a_size(small_config: Path) -> None:
    random = "transform.random_resized_crop=true"
    assert resolved(small_config, "timm:resnet18", random).transform.size == 224
    assert resolved(small_config, "resnet32", random, "transform.size=8").transform.size == 8
    with pytest.raises(InputError, match="random_resized_crop needs transform.size") as error:
        resolved(small_config, "resnet32", random)
    assert error.value.hint == "--set transform.size=64"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet33", [], "unknown backbone 'resnet33'"),
        ("timm:resnet33", [], "unknown backbone 'timm:resnet33'"),
        ("resnet32", ["backbone.pretrained=true"], "there are no published weights of resnet32"),
        ("timm:darknet17", ["backbone.pretrained=true"], "there are no published weights of timm:darknet17"),
        (
            "timm:resnet18",
            ["backbone.pretrained=true", "stage1.checkpoint=my.pth"],
            "backbone.pretrained = true, but stage1.checkpoint = 'my.pth'",
        ),
    ],
)
def test_what_cannot_be_is_refused(small_config: Path, name: str, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(small_config, name, *settings)
