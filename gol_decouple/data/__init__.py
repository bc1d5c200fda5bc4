"""Images and labels: every kind of data, made long-tailed on request."""

from __future__ import annotations

from collections.abc import Callable

from gol_decouple.data import digits, npz
from gol_decouple.data.dataset import SPLITS, Dataset, Split, check
from gol_decouple.settings import DataConfig

__all__ = ["SPLITS", "Dataset", "Split", "load_data"]


def _cifar(config: DataConfig) -> Dataset:
    from gol_decouple.data import cifar  # imports torchvision: seconds that the other kinds need not spend

    return cifar.load(config)


_LOADERS: dict[str, Callable[[DataConfig], Dataset]] = {
    "digits": digits.load,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "npz": npz.load,
}


def load_data(config: DataConfig) -> Dataset:
    """The dataset a config names, checked, with its train split long-tailed if `data.imbalance_factor` says so.

    Raises:
        InputError: data that is missing, malformed, or too small for the imbalance factor.
    """
    where = f"data.kind = {config.kind!r}"
    dataset = _LOADERS[config.kind](config)
    check(dataset, where)
    if config.imbalance_factor is not None and config.imbalance_factor > 1:
        dataset = dataset.long_tailed(config.imbalance_factor, config.imbalance_type, config.seed)
        check(dataset, f"{where}, imbalance factor {config.imbalance_factor:g}")
    return dataset
