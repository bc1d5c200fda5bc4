"""A model that several processes train together, each on its share of every batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gol_decouple.backbones import with_sync_batchnorm
from gol_decouple.distributed import World
from gol_decouple.errors import InputError
from gol_decouple.settings import Stage1Config


def check(settings: Stage1Config, device: torch.device) -> None:
    """Raise an InputError for synchronised BatchNorm on a CPU, for which PyTorch has none."""
    if settings.sync_batchnorm and device.type != "cuda":
        raise InputError("stage1.sync_batchnorm = true needs GPUs", "--set stage1.sync_batchnorm=false on a CPU")


def parallel(model: nn.Module, world: World, device: torch.device, sync_batchnorm: bool = False) -> nn.Module:
    """`model`, with gradients averaged over all processes and BatchNorm statistics those of the main one.

    Args:
        sync_batchnorm: BatchNorm normalises by what all processes have in a pass, instead of each by its own.
    """
    if world.size == 1:
        return model
    if sync_batchnorm:
        model = with_sync_batchnorm(model)
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def accumulating(network: nn.Module) -> AbstractContextManager[None]:
    """Inside it, gradients add up in each process and are not averaged yet."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
