"""Backbones by name, and the image classifier that stage one trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gol_decouple.backbones.cifar_resnet import CifarResNet
from gol_decouple.runtime import stream_seed


@dataclass(frozen=True)
class Backbone:
    """A network from images [N, 3, H, W] to features [N, feature_size]."""

    build: Callable[[], nn.Module]
    feature_size: int
    classifier_name: str


# Ours; those of libraries have names like `timm:resnet50`, see libraries.py.
BACKBONES = {
    "resnet32": Backbone(lambda: CifarResNet(32), feature_size=64, classifier_name="linear"),
}


class ImageClassifier(nn.Module):
    """A backbone and the linear classifier on its features: images [N, 3, H, W] to logits [N, C].

    Attributes:
        classifier_name: what the classifier is called where the backbone comes from, as `fc` or `head.fc`.
        has_classifier: whether the classifier was trained; it is not where only a backbone was loaded.
        frozen: the backbone's modules that stay in eval mode while the others are trained.
    """

    def __init__(
        self, backbone: nn.Module, feature_size: int, num_classes: int, classifier_name: str = "linear"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_size, num_classes)
        self.classifier_name = classifier_name
        self.has_classifier = True
        self.frozen: tuple[str, ...] = ()
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.backbone(images))
        return logits

    def train(self, mode: bool = True) -> ImageClassifier:
        """Training mode for all but what is frozen: there, BatchNorm statistics would move without any gradient."""
        super().train(mode)
        for name in self.frozen:
            self.backbone.get_submodule(name).eval()
        return self


def build_model(name: str, num_classes: int, seed: int, size: int | None = None) -> ImageClassifier:
    """A freshly initialised model, its weights drawn from `seed`, in channels-last memory.

    Args:
        size: of the images, [size, size], that a library's backbone is built for and tried on; None is its own.

    Raises:
        InputError: no backbone has that name, it has no single linear classifier, or it takes no such images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed))
        model = _build(name, num_classes, size)
    return model.to(memory_format=torch.channels_last)


def _build(name: str, num_classes: int, size: int | None) -> ImageClassifier:
    if name in BACKBONES:
        backbone = BACKBONES[name]
        return ImageClassifier(backbone.build(), backbone.feature_size, num_classes, backbone.classifier_name)
    from gol_decouple.backbones.libraries import find
    from gol_decouple.backbones.splitting import split_off_classifier

    library, model_name = find(name, BACKBONES)
    size = size or library.network_input(model_name).size
    with torch.no_grad():
        network = library.build(model_name, num_classes, size)
    classifier_name, feature_size = split_off_classifier(network, name, num_classes, size)
    return ImageClassifier(network, feature_size, num_classes, classifier_name)


def with_sync_batchnorm(model: nn.Module) -> nn.Module:
    """`model` with every BatchNorm replaced by one over all processes; names and tensors stay."""
    import timm.layers  # knows timm's own BatchNorms too, which have an activation

    converted: nn.Module = timm.layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined,no-untyped-call]
    return converted
