"""Images in one NumPy file, under MedMNIST's key names: `train_images`, `train_labels`, `val_...`, `test_...`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gol_decouple.data.dataset import SPLITS, Dataset, make_split
from gol_decouple.errors import InputError
from gol_decouple.limits import CLASSES
from gol_decouple.settings import DataConfig
from gol_decouple.zipped_arrays import read_arrays


def load(config: DataConfig) -> Dataset:
    """The arrays of `data.path`; `val_*` and `class_names` [C] are optional, and `test_*` where a share of train is to
    be held out for it. Without names, C is that of train.

    Raises:
        InputError: no path, no such file, a file that is not .npz, a missing key, or arrays that are not images.
    """
    if config.path is None:
        raise InputError("data.kind = 'npz' needs data.path", "--set data.path=images.npz, or --data-root images.npz")
    path = Path(config.path)
    if not path.is_file():
        raise InputError(f"data.path = {config.path}: there is no such file", "--set data.path=... names the .npz file")
    arrays = _read(path)
    found = {name for name in SPLITS if {f"{name}_images", f"{name}_labels"} & arrays.keys()}
    needed = found | ({"train", "test"} if config.test_fraction is None else {"train"})
    missing = [f"{name}_{part}" for name in SPLITS if name in needed for part in ("images", "labels")]
    missing = [key for key in missing if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    splits = {
        name: make_split(arrays[f"{name}_images"], arrays[f"{name}_labels"], f"{path}, {name}")
        for name in SPLITS
        if f"{name}_images" in arrays
    }
    if "class_names" in arrays:
        names = _names(arrays["class_names"], path)
    else:
        largest = int(splits["train"].labels.max(initial=0))
        CLASSES.check(largest + 1, f"{path}, train: label {largest} needs {largest + 1:,} classes")
        names = [f"class {label}" for label in range(largest + 1)]
    return Dataset(config.name or path.stem, names, splits)


def _names(names: NDArray[Any], path: Path) -> list[str]:
    if names.ndim != 1:
        raise InputError(f"{path}: class_names are of shape {list(names.shape)}", "a list of texts: [C]")
    return [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of the file. Pickled objects are refused: reading them would run code."""
    try:
        return read_arrays(path)
    except InputError as error:
        hint = error.hint or "write it with numpy.savez(...)"
        raise InputError(f"{path} is not a readable .npz file: {error.message}", hint) from None
