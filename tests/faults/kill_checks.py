"""What is asked of the files of a run that was killed: whole at any time, and in the end those of one that was not."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from gol_decouple import features
from gol_decouple.features.logs import read_logs

# What a process leaves that is killed, and the next start uses or removes.
UNFINISHED = re.compile(r"\.tmp\.\d+$|\.partial(\.\d+)?(\.log)?$|\.shard\.\d+(\.log)?$")
# What may differ between a run that was killed and one that was not, in JSON and as columns of csv: how long it took,
# the command that ended it, the sessions that it took, and what was trained beside it then.
OF_THE_START = {"seconds", "images_per_second", "command", "sessions", "stack"}
# Kinds of files that tell it.
TOLD_ANEW = {".json", ".csv", ".pt", ".safetensors"}
# Files that change as a run goes on.
GROWING = {"sessions.json", "last.pt", "previous.pt", "log.csv", "state.safetensors", "tuning.json", "manifest.json"}
DONE = math.inf


def files(folder: Path) -> dict[str, Path]:
    """All files below a folder by their relative path."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def unreadable(folder: Path, whole: Path) -> list[str]:
    """What is wrong with the files of a life that was killed, and how each was found to be so.

    Args:
        whole: the folder of a life that was not: what is written once must be as it is there.
    """
    wrong = []
    for name, path in files(folder).items():
        if UNFINISHED.search(path.name):
            continue
        try:
            content(path)
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
            continue
        if path.name not in GROWING and (whole / name).is_file() and differ(path, whole / name):
            wrong.append(f"{name}: neither the old file nor the new one")
    return wrong


def differences(folder: Path, whole: Path) -> list[str]:
    """In what two finished lives differ: files that only one has, and files that are not equal bit by bit."""
    found, expected = files(folder), files(whole)
    wrong = [f"{name}: left over" for name in found.keys() - expected.keys()]
    wrong += [f"{name}: missing" for name in expected.keys() - found.keys()]
    both = found.keys() & expected.keys() - {name for name in found if Path(name).name == "previous.pt"}
    return sorted(wrong + [f"{name}: differs" for name in both if differ(found[name], expected[name])])


def differ(one: Path, other: Path) -> bool:
    """Whether two files differ in more than how they were started, and the order of a header's entries."""
    if one.read_bytes() == other.read_bytes():
        return False
    return one.suffix not in TOLD_ANEW or lasting(content(one)) != lasting(content(other))


def content(path: Path) -> Any:
    """All that is in a file, as plain values that can be compared.

    Raises:
        Exception: it cannot be read to its end, or there is no reader for files of its kind.
    """
    if path.name == ".lock":
        return None
    return READERS[path.suffix](path)


def lasting(tree: Any) -> Any:
    """A tree without what says how it was started, and how long something took."""
    if isinstance(tree, dict):
        return {name: lasting(value) for name, value in tree.items() if name not in OF_THE_START}
    return [lasting(value) for value in tree] if isinstance(tree, list) else tree


def _plain(tree: Any) -> Any:
    """Tensors and arrays as their bytes."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    if isinstance(tree, torch.Tensor):
        tree = tree.numpy()
    return (str(tree.dtype), tree.shape, tree.tobytes()) if isinstance(tree, np.ndarray) else tree


def _checkpoint(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:  # torch looks at no checksum
        assert archive.testzip() is None
    return _plain(torch.load(path, weights_only=True))


def _tensors(path: Path) -> Any:
    with safe_open(path, "np") as file:
        return {"": file.metadata()} | {name: _plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def _features(path: Path) -> Any:
    file = features.open(path)
    splits = [(name, file[name]) for name in file.splits]
    return {name: [_plain(part[:]) for part in (split.features, split.labels, split.ids)] for name, split in splits}


def _rows(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.endswith("\n")
    assert rows
    assert not any(None in (*row, *row.values()) for row in rows), "a row is cut off"
    return rows


def _arrays(path: Path) -> Any:
    with np.load(path) as archive:
        return {name: _plain(archive[name]) for name in archive.files}


def _picture(path: Path) -> Any:
    with Image.open(path) as image:
        return _plain(np.asarray(image))


READERS: dict[str, Callable[[Path], Any]] = {
    ".pt": _checkpoint,
    ".safetensors": _tensors,
    ".h5": _features,
    ".csv": _rows,
    ".npz": _arrays,
    ".png": _picture,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
}


def progress(runs: Path) -> dict[str, float]:
    """How far each part of a folder of runs is, by its path: in epochs or blocks, `DONE` for what is finished.

    It must never fall: what is saved is not computed again.
    """
    told: dict[str, float] = {}
    for config in runs.glob("*/config.toml"):
        told |= _of_run(config.parent)
    for folder in (*runs.glob("*/stage2/*/"), *runs.glob("*/candidates/*/")):
        state = folder / "state.safetensors"
        if (folder / "manifest.json").exists():
            # Being killed as its state was to be removed, it is evaluated again, and not trained.
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            told[str(folder)] = len(manifest.get("history", [])) or DONE
        elif state.exists():
            with safe_open(state, "np") as file:
                told[str(folder)] = len(json.loads(file.metadata()["history"]))
    return told


def _of_run(run: Path) -> dict[str, float]:
    if (run / "manifest.json").exists():
        return {str(run / "last.pt"): DONE, str(run / "features.h5"): DONE}
    checkpoints = [torch.load(path, weights_only=True) for path in run.glob("*.pt")]
    blocks = [len(read_logs(path)) for path in run.glob("features.h5.*") if path.suffix != ".log"]
    return {
        str(run / "last.pt"): max([int(state["epochs_done"]) for state in checkpoints], default=0),
        str(run / "features.h5"): DONE if (run / "features.h5").exists() else sum(blocks),
    }
