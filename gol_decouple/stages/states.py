"""Classifiers between two epochs: what is kept of them, and the file from which an interrupted training continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gol_decouple import sealed_tensors
from gol_decouple.files import make_folder
from gol_decouple.stages.jobs import State

STATE = "state.safetensors"
LOSS_STATE = "loss."  # before the names of the loss's own tensors in a state
_GRADIENTS = "gradients"


def write_state(folder: Path, state: State, shuffled_rows: int | None) -> None:
    """Write a state into `folder`, with how many rows were shuffled among each other (None: all)."""
    tensors = {"trained": state.trained, "velocity": state.velocity}
    tensors |= {f"{LOSS_STATE}{name}": tensor for name, tensor in state.loss.items()}
    tensors |= {} if state.gradients is None else {_GRADIENTS: state.gradients}
    told = {"history": state.history, "shuffled_rows": shuffled_rows}
    sealed_tensors.save(tensors, folder / STATE, {name: json.dumps(value) for name, value in told.items()})


def read_state(folder: Path) -> tuple[State, int | None]:
    """What `write_state` wrote into `folder`.

    Raises:
        ValueError: the file cannot be read, is damaged, or lacks something.
    """
    tensors, metadata, _ = sealed_tensors.load(folder / STATE)
    try:
        trained, velocity = (tensors[name] for name in ("trained", "velocity"))
        kept = {name: tensor for name, tensor in tensors.items() if name.startswith(LOSS_STATE)}
        of_loss = {name.removeprefix(LOSS_STATE): tensor for name, tensor in kept.items()}
        told = {name: json.loads(text) for name, text in metadata.items()}
        return State(trained, velocity, told["history"], of_loss, tensors.get(_GRADIENTS)), told["shuffled_rows"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"it lacks {error}") from error


class LastStates:
    """The states after the last finished epoch, by folder: in memory, until they are written or have served.

    Attributes:
        shuffled_rows: see `write_state`.
    """

    def __init__(self) -> None:
        self._states: dict[Path, State] = {}
        self.shuffled_rows: int | None = None

    def keep(self, states: Mapping[Path, State]) -> None:
        """Take these in place of former ones; at once, so that a signal in between finds none half taken."""
        self._states = {**self._states, **states}

    def drop(self, folder: Path) -> None:
        """Forget what is of no use any more."""
        self._states.pop(folder, None)

    def write(self) -> None:
        """Write each into its folder, unless that was done.

        Raises:
            EnvironmentFailure: the disk is full.
        """
        for folder, state in list(self._states.items()):
            write_state(make_folder(folder), state, self.shuffled_rows)
            self.drop(folder)
