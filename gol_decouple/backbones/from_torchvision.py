"""torchvision's classification models; a tag, as in `resnet50.IMAGENET1K_V1`, names one of several weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision import models

from gol_decouple.backbones import published as files
from gol_decouple.backbones.network_input import Interpolation, NetworkInput
from gol_decouple.backbones.tensor_files import read_tensors
from gol_decouple.errors import InputError

# Trained with further classifiers in the middle of the network.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
# Built for images of one size.
_SIZED = "vit_"


def find(name: str) -> bool:
    """Whether torchvision has that model, and weights of that tag if there is one."""
    architecture, _, tag = name.partition(".")
    return architecture in _architectures() and (not tag or tag in models.get_model_weights(architecture).__members__)


def names(like: str) -> list[str]:
    """Architectures; of one that exists, those with its tags."""
    architecture = like.partition(".")[0]
    if architecture not in _architectures():
        return _architectures()
    return [f"{architecture}.{tag}" for tag in models.get_model_weights(architecture).__members__ if tag != "DEFAULT"]


def network_input(name: str) -> NetworkInput:
    """The images that the weights of that tag, or torchvision's default ones, take."""
    preset = _weights(name).transforms()
    size, resize = preset.crop_size[0], preset.resize_size[0]
    interpolation: Interpolation = "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    return NetworkInput(size, max(size, resize), interpolation, tuple(preset.mean), tuple(preset.std))


def build(name: str, num_classes: int, size: int) -> nn.Module:
    """The model with random weights; a vision transformer is one for images of [size, size].

    Raises:
        InputError: it cannot be built for that size, or needs more than one classifier.
    """
    architecture = name.partition(".")[0]
    if architecture in _WITH_AUXILIARY:
        raise InputError(
            f"backbone torchvision:{name} cannot be used: it is trained with several classifiers",
            "choose one with a single classifier: timm:inception_v3, torchvision:resnet50",
        )
    try:
        model: nn.Module = models.get_model(architecture, num_classes=num_classes, **arguments(name, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise files.wrong_size(f"torchvision:{name}", size, error) from None
    return model


def arguments(name: str, size: int) -> dict[str, Any]:
    """What torchvision has to be told to build the model for images [size, size]."""
    return {"image_size": size} if name.startswith(_SIZED) else {}


def is_published(name: str) -> bool:
    """Whether there are weights: torchvision has some for each of its classification models."""
    return find(name)


def published(name: str, size: int) -> dict[str, torch.Tensor]:
    """The published weights, a vision transformer's fitted to images [size, size]; from torch's hub folder if there.

    Raises:
        InputError: the file there holds something else, or is damaged.
        EnvironmentFailure: it is not there and cannot be downloaded.
    """
    weights = _weights(name)
    path = files.place(weights.url.rpartition("/")[2])
    if not path.is_file():
        files.fetch(f"torchvision:{name}", weights.url, path)
    read_tensors(path)  # refuses what is damaged or holds code: torchvision reads anything
    try:
        model: nn.Module = models.get_model(name.partition(".")[0], weights=weights)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise files.wrong_weights(f"torchvision:{name}", path, error) from None
    state: dict[str, torch.Tensor] = model.state_dict()
    if name.startswith(_SIZED):
        state = models.vision_transformer.interpolate_embeddings(size, model.patch_size, state)
    return state


def _architectures() -> list[str]:
    found: list[str] = models.list_models(module=models)
    return found


def _weights(name: str) -> Any:
    architecture, _, tag = name.partition(".")
    return models.get_model_weights(architecture)[tag or "DEFAULT"]
