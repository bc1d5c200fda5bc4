"""Splitting a library's model into a backbone and its classifier, by watching it work on one blank image."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from gol_decouple.backbones.published import wrong_size
from gol_decouple.errors import InputError

Call = tuple[str, Any]  # a module's name and what it put out


class Features(nn.Module):
    """Stands where the classifier was: lets features [N, D] through, in float32 also under autocast."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.float()


def split_off_classifier(model: nn.Module, name: str, num_classes: int, size: int) -> tuple[str, int]:
    """Take the last linear layer out of `model`, which then puts out the features [N, D] that the layer saw.

    The layer is the one whose output, untouched, is the model's: what is computed from it otherwise is no backbone's.
    The last map before the features are pooled becomes float32, so that under autocast their mean does: features are
    cached, and bfloat16 would leave them three digits.

    Returns:
        The layer's name in the model, and D.

    Raises:
        InputError: the model takes no images [size, size], or its logits are not one linear layer's output.
    """
    calls, logits = _watch(model, name, size)
    ends = [at for at, output in calls if output is logits and isinstance(model.get_submodule(at), nn.Linear)]
    names = [at for at, _ in calls]
    if len(ends) != 1 or names.count(ends[0]) != 1 or logits.shape != (1, num_classes):
        raise InputError(
            f"backbone {name} cannot be used: it has no single linear classifier, whose output its logits are",
            "choose one that has: most do, but not models with a convolution at the end, or trained by distillation",
        )
    feature_size = int(model.get_submodule(ends[0]).in_features)  # type: ignore[arg-type]
    model.set_submodule(ends[0], Features())
    maps = [at for at, output in calls if _has_positions(output)]
    if maps:
        model.get_submodule(maps[-1]).register_forward_hook(_in_float32)
    return ends[0], feature_size


def _watch(model: nn.Module, name: str, size: int) -> tuple[list[Call], Any]:
    """What each module of the model puts out for a blank image, in the order they finish, and the model's output."""
    calls: list[Call] = []

    def note(at: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        calls.append((at, output))

    modules = {at: module for at, module in model.named_modules() if at}
    hooks = [module.register_forward_hook(partial(note, at)) for at, module in modules.items()]
    try:
        with torch.inference_mode():
            return calls, model.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise wrong_size(name, size, error) from None
    finally:
        model.train()
        for hook in hooks:
            hook.remove()


def _has_positions(output: Any) -> bool:
    """Whether it is a map [1, D, H, W] or tokens [1, T, D] of more than one position."""
    if not isinstance(output, torch.Tensor):
        return False
    return (output.ndim == 4 and output.shape[2:].numel() > 1) or (output.ndim == 3 and output.shape[1] > 1)


def _in_float32(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()
