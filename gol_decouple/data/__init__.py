"""Images and labels: every kind of data, made long-tailed on request."""

from __future__ import annotations

from collections.abc import Callable

from gol_decouple.data import digits, folder, npz
from gol_decouple.data.dataset import SPLITS, Dataset, Split, check
from gol_decouple.errors import InputError
from gol_decouple.settings import DataConfig

__all__ = ["SPLITS", "Dataset", "Split", "load_data"]

FOLDER_SHARES = {"test": 0.2, "val": 0.1}  # held out of train where a user's folder has no such split


def _cifar(config: DataConfig) -> Dataset:
    from gol_decouple.data import cifar  # imports torchvision: seconds that the other kinds need not spend

    return cifar.load(config)


_LOADERS: dict[str, Callable[[DataConfig], Dataset]] = {
    "digits": digits.load,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "npz": npz.load,
    "folder": folder.load,
}


def load_data(config: DataConfig) -> Dataset:
    """The dataset a config names, checked.

    Missing splits are held out of train where the config asks for it, then train is made long-tailed if it asks for
    that: what is held out is spread over the classes as the data are, and never seen in training.

    Raises:
        InputError: data that is missing, malformed, or too small for the imbalance factor.
    """
    where = f"data.kind = {config.kind!r}"
    dataset = _with_missing_splits(_LOADERS[config.kind](config), config, where)
    check(dataset, where)
    if config.imbalance_factor is not None and config.imbalance_factor > 1:
        dataset = dataset.long_tailed(config.imbalance_factor, config.imbalance_type, config.seed)
        check(dataset, f"{where}, imbalance factor {config.imbalance_factor:g}")
    return dataset


def _with_missing_splits(dataset: Dataset, config: DataConfig, where: str) -> Dataset:
    for name, asked in (("test", config.test_fraction), ("val", config.val_fraction)):
        if name in dataset.splits:
            if asked is not None:
                raise InputError(f"data.{name}_fraction = {asked:g}, but {where} has a {name} split", "leave it unset")
            continue
        share = FOLDER_SHARES[name] if asked is None and config.kind == "folder" else asked
        if share is None:
            continue
        held_out = dataset.with_held_out(name, share, config.seed)
        # Nobody asked for val, and nothing needs it: classes of one image do not have to give any.
        if asked is not None or name != "val" or len(held_out.splits[name]):
            dataset = held_out
    return dataset
