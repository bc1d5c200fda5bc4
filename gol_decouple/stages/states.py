"""The file of a classifier between two epochs, from which an interrupted training continues."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gol_decouple.files import atomic_path
from gol_decouple.stages.jobs import State

STATE = "state.safetensors"
LOSS_STATE = "loss."  # before the names of the loss's own tensors in a state
_GRADIENTS = "gradients"


def write_state(folder: Path, state: State, shuffled_rows: int | None) -> None:
    """Write a state into `folder`, with how many rows were shuffled among each other (None: all)."""
    tensors = {"trained": state.trained, "velocity": state.velocity}
    tensors |= {f"{LOSS_STATE}{name}": tensor for name, tensor in state.loss.items()}
    tensors |= {} if state.gradients is None else {_GRADIENTS: state.gradients}
    with atomic_path(folder / STATE) as temporary:
        told = {"history": state.history, "shuffled_rows": shuffled_rows}
        save_file(tensors, temporary, metadata={name: json.dumps(value) for name, value in told.items()})


def read_state(folder: Path) -> tuple[State, int | None]:
    """What `write_state` wrote into `folder`.

    Raises:
        ValueError: the file cannot be read, or lacks something.
    """
    try:
        with safe_open(folder / STATE, "pt") as file:
            names = list(file.keys())
            trained, velocity = (file.get_tensor(name) for name in ("trained", "velocity"))
            kept = [name for name in names if name.startswith(LOSS_STATE)]
            of_loss = {name.removeprefix(LOSS_STATE): file.get_tensor(name) for name in kept}
            gradients = file.get_tensor(_GRADIENTS) if _GRADIENTS in names else None
            told = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
        return State(trained, velocity, told["history"], of_loss, gradients), told["shuffled_rows"]
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
