"""CIFAR-10 and CIFAR-100 through torchvision, downloaded on first use."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from gol_decouple.data.dataset import Dataset, make_split
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.settings import DataConfig

_CLASSES: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load(config: DataConfig, download: bool = True) -> Dataset:
    """CIFAR as published: 50,000 train and 10,000 test images of 32x32, classes in label order.

    Raises:
        InputError: without `download`, it is not unpacked in `data.path`.
        EnvironmentFailure: the archive is neither in `data.path` nor can it be downloaded.
    """
    source = _CLASSES[config.kind]
    root = Path(config.path or "data")
    if not download and not (root / source.base_folder).is_dir():
        raise InputError(f"{root} has no {source.base_folder}", "--data-root names the folder that holds it")
    archive = root / source.filename
    try:
        parts = {name: source(str(root), train=name == "train", download=download) for name in ("train", "test")}
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise EnvironmentFailure(
            f"{source.filename} is not in {root} and could not be downloaded: {error}",
            f"fetch {source.url} on a machine with a network and put it at {archive}",
        ) from None
    except (RuntimeError, OSError, EOFError) as error:
        raise EnvironmentFailure(
            f"{source.filename} in {root} is damaged or cannot be written: {error}",
            f"remove {archive} and run again, or name another folder with --data-root",
        ) from None
    splits = {name: make_split(part.data, np.asarray(part.targets), f"{root}") for name, part in parts.items()}
    return Dataset(config.name or config.kind, list(parts["train"].classes), splits)
