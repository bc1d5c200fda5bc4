"""A model in the layout of the checkpoint that its stage one loaded, for the program that made that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gol_decouple import runs, sealed_tensors
from gol_decouple.errors import InputError, few
from gol_decouple.export.linear import own_tensors
from gol_decouple.files import read_json
from gol_decouple.stages.restored import Restored

INSTEAD = "--format safetensors writes the model under its library's names"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint to be written.

    Attributes:
        name: of the file.
        tree: tensors by their keys, in dicts as deep as the original's.
        notes: what became of the original's tensors, as far as they are not all there.
        metadata: what a safetensors file says of itself.
    """

    name: str
    tree: dict[str, Any]
    as_safetensors: bool
    notes: list[str]
    metadata: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it: a sealed safetensors file, or a torch file that can be read with `weights_only=True`."""
        if self.as_safetensors:
            sealed_tensors.write(self.tree, path, {"format": "pt"} | self.metadata)
        else:
            torch.save(self.tree, path)


def as_checkpoint(model: Restored) -> Checkpoint:
    """The checkpoint of a run with the run's tensors in place of its own; the classifier may have other classes.

    Raises:
        InputError: the run loaded none, the checkpoint had no classifier, or the classifier is no linear layer.
    """
    path = origin_of(model.found.run)
    tensors = own_tensors(model)
    try:
        origin = read_json(path, INSTEAD)
        keys = {name: [str(key) for key in where] for name, where in origin["tensors"].items()}
        if strangers := keys.keys() - tensors.keys():
            raise KeyError(*strangers)
        name, kind, unused = Path(origin["path"]).name, str(origin["format"]), list(origin.get("unused", []))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not tell the layout of a checkpoint: {error!r}", INSTEAD) from None
    if not keys.get("classifier.weight"):
        raise InputError(f"{origin['path']} had no classifier that could be replaced", INSTEAD)
    notes = []
    if "classifier.bias" not in keys:
        keys["classifier.bias"] = _beside(keys["classifier.weight"])
        notes.append(f"added: {'.'.join(keys['classifier.bias'])}, which {name} did not have")
    notes += left_out(unused, name)
    return placed(name, kind, [(where, tensors[own]) for own, where in keys.items()], notes)


def origin_of(run: Path) -> Path:
    """The file of a run that tells the layout of what its stage one loaded.

    Raises:
        InputError: it loaded nothing.
    """
    path = run / runs.CHECKPOINT
    if not path.is_file():
        raise InputError(f"{run} was trained here, and not loaded from a checkpoint", INSTEAD)
    return path


def left_out(unused: Sequence[str], name: str) -> list[str]:
    """A note on tensors of the original that are not written, if there are any."""
    told = f"left out: {len(unused)} tensors of {name} that the model has no place for"
    return [f"{told} ({few(unused)})"] if unused else []


def placed(name: str, kind: str, tensors: Iterable[tuple[Sequence[str], torch.Tensor]], notes: list[str]) -> Checkpoint:
    """A checkpoint of tensors by the keys that lead to them.

    Args:
        kind: "safetensors", which has no dicts in dicts, or "torch".
    """
    tree: dict[str, Any] = {}
    for where, tensor in tensors:
        _put(tree, [".".join(where)] if kind == "safetensors" else where, tensor.clone())
    return Checkpoint(name, tree, kind == "safetensors", notes)


def _beside(weight: Sequence[str]) -> list[str]:
    """The keys of a bias beside a weight."""
    *parents, last = weight
    return [*parents, last.removesuffix("weight") + "bias"]


def _put(tree: dict[str, Any], keys: Sequence[str], tensor: torch.Tensor) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = tensor
