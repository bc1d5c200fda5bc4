"""Checkpoints: reading files made elsewhere without running them, and finding our model's weights in them."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gol_decouple.backbones import ImageClassifier
from gol_decouple.errors import InputError, few

# Where training scripts keep the weights; of several, the first one counts, and the two of a split model together.
CONTAINERS = (("state_dict_best",), ("state_dict_model", "state_dict_classifier"), ("state_dict",), ("model",))
WRAPPERS = frozenset({*(key for keys in CONTAINERS for key in keys), "module", "backbone", "feat_model"})
CLASSIFIERS = frozenset({"classifier", "fc", "linear", "head"})
# Counts the batches seen in training: older files lack it, and evaluation never reads it.
UNIMPORTANT = "num_batches_tracked"

# Plain data that old training scripts store beside their weights; rebuilding it runs no code of the file's.
_SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


@dataclass(frozen=True)
class Match:
    """Which tensors of a checkpoint became which of the model's.

    Attributes:
        found: name in the model -> name in the file.
        unused: tensors of the file that the model has no place for.
        classifier: what became of the classifier, in words.
        has_classifier: whether it was loaded.
    """

    found: dict[str, str]
    unused: list[str]
    classifier: str
    has_classifier: bool

    def table(self) -> str:
        """What matched, a line for each part of the model: how many tensors, and the name of one in the file."""
        parts: dict[str, list[str]] = {}
        for name, source in self.found.items():
            pieces = name.split(".")
            parts.setdefault(".".join(pieces[: 2 if pieces[0] == "backbone" else 1]), []).append(source)
        lines = [f"  {part:<20} {len(sources):>4} tensors  {sources[0]}" for part, sources in parts.items()]
        if not self.has_classifier:
            lines.append(f"  {'classifier':<20} {self.classifier}")
        if self.unused:
            lines.append(f"  {'not used':<20} {len(self.unused):>4} tensors  {few(self.unused)}")
        return "\n".join(lines)


def load_checkpoint(model: ImageClassifier, path: Path) -> Match:
    """Load the backbone's weights from `path`, and the classifier's if it is one for as many classes.

    Takes safetensors and torch files: ours, and the field's usual layouts (the weights in `state_dict`, `model`,
    `state_dict_best` or `state_dict_model` + `state_dict_classifier`; names behind `module.`, `backbone.` or
    `feat_model.`; the classifier called `fc`, `linear`, `head` or `classifier`).

    Raises:
        InputError: no checkpoint, one that holds code, damaged, or without the backbone's tensors in their shapes.
    """
    tensors = read_tensors(path)
    backbone, classifier = _canonical(tensors)
    found, missing, misshapen = {}, [], []
    state = model.backbone.state_dict()
    for name, tensor in state.items():
        source = backbone.pop(name, None)
        if source is None:
            if not name.endswith(UNIMPORTANT):
                missing.append(name)
        elif tensors[source].shape != tensor.shape:
            misshapen.append(f"{source} is {list(tensors[source].shape)}, the backbone's {list(tensor.shape)}")
        else:
            found[f"backbone.{name}"] = source
    if missing or misshapen:
        raise _does_not_fit(path, missing, misshapen, sorted(tensors))
    taken, said = _match_classifier(model, tensors, classifier)
    found |= taken
    weights = {name: tensors[source] for name, source in found.items()}
    model.load_state_dict(weights, strict=False)
    used = set(found.values())
    unused = [name for name in tensors if name not in used and not name.endswith(UNIMPORTANT)]
    return Match(found, unused, said, has_classifier=bool(taken))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by their dotted names, on the CPU; nothing in the file is executed.

    Raises:
        InputError: no such file, damaged, no checkpoint, or one that needs code to be read.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist", "--checkpoint names a .pth, .pt or .safetensors file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"checkpoint {path} is not a readable safetensors file: {error}") from None
    _refuse_bombs(path)
    return _select(dict(_flatten(_read_torch(path))), path)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needs = _unsafe_globals(path)
        if needs:
            raise InputError(
                f"checkpoint {path} needs code to be read, which is refused: {', '.join(needs)}",
                "load it where it was made and save its state_dict() alone",
            ) from None
        raise InputError(f"{path} is not a readable checkpoint: {str(error).splitlines()[0]}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable checkpoint, or truncated: {reason}") from None


def _unsafe_globals(path: Path) -> list[str]:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, OSError, pickle.UnpicklingError):
        return []


def _refuse_bombs(path: Path) -> None:
    """torch stores tensors as they are; a file whose entries are compressed unpacks to far more than its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: -entry.file_size):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > path.stat().st_size:
                raise InputError(
                    f"checkpoint {path} is refused: {entry.filename} unpacks from {entry.compress_size:,} to "
                    f"{entry.file_size:,} bytes, and torch never compresses",
                    "save it again with torch.save",
                )


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))


def _select(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The weights among everything a training script stored, each really as large as it says."""
    for keys in CONTAINERS:
        chosen = {name: value for name, value in tensors.items() if name.split(".")[0] in keys}
        if chosen:
            tensors = chosen
            break
    if not tensors:
        raise InputError(f"checkpoint {path} holds no tensors", "it should hold a model's state_dict()")
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise InputError(f"checkpoint {path} is refused: {name} claims {tensor.numel():,} values it does not hold")
    return tensors


def _canonical(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, str], dict[str, str]]:
    """Names without what wraps them -> names in the file: of the backbone, and the classifier's `weight`, `bias`."""
    backbone, classifier = {}, {}
    for source in tensors:
        parts = source.split(".")
        start = next((at for at, part in enumerate(parts) if part not in WRAPPERS), len(parts))
        owner = parts[start:-1]
        if parts[-1] in ("weight", "bias") and owner and all(part in (*CLASSIFIERS, *WRAPPERS) for part in owner):
            classifier[parts[-1]] = source
        else:
            backbone[".".join(parts[start:])] = source
    return backbone, classifier


def _match_classifier(
    model: ImageClassifier, tensors: Mapping[str, torch.Tensor], classifier: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    if "weight" not in classifier:
        return {}, "the checkpoint has no classifier"
    shape, wanted = tensors[classifier["weight"]].shape, model.classifier.weight.shape
    if shape != wanted:
        return {}, f"{classifier['weight']} is {list(shape)}, not {list(wanted)}: left out"
    found = {f"classifier.{part}": source for part, source in classifier.items()}
    if "bias" not in classifier:
        torch.nn.init.zeros_(model.classifier.bias)
    return found, f"taken from {classifier['weight']}"


def _does_not_fit(path: Path, missing: list[str], misshapen: list[str], has: list[str]) -> InputError:
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors of the backbone are missing ({few(missing)})")
    if misshapen:
        problems.append(f"{len(misshapen)} have another shape ({few(misshapen)})")
    return InputError(
        f"checkpoint {path} does not fit: {'; '.join(problems)}",
        f"choose the backbone it was made with (backbone.name); it holds {few(has)}",
    )
