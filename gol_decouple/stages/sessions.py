"""Which sessions trained a model: a training may be interrupted, and go on with other code or on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gol_decouple import provenance
from gol_decouple.errors import InputError
from gol_decouple.files import read_json, write_json
from gol_decouple.runs import SESSIONS
from gol_decouple.stages.manifest import environment

Session = dict[str, Any]


def begin_session(folder: Path, epochs_done: int, steps_done: int, device: torch.device) -> None:
    """Note in a run's folder that the training goes on from here now, with this code on this machine.

    What other sessions trained from here on is lost: they came to an end before a checkpoint.

    Raises:
        InputError: the file cannot be read.
        EnvironmentFailure: the disk is full.
    """
    here = epochs_done, steps_done
    former = [one for one in sessions_of(folder) if (one["epochs_done"], one["steps_done"]) < here]
    began: Session = {"epochs_done": epochs_done, "steps_done": steps_done}
    began |= {"command": provenance.command(), "environment": environment(device)}
    write_json(folder / SESSIONS, {"sessions": [*former, began]})


def sessions_of(folder: Path) -> list[Session]:
    """The sessions that trained a run's model, in their order: `epochs_done` and `steps_done` of the next epoch when
    it began, its `command` and its `environment` (see `manifest.environment`).

    The first begins later than at 0, 0 if the training began with a version that did not tell them. There is none of a
    model that was loaded.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / SESSIONS
    if not path.is_file():
        return []
    hint = f"remove {path} to go without: it only tells which sessions trained the model"
    sessions = read_json(path, hint).get("sessions")
    if not isinstance(sessions, list) or not all(_is_session(one) for one in sessions):
        raise InputError(f"{path} does not tell the sessions of a training", hint)
    return sessions


def _is_session(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("environment"), dict):
        return False
    return all(type(one.get(name)) is int for name in ("epochs_done", "steps_done"))
