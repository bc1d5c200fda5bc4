"""Stage one's checkpoints: the last two are kept, and a run continues from the newest that can be read and fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gol_decouple import belonging
from gol_decouple.backbones.pickle_outline import look_through
from gol_decouple.errors import InputError, machine_failure
from gol_decouple.files import atomic_path, publish, sync
from gol_decouple.progress import Progress
from gol_decouple.stages.averaging import MovingAverage
from gol_decouple.zip_files import damaged_entry

LAST, PREVIOUS = "last.pt", "previous.pt"
KEYS: dict[str, type] = {
    **{"epochs_done": int, "steps_done": int, "totals": dict, "seconds": float},  # see `Done`
    **{"model": dict, "optimizer": dict, "scaler": dict, "average": dict},  # see `Trained`
    **{"log": list, "data_sha256": str},
}
State = dict[str, Any]


@dataclass
class Done:
    """How far a training has come.

    Attributes:
        epochs_done: whole epochs.
        steps_done: of the next epoch.
        totals: of these steps: the sum over images of each part of the loss, by name.
        seconds: that they took.
    """

    epochs_done: int = 0
    steps_done: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> State:
        """For a checkpoint."""
        return asdict(self)


class Trained(NamedTuple):
    """Everything that a step of training changes."""

    model: nn.Module
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler
    average: MovingAverage[Any] | None

    def state_dict(self) -> State:
        """All of it, for a checkpoint."""
        return {name: {} if part is None else part.state_dict() for name, part in self._asdict().items()}

    def load_state_dict(self, state: State) -> None:
        """Take up a checkpoint.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError, AttributeError: it is none of such a model.
        """
        for name, part in self._asdict().items():
            if part is not None:
                part.load_state_dict(state[name])
        for weight, own in self.optimizer.state.items():
            momentum = own["momentum_buffer"]
            if momentum is not None and momentum.shape != weight.shape:
                raise ValueError(f"momentum of {list(momentum.shape)} for weights of {list(weight.shape)}")


def save_state(folder: Path, state: State) -> None:
    """Write `state`, which has the keys KEYS, as the last checkpoint; the former last one becomes the previous one."""
    last = folder / LAST
    with atomic_path(last) as temporary:
        torch.save(state, temporary)
        sync(temporary)  # a disk that does not take it must show before anything else moves
        if last.exists() and damaged_entry(last) is None:  # nothing damaged takes the place of what was continued from
            publish(last, folder / PREVIOUS)


def load_state(folder: Path, data_sha256: str, progress: Progress, take: Callable[[State], None]) -> State | None:
    """The newest checkpoint that can be read and taken up, on the CPU, or None if there is none.

    Args:
        take: takes it up, or raises what PyTorch does where tensors or parts are not those that are expected; nothing
            that it has taken up by then stays if another checkpoint is taken up.

    Raises:
        InputError: there are checkpoints, but all are damaged, or of training on other data or of another model.
    """
    paths = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    unfit: list[str] = []
    for path in paths:
        try:
            state = read_checkpoint(path)
        except InputError as error:
            progress.warn(error.message)
            continue
        if state["data_sha256"] != data_sha256:
            differ = belonging.told({"dataset": {"sha256": state["data_sha256"]}}, {"dataset": {"sha256": data_sha256}})
            raise InputError(
                f"the data have changed since the training in {folder} began: {differ}",
                "train on the new data under another --name, or replace the run with --overwrite",
            )
        try:
            take(state)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            if machine_failure(error) is not None:
                raise
            unfit.append(_reason(error))
            progress.warn(f"{path} is of another model and left aside: {unfit[-1]}")
            continue
        return state
    if unfit:
        raise InputError(
            f"no checkpoint in {folder} is of the model that is trained: {unfit[0]}",
            "go back to the versions of gol-decouple, timm and torchvision that it began with, or train anew under "
            "another --name or with --overwrite",
        )
    if paths:
        raise InputError(f"no checkpoint in {folder} can be read", "--overwrite trains from the start")
    return None


def read_checkpoint(path: Path) -> State:
    """A checkpoint on the CPU, whatever it is of; the machine's failures are not taken for damage.

    Raises:
        InputError: it is damaged, or none of stage one, and so left aside.
    """
    damaged = damaged_entry(path)
    if damaged is not None:
        raise InputError(f"{path} is damaged and left aside ({damaged})")
    try:
        look_through(path)
    except InputError as error:
        raise InputError(f"{path} is damaged and left aside ({error.message})", error.hint) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what it raises of an archive with anything else in it has no end
        if machine_failure(error) is not None:
            raise
        raise InputError(f"{path} is damaged and left aside ({_reason(error)})") from None
    if not isinstance(state, dict) or not _is_of_stage_one(state):
        raise InputError(f"{path} is no checkpoint of this version's stage one and left aside")
    return state


def _is_of_stage_one(state: State) -> bool:
    if state.keys() != KEYS.keys() or not all(isinstance(state[name], kind) for name, kind in KEYS.items()):
        return False
    return bool(min(state["epochs_done"], state["steps_done"]) >= 0)


def _reason(error: Exception) -> str:
    """What an error says in one line: PyTorch's first line only announces what does not fit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[min(1, len(lines) - 1)] if lines else type(error).__name__)[:300]
