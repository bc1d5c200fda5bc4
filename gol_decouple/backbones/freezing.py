"""Which parts of a backbone are trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gol_decouple.backbones import ImageClassifier
from gol_decouple.errors import InputError


def train_only(model: ImageClassifier, parts: Sequence[str]) -> None:
    """Freeze the backbone but for `parts`, named as in its state: no gradient, and statistics that do not move.

    Raises:
        InputError: there is no such part.
    """
    freeze_all_but(model.backbone, parts)
    modules = [name for name, _ in model.backbone.named_modules()]
    model.frozen = tuple(
        name for name in modules if not any(_within(name, part) or _within(part, name) for part in parts)
    )


def freeze_all_but(backbone: nn.Module, parts: Sequence[str]) -> None:
    """Give only the weights of `parts`, named as in the backbone's state, a gradient.

    Raises:
        InputError: there is no such part.
    """
    parameters = dict(backbone.named_parameters())
    for part in parts:
        if not part or not any(_within(name, part) for name in parameters):
            raise InputError(
                f"backbone.trainable: the backbone has no part {part!r}",
                f"its parts: {', '.join(dict.fromkeys(name.split('.')[0] for name in parameters))}",
            )
    for name, parameter in parameters.items():
        parameter.requires_grad_(any(_within(name, part) for part in parts))


def _within(name: str, part: str) -> bool:
    return not part or name == part or name.startswith(f"{part}.")
