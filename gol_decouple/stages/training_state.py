"""Stage one's checkpoints: the last two are kept, and a run continues from the newest that can be read."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from gol_decouple.errors import InputError, machine_failure
from gol_decouple.files import atomic_path, publish
from gol_decouple.progress import Progress

LAST, PREVIOUS = "last.pt", "previous.pt"
KEYS = {"epochs_done", "model", "optimizer", "scaler", "average", "log", "data_sha256"}


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `state`, which has the keys KEYS, as the last checkpoint; the former last one becomes the previous one."""
    last = folder / LAST
    with atomic_path(last) as temporary:
        torch.save(state, temporary)
        if last.exists():
            publish(last, folder / PREVIOUS)


def load_state(folder: Path, data_sha256: str, progress: Progress) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU, or None if there is none.

    Raises:
        InputError: there are checkpoints, but all are damaged, or of training on other data.
    """
    paths = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in paths:
        state = _read(path, progress)
        if state is None:
            continue
        if state["data_sha256"] != data_sha256:
            raise InputError(
                f"the data have changed since the training in {folder} began",
                "train on the new data under another --name, or replace the run with --overwrite",
            )
        return state
    if paths:
        raise InputError(f"no checkpoint in {folder} can be read", "--overwrite trains from the start")
    return None


def _read(path: Path, progress: Progress) -> dict[str, Any] | None:
    """A checkpoint, or None, with a warning, for a damaged one; the machine's failures are not taken for damage."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        if machine_failure(error) is not None:
            raise
        progress.warn(f"{path} is damaged and left aside")
        return None
    if not isinstance(state, dict) or state.keys() != KEYS:
        progress.warn(f"{path} is no checkpoint of stage one and left aside")
        return None
    return state


class _Warnings(Progress):
    """Keeps what is warned of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def warn(self, message: str) -> None:
        self.told.append(message)


def check_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that `load_state` would not leave aside as it is, whatever it is of.

    Raises:
        InputError: it is damaged, or none of stage one.
    """
    warnings = _Warnings()
    state = _read(path, warnings)
    if state is None:
        raise InputError(warnings.told[0])
    return state
