"""What of stage one's memory is known before it runs, and whether /dev/shm has room for the batches of its workers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gol_decouple import runtime
from gol_decouple.data import Dataset
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.distributed import World
from gol_decouple.progress import Progress
from gol_decouple.runtime import default_workers, size_text
from gol_decouple.settings import Config

SHARED = Path("/dev/shm")
# Batches that a worker has ready, as PyTorch's DataLoader has it, and one that is worked on.
_BATCHES_A_WORKER = 3


def tell_memory(
    model: nn.Module,
    dataset: Dataset | AnnotatedDataset,
    config: Config,
    world: World,
    device: torch.device,
    progress: Progress,
) -> None:
    """Say what the model, images in arrays and the workers' batches take, in this process; layers' outputs come on top.

    Warns where /dev/shm, through which batches come, has no room for them: a worker would be killed by it.
    """
    workers = default_workers() if config.stage1.num_workers is None else config.stage1.num_workers
    parts = [f"the model with its gradients and momentum {size_text(_of_model(model, config))}"]
    if images := _of_arrays(dataset):
        parts.append(f"images {size_text(images)}")
    batches = workers * _BATCHES_A_WORKER * _of_batch(dataset, config, world)
    if batches:
        parts.append(f"batches of workers {size_text(batches)}")
    free = runtime.free_memory(device)
    progress.say(f"memory: {', '.join(parts)}, and what passes between layers; {size_text(free)} free")
    room = _room(SHARED)
    if room is not None and batches > room:
        told = f"{workers} workers have batches of {size_text(batches)}, and {SHARED} has room for {size_text(room)}"
        progress.warn(f"{told}: lower stage1.num_workers, or give it more room (docker run --shm-size=8g)")


def _of_model(model: nn.Module, config: Config) -> int:
    """Weights, and of what is trained the gradient, the momentum and the moving average."""
    state = sum(int(tensor.nbytes) for tensor in model.state_dict().values())
    if not config.stage1.epochs:
        return state
    trained = sum(int(parameter.nbytes) for parameter in model.parameters() if parameter.requires_grad)
    return state * (2 if config.stage1.ema else 1) + 2 * trained


def _of_arrays(dataset: Dataset | AnnotatedDataset) -> int:
    """Images that are in memory, not in files."""
    arrays = [split.images for split in dataset.splits.values()] if isinstance(dataset, Dataset) else []
    return sum(images.nbytes for images in arrays if isinstance(images, np.ndarray))


def _of_batch(dataset: Dataset | AnnotatedDataset, config: Config, world: World) -> int:
    """The largest that a worker loads; of images with boxes, whose sizes differ, it is not known."""
    if not isinstance(dataset, Dataset):
        return 0
    size = config.transform.size
    height, width = (size, size) if size is not None else max(dataset.splits["train"].sizes)
    trained = -(-config.stage1.batch_size // (config.stage1.passes * world.size)) if config.stage1.epochs else 0
    largest = max(map(len, dataset.splits.values()))
    return 3 * height * width * min(max(trained, config.features.batch_size), largest)


def _room(folder: Path) -> int | None:
    """Bytes that are free on a folder's disk, if there is one."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
