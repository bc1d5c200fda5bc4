"""Checkpoints: finding our model's weights in files made elsewhere, whatever their names are wrapped in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gol_decouple.backbones import ImageClassifier
from gol_decouple.backbones.tensor_files import CONTAINERS, Keys, dotted, format_of, read_tensors
from gol_decouple.errors import InputError, few
from gol_decouple.plain_text import plain_line

WRAPPERS = frozenset({*(key for keys in CONTAINERS for key in keys), "module", "backbone", "feat_model"})
CLASSIFIERS = frozenset({"classifier", "fc", "linear", "head"})
# Counts the batches seen in training: older files lack it, and evaluation never reads it.
UNIMPORTANT = "num_batches_tracked"


@dataclass(frozen=True)
class Match:
    """Which tensors of a checkpoint became which of the model's.

    Attributes:
        path: the checkpoint.
        found: name in the model -> the keys that lead to the tensor in the file.
        own_classifier: the same of the file's classifier, whether it was loaded or not.
        unused: tensors of the file that the model has no place for.
        classifier: what became of the classifier, in words.
        has_classifier: whether it was loaded.
        layout: how a detector's tensors lie in the file, where it is not the same here (`detector_layouts.Layout`).
        meta: what else of the file is written back with other weights (`checkpoint_meta.meta_of`).
        unfit: predictors of which the file itself says that nothing ever fitted them.
        warnings, notes: what else the user should know of it.
    """

    path: Path
    found: dict[str, Keys]
    own_classifier: dict[str, Keys]
    unused: list[str]
    classifier: str
    has_classifier: bool
    layout: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def table(self) -> str:
        """What matched, a line for each part of the model: how many tensors, and the name of one in the file."""
        parts: dict[str, list[str]] = {}
        for name, source in self.found.items():
            pieces = name.split(".")
            parts.setdefault(".".join(pieces[: 2 if pieces[0] == "backbone" else 1]), []).append(dotted(source))
        lines = [f"  {part:<20} {len(sources):>4} tensors  {sources[0]}" for part, sources in parts.items()]
        if not self.has_classifier:
            lines.append(f"  {'classifier':<20} {self.classifier}")
        if self.unused:
            lines.append(f"  {'not used':<20} {len(self.unused):>4} tensors  {few(self.unused)}")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(map(plain_line, lines))

    def as_dict(self) -> dict[str, Any]:
        """What is needed to write weights back in the file's layout: its path, its format, where each tensor is, what
        else it holds, and of a detector how its tensors lie there.
        """
        tensors = self.found | self.own_classifier
        layout = {} if self.layout is None else {"layout": dict(self.layout)}
        return {
            "path": str(self.path.resolve()),
            "format": format_of(self.path),
            "tensors": {name: list(keys) for name, keys in tensors.items()},
            "unused": [name for name in self.unused if name not in map(dotted, self.own_classifier.values())],
            **layout,
            **({"meta": dict(self.meta)} if self.meta else {}),
        }


def load_checkpoint(model: ImageClassifier, path: Path) -> Match:
    """Load the backbone's weights from `path`, and the classifier's if it is one for as many classes.

    Takes safetensors and torch files: ours, the library's that the backbone is of, and the field's usual layouts (the
    weights in `state_dict`, `model`, `state_dict_best` or `state_dict_model` + `state_dict_classifier`; names behind
    `module.`, `backbone.` or `feat_model.`; the classifier called as in the library, or `fc`, `linear`, `head` or
    `classifier`).

    Raises:
        InputError: no checkpoint, one that holds code, damaged, or without the backbone's tensors in their shapes.
    """
    tensors = read_tensors(path)
    state = model.backbone.state_dict()
    backbone, classifier = _canonical(tensors, state, model.classifier_name)
    found: dict[str, Keys] = {}
    missing, misshapen = [], []
    for name, tensor in state.items():
        source = backbone.pop(name, None)
        if source is None:
            if not name.endswith(UNIMPORTANT):
                missing.append(name)
        elif tensors[source].shape != tensor.shape:
            misshapen.append(f"{dotted(source)} is {list(tensors[source].shape)}, the backbone's {list(tensor.shape)}")
        else:
            found[f"backbone.{name}"] = source
    if missing or misshapen:
        raise _does_not_fit(path, missing, misshapen, sorted(map(dotted, tensors)))
    taken, said = _match_classifier(model, tensors, classifier)
    found |= taken
    weights = {name: tensors[source] for name, source in found.items()}
    model.load_state_dict(weights, strict=False)
    used = set(found.values())
    unused = [dotted(keys) for keys in tensors if keys not in used and not dotted(keys).endswith(UNIMPORTANT)]
    own = {f"classifier.{part}": source for part, source in classifier.items()}
    return Match(path, found, own, unused, said, has_classifier=bool(taken))


def _canonical(
    tensors: Collection[Keys], state: Collection[str], classifier_name: str
) -> tuple[dict[str, Keys], dict[str, Keys]]:
    """Names without what wraps them -> keys in the file: of the backbone, and the classifier's `weight`, `bias`."""
    own = {f"{classifier_name}.weight", f"{classifier_name}.bias"}
    backbone: dict[str, Keys] = {}
    classifiers: dict[str, dict[str, Keys]] = {}
    for source in tensors:
        parts = dotted(source).split(".")
        start = next((at for at, part in enumerate(parts) if part not in WRAPPERS), len(parts))
        # A library's own name may begin like a wrapper.
        names = [".".join(parts[at:]) for at in range(start + 1)]
        name = next((name for name in names if name in own or name in state), names[-1])
        owner, _, last = name.rpartition(".")
        if name in own or (name not in state and last in ("weight", "bias") and _is_classifier(owner)):
            classifiers.setdefault(owner, {})[last] = source
        else:
            backbone[name] = source
    return backbone, classifiers.get(classifier_name) or next(iter(classifiers.values()), {})


def _is_classifier(owner: str) -> bool:
    return bool(owner) and all(part in (*CLASSIFIERS, *WRAPPERS) for part in owner.split("."))


def _match_classifier(
    model: ImageClassifier, tensors: Mapping[Keys, torch.Tensor], classifier: Mapping[str, Keys]
) -> tuple[dict[str, Keys], str]:
    if "weight" not in classifier:
        return {}, "the checkpoint has no classifier"
    name = dotted(classifier["weight"])
    shape, wanted = tensors[classifier["weight"]].shape, model.classifier.weight.shape
    if shape != wanted:
        return {}, f"{name} is {list(shape)}, not {list(wanted)}: left out"
    found = {f"classifier.{part}": source for part, source in classifier.items()}
    if "bias" not in classifier:
        torch.nn.init.zeros_(model.classifier.bias)
    return found, f"taken from {name}"


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
