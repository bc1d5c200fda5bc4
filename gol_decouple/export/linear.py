"""A model's tensors under the names of its backbone's library, with a classifier that is an ordinary linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from gol_decouple.backbones import libraries
from gol_decouple.backbones.class_order import LinearLayer
from gol_decouple.errors import InputError
from gol_decouple.runtime import generator
from gol_decouple.stages.restored import Restored
from gol_decouple.stages.restored_detector import RestoredDetector

Tensors: TypeAlias = dict[str, torch.Tensor]
INSTEAD = "--format onnx writes it as it is; the methods gumbel, softmax, crt and others are linear"


@dataclass(frozen=True)
class Library:
    """Which program builds a network, and how.

    Attributes:
        name, architecture: the library, and what it calls the network.
        classifier: its name of the classifier's layer.
        arguments: what it has to be told beside the number of classes.
    """

    name: str
    architecture: str
    classifier: str
    arguments: dict[str, Any]


def library_of(model: Restored) -> Library:
    """The library that a run's backbone is from."""
    full_name, size = model.config.backbone.name, model.config.transform.size
    prefix, _, name = full_name.rpartition(":")
    if not prefix or size is None:  # a library's backbone always has a size
        return Library("gol_decouple", name, "classifier", {})
    arguments = libraries.find(full_name)[0].arguments(name, size)
    return Library(prefix, name.partition(".")[0], model.model.classifier_name, arguments)


def tensors_of(model: Restored) -> Tensors:
    """All tensors of the model, the classifier that was chosen among them, as `library_of`'s network has them.

    Raises:
        InputError: the classifier is no linear layer whose scores can be told by the activation.
    """
    library, tensors = library_of(model), own_tensors(model)
    if library.name == "gol_decouple":
        return tensors
    names = {"backbone.": "", "classifier.": f"{library.classifier}."}
    return {_renamed(name, names): tensor for name, tensor in tensors.items()}


def own_tensors(model: Restored) -> Tensors:
    """All tensors of the model, under our names.

    Raises:
        InputError: as `tensors_of`.
    """
    weight, bias = linear_of(model)
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.model.state_dict().items()}
    return tensors | {"classifier.weight": weight, "classifier.bias": bias}


def linear_of(model: Restored | RestoredDetector, instead: str = INSTEAD) -> LinearLayer:
    """Weight [C, D] and bias [C] of the classifier, whose scores are the activation of W x + b.

    A detector's softmax has a row more, that of background.

    Args:
        instead: what to do where it is no such classifier.

    Raises:
        InputError: it is none; why, and what to do.
    """
    classifier, loss, name, num_classes = model.classifier, model.loss, model.name, len(model.class_names)
    if classifier.alignment is not None:
        raise InputError(f"{name} is no linear layer: what it adds to the logits differs from image to image", instead)
    if classifier.normalise:
        raise InputError(f"{name} is no linear layer: it scales features to length 1 first", instead)
    background = int(loss.background and not loss.activation.one_vs_all)
    if extra := loss.extra_columns - background:
        of = "classes and background" if background else "the classes"
        raise InputError(f"{name} has {extra} columns beside those of {of}, and scores by all of them", instead)
    logits = 3.0 * torch.randn(8, num_classes + background, generator=generator(0))
    if not torch.allclose(loss.scores(logits), loss.activation.scores(logits)[:, :num_classes]):
        raise InputError(f"the scores of {name} are not the {loss.activation.name} of its logits", instead)
    layer = classifier.to_linear()
    return LinearLayer(layer.weight.detach(), layer.bias.detach())


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """A tensor's name, with another prefix."""
    prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
    return prefixes[prefix] + name.removeprefix(prefix)
