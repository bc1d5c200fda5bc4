"""timm's models: their names with tags, the images they take, and the weights their tags stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from gol_decouple.backbones import published as files
from gol_decouple.backbones.network_input import Interpolation, NetworkInput
from gol_decouple.backbones.tensor_files import read_tensors
from gol_decouple.errors import EnvironmentFailure

# What the Hugging Face hub calls a model's weights, unless timm says otherwise.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def find(name: str) -> bool:
    """Whether timm has that architecture, and its tag if there is one."""
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models(architecture):
        return False
    return not tag or name in _tagged(architecture)


def names(like: str) -> list[str]:
    """Architectures; of one that exists, those with its tags."""
    architecture = like.partition(".")[0]
    return _tagged(architecture) if find(architecture) else timm.list_models()


def network_input(name: str) -> NetworkInput:
    """The images that the weights of that tag, or the first of the architecture, were trained on."""
    cfg = _cfg(name)
    size = min(cfg.input_size[1:])
    squeezed = cfg.crop_mode == "squash" and cfg.crop_pct >= 1
    interpolation: Interpolation = "bilinear" if cfg.interpolation == "bilinear" else "bicubic"
    resize = None if squeezed else max(size, int(size / cfg.crop_pct))
    return NetworkInput(size, resize, interpolation, cfg.mean, cfg.std)  # type: ignore[arg-type]


def build(name: str, num_classes: int, size: int) -> nn.Module:
    """The model with random weights; where its input has a fixed size, that is `size`.

    Raises:
        InputError: it cannot be built for that size.
    """
    try:
        return timm.create_model(name, num_classes=num_classes, **arguments(name, size))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise files.wrong_size(f"timm:{name}", size, error) from None


def arguments(name: str, size: int) -> dict[str, Any]:
    """What timm has to be told to build the model for images [size, size]."""
    cfg = _cfg(name)
    return {"img_size": size} if cfg.fixed_input_size and tuple(cfg.input_size[1:]) != (size, size) else {}


def is_published(name: str) -> bool:
    """Whether timm knows where weights for that name lie."""
    return bool(_cfg(name).has_weights)


def published(name: str, size: int) -> dict[str, torch.Tensor]:
    """The published weights, fitted by timm to images of [size, size]; from torch's hub folder if they lie there.

    Raises:
        InputError: the file holds something else, or is damaged.
        EnvironmentFailure: it is not here and cannot be downloaded.
    """
    path = _file(name)
    read_tensors(path)  # refuses what is damaged or holds code
    source = {"file": str(path), "custom_load": False}
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source, **arguments(name, size))
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError, AttributeError) as error:
        raise files.wrong_weights(f"timm:{name}", path, error) from None
    return model.state_dict()


def _tagged(architecture: str) -> list[str]:
    return timm.list_models(architecture, include_tags=True)


def _cfg(name: str) -> PretrainedCfg:
    return get_pretrained_cfg(name) or PretrainedCfg()


def _file(name: str) -> Path:
    """The file of the published weights, downloaded unless it is in torch's hub folder or the hub's own cache."""
    cfg = _cfg(name)
    stem = f"{cfg.architecture}.{cfg.tag}" if cfg.tag else str(cfg.architecture or name)
    found = [path for suffix in (".safetensors", ".pth") if (path := files.place(f"{stem}{suffix}")).is_file()]
    if found:
        return found[0]
    if not cfg.hf_hub_id:
        url = cfg.url if isinstance(cfg.url, str) else cfg.url[0]  # type: ignore[index]
        return files.fetch(f"timm:{name}", url, files.place(f"{stem}.pth"))
    repository, _, revision = cfg.hf_hub_id.partition("@")
    for file in [cfg.hf_hub_filename] if cfg.hf_hub_filename else _HUB_FILES:
        place = files.place(stem + (".safetensors" if file.endswith(".safetensors") else ".pth"))
        if downloaded := files.fetch_from_hub(f"timm:{name}", repository, file, revision or None, place):
            return downloaded
    raise EnvironmentFailure(f"the weights of timm:{name} are no longer at huggingface.co/{repository}")
