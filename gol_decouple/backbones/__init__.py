"""Backbones by name, and the image classifier that stage one trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gol_decouple.backbones.cifar_resnet import CifarResNet
from gol_decouple.errors import unknown
from gol_decouple.runtime import stream_seed


@dataclass(frozen=True)
class Backbone:
    """A network from images [N, 3, H, W] to features [N, feature_size]."""

    build: Callable[[], nn.Module]
    feature_size: int


BACKBONES = {
    "resnet32": Backbone(lambda: CifarResNet(32), feature_size=64),
}


class ImageClassifier(nn.Module):
    """A backbone and the linear classifier on its features: images [N, 3, H, W] to logits [N, C].

    Attributes:
        has_classifier: whether the classifier was trained; it is not where only a backbone was loaded.
    """

    def __init__(self, backbone: nn.Module, feature_size: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_size, num_classes)
        self.has_classifier = True
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.backbone(images))
        return logits


def build_model(name: str, num_classes: int, seed: int) -> ImageClassifier:
    """A freshly initialised model, its weights drawn from `seed`, in channels-last memory.

    Raises:
        InputError: no backbone has that name.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed))
        backbone = BACKBONES[name]
        model = ImageClassifier(backbone.build(), backbone.feature_size, num_classes)
    return model.to(memory_format=torch.channels_last)


def with_sync_batchnorm(model: nn.Module) -> nn.Module:
    """`model` with every BatchNorm replaced by one over all processes; names and tensors stay."""
    import timm.layers  # knows timm's own BatchNorms too, which have an activation

    converted: nn.Module = timm.layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined,no-untyped-call]
    return converted
