"""Images and labels: every kind of data, made long-tailed on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gol_decouple.data import digits, folder, lists, npz
from gol_decouple.data.dataset import SPLITS, Dataset, Split, check, tell
from gol_decouple.data.images import ImageFiles
from gol_decouple.data.repeats import with_repeats_told
from gol_decouple.data.skipping import without_skipped
from gol_decouple.errors import InputError
from gol_decouple.settings import AnnotationsConfig, DataConfig, ListsConfig

__all__ = ["SPLITS", "Dataset", "Split", "load_data", "tell"]

IN_FILES = ("folder", "list")  # kinds of the user's own image files
DEFAULT_SHARES = {"test": 0.2, "val": 0.1}  # held out of train where these have no such split


def _cifar(config: DataConfig, download: bool = True) -> Dataset:
    from gol_decouple.data import cifar  # imports torchvision: seconds that the other kinds need not spend

    return cifar.load(config, download)


_LOADERS: dict[str, Callable[[DataConfig], Dataset]] = {
    "digits": digits.load,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "npz": npz.load,
    "folder": folder.load,
    "list": lists.load,
}


def load_data(config: DataConfig, look: bool = True, download: bool = True) -> Dataset:
    """The dataset a config names, checked.

    Images that `data.skip` names are left out. Missing splits are held out of train where the config asks for it, then
    train is made long-tailed if it asks for that: what is held out is spread over the classes as the data are, and
    never seen in training.

    Args:
        look: at every image file, of which none may be missing or damaged; False opens none of them.
        download: what is not at hand; False: that is an error.

    Raises:
        InputError: data that is missing, malformed, or too small for the imbalance factor.
    """
    where = f"data.kind = {config.kind!r}"
    if config.kind == "lvis":
        raise InputError(f"{where} has images with boxes, not with one label", "data.lvis.load_annotated loads them")
    _refuse_unused(config, where)
    loader = _LOADERS[config.kind]
    dataset = _cifar(config, download) if loader is _cifar else loader(config)
    if config.skip:
        dataset = without_skipped(dataset, Path(config.skip))
    for split in dataset.splits.values():
        if look and isinstance(split.images, ImageFiles):
            split.images.look()
    dataset = _with_missing_splits(dataset, config, where)
    check(dataset, where)
    if config.imbalance_factor is not None and config.imbalance_factor > 1:
        dataset = dataset.long_tailed(config.imbalance_factor, config.imbalance_type, config.seed)
        check(dataset, f"{where}, imbalance factor {config.imbalance_factor:g}")
    return with_repeats_told(dataset)


def _refuse_unused(config: DataConfig, where: str) -> None:
    """Settings for images in files or in lists would do nothing, silently, with another kind of data."""
    if config.skip and config.kind not in IN_FILES:
        raise InputError(f"data.skip leaves out images in files, but {where} has none", "leave it unset")
    for key, default, kind, has in (
        ("lists", ListsConfig(), "list", "lists"),
        ("class_names", None, "list", "lists"),
        ("annotations", AnnotationsConfig(), "lvis", "annotations"),
        ("limit", None, "lvis", "annotations"),
    ):
        if config.kind != kind and getattr(config, key) != default:
            raise InputError(f"data.{key} is set, but {where} has no {has}", f"--set data.kind={kind}")


def _with_missing_splits(dataset: Dataset, config: DataConfig, where: str) -> Dataset:
    for name, asked in (("test", config.test_fraction), ("val", config.val_fraction)):
        if name in dataset.splits:
            if asked:
                raise InputError(f"data.{name}_fraction = {asked:g}, but {where} has a {name} split", "leave it unset")
            continue
        share = DEFAULT_SHARES[name] if asked is None and config.kind in IN_FILES else asked
        if not share:
            continue
        held_out = dataset.with_held_out(name, share, config.seed)
        # Nobody asked for val, and nothing needs it: classes of one image do not have to give any.
        if asked is not None or name != "val" or len(held_out.splits[name]):
            dataset = held_out
    return dataset
