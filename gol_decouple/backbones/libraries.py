"""Backbones of libraries, by names like `timm:resnet50`; a library is only imported when it is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from gol_decouple.backbones.network_input import NetworkInput
from gol_decouple.errors import InputError, few

# What lists each library's models, in Python.
LIBRARIES = {"timm": "timm.list_models()", "torchvision": "torchvision.models.list_models()"}


class Library(Protocol):
    """What the module of a library offers; names are the library's own, without its prefix."""

    def find(self, name: str) -> bool:
        """Whether the library has a model of that name."""

    def names(self, like: str) -> list[str]:
        """The names among which those near to `like` are looked for."""

    def network_input(self, name: str) -> NetworkInput:
        """The images that the model was made for."""

    def build(self, name: str, num_classes: int, size: int) -> nn.Module:
        """The library's whole model with random weights, from images [N, 3, size, size] to logits [N, C]."""

    def arguments(self, name: str, size: int) -> dict[str, Any]:
        """What the library has to be told, beside the number of classes, to build the model for images [size, size]."""

    def is_published(self, name: str) -> bool:
        """Whether there are weights to download."""

    def published(self, name: str, size: int) -> dict[str, torch.Tensor]:
        """The published weights by their names in the model; downloaded unless they are already here."""


def find(name: str, ours: Iterable[str] = ()) -> tuple[Library, str]:
    """The library of a backbone's name, and its own name there.

    Args:
        ours: names of backbones that are no library's, to suggest.

    Raises:
        InputError: there is no such library, or it has no such model.
    """
    prefix, _, model_name = name.partition(":")
    if prefix not in LIBRARIES:
        raise _without_library(name, sorted(ours))
    library = _library(prefix)
    if not library.find(model_name):
        raise InputError(f"unknown backbone {name!r}", _near(library, prefix, model_name))
    return library, model_name


def _library(prefix: str) -> Library:
    if prefix == "timm":
        from gol_decouple.backbones import from_timm

        return from_timm
    from gol_decouple.backbones import from_torchvision

    return from_torchvision


def _without_library(name: str, ours: list[str]) -> InputError:
    found = [f"{prefix}:{name}" for prefix in LIBRARIES if _library(prefix).find(name)]
    near = found or difflib.get_close_matches(name, ours, n=1)
    suggestion = f"did you mean {_or(near)}? " if near else ""
    choices = ", ".join([*ours, *(f"{prefix}:NAME" for prefix in LIBRARIES)])
    return InputError(f"unknown backbone {name!r}", f"{suggestion}choose from: {choices}")


def _near(library: Library, prefix: str, model_name: str) -> str:
    """A hint that names a few models, or the tags of the one whose tag is not known."""
    names = [f"{prefix}:{name}" for name in library.names(model_name)]
    if near := difflib.get_close_matches(f"{prefix}:{model_name}", names, n=3, cutoff=0.75):
        return f"did you mean {_or(near)}?"
    return f"there is {few(names)}: in Python, {LIBRARIES[prefix]} has them all"


def _or(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)
