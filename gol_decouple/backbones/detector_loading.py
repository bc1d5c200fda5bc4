"""Loading a file's tensors into a detector, in whichever framework's layout they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones.checkpoints import UNIMPORTANT, WRAPPERS, Match
from gol_decouple.backbones.detector_facts import Facts
from gol_decouple.backbones.detector_layouts import (
    CLASSIFIER,
    EXPORTED,
    MASKS,
    Layout,
    bare,
    is_ignored,
    name_in,
    to_ours,
)
from gol_decouple.backbones.tensor_files import Keys, dotted
from gol_decouple.backbones.unfit import PREDICTORS
from gol_decouple.errors import InputError, few

BODY = "backbone.body."
_ALIKE = 0.9  # of the names of classes, for the rest to be other spellings
# Beginnings of names in frameworks' files, of parts in which a tensor that is not here makes another network.
_NETWORK = ("backbone.", "neck.", "rpn_head.", "proposal_generator.")


def is_of_classes(name: str) -> bool:
    """Whether a tensor of ours has rows for each class, or belongs to what has."""
    return name.startswith(tuple(PREDICTORS))


class Order(NamedTuple):
    """Where the classes of the data are in a file.

    Attributes:
        places: of our classes, [C]; None: the same, or not known.
        others: why they are not there, if they are not.
        note: how they were found.
        warning: what speaks against that.
    """

    places: tuple[int, ...] | None = None
    others: str | None = None
    note: str | None = None
    warning: str | None = None

    def warnings(self, path: Path) -> list[str]:
        """What to warn of a file."""
        left_out = [f"{path}: {self.others}; its predictors are left out"] if self.others else []
        return left_out + ([f"{path}: {self.warning}"] if self.warning else [])


SAME_ORDER = Order()


def order_of(facts: Facts, class_names: Sequence[str] | None, num_classes: int, by_names: bool) -> Order:
    """Find our classes in a file, if it has as many.

    mmdetection numbers classes in the order of the annotations' categories, whatever the order of the names in its
    config: so does this, unless `by_names`. Names that are spelt otherwise are no other classes, as long as they are
    few: mmdetection spells one of LVIS's differently.
    """
    theirs = facts.class_names
    if theirs is None:
        has_order = facts.framework in (None, "torchvision")
        return Order() if has_order else Order(note="it names no classes: they are taken in the order of category ids")
    if class_names is None or list(class_names) == theirs or len(theirs) != num_classes:
        return Order()
    place = {name: at for at, name in enumerate(theirs)}
    missing = [name for name in class_names if name not in place]
    are_same = not missing and len(place) == num_classes
    if are_same and by_names:
        note = "its classes are in another order: they are found by their names"
        return Order(tuple(place[name] for name in class_names), note=note)
    others = [name for name in theirs if name not in class_names]
    spelt_alike = sum(one == other for one, other in zip(theirs, class_names, strict=True)) >= _ALIKE * num_classes
    if are_same:
        hint = "(detector.conventions.class_order=names finds them by their names)"
        warning = f"its names of classes are in another order: they are taken in that of category ids {hint}"
    elif spelt_alike and not by_names:
        warning = f"it has {few(others)} where the data has {few(missing)}: they are taken for the same classes"
    else:
        return Order(others=f"its classes are others: it has {few(others)}, the data {few(missing)}")
    return Order(warning=warning)


def load(
    detector: MaskRCNN,
    tensors: Mapping[Keys, torch.Tensor],
    layout: Layout,
    path: Path,
    order: Order = SAME_ORDER,
    other_classifier: str | None = None,
    unfit: tuple[str, ...] = (),
) -> Match:
    """Load all tensors but predictors of other classes; of a ResNet's, the body's.

    Args:
        order: where the classes are.
        other_classifier: why the classifier is not to be taken.
        unfit: predictors that the file says nothing ever fitted.

    Raises:
        InputError: tensors are missing, have other shapes, or are those of another network.
    """
    state = detector.state_dict()
    num_classes = len(state[f"{MASKS}bias"]) - 1
    sources = _canonical(tensors, {name_in(layout.framework, name): name for name in state})
    values = {name: to_ours(name, tensors[keys], layout, num_classes) for name, keys in sources.items()}
    whole = any(not name.startswith(BODY) for name in sources) or layout.framework != "torchvision"
    differ = [name for name, value in values.items() if value.shape != state[name].shape]
    _check(state, sources, tensors, layout, differ, whole, path)
    sources = _usable(sources, state, differ, PREDICTORS if order.others else unfit)
    told = order.others or ("nothing ever fitted it" if CLASSIFIER in unfit else None)
    told = told or _told(sources, layout, whole, values, state)
    if other_classifier is not None and f"{CLASSIFIER}weight" in sources:
        told = f"not taken: {other_classifier}"
        sources = {name: keys for name, keys in sources.items() if not name.startswith(CLASSIFIER)}
    detector.load_state_dict({name: values[name] for name in sources}, strict=False)
    taken = set(sources.values())
    unused = [dotted(keys) for keys in tensors if keys not in taken and not _is_unimportant(dotted(keys), layout)]
    return Match(
        path,
        sources,
        {},
        unused,
        told,
        has_classifier=f"{CLASSIFIER}weight" in sources,
        layout=layout.as_dict(),
        unfit=unfit,
        warnings=order.warnings(path),
        notes=[order.note] if order.note and f"{CLASSIFIER}weight" in sources else [],
    )


def _usable(
    sources: Mapping[str, Keys], state: Mapping[str, torch.Tensor], differ: Collection[str], no_use: Collection[str]
) -> dict[str, Keys]:
    """The sources without predictors of which something is of another shape or not there, or that are of no use."""
    left = dict(sources)
    for predictor in PREDICTORS:
        own = [name for name in state if name.startswith(predictor)]
        if predictor in no_use or any(name in differ or name not in sources for name in own):
            left = {name: keys for name, keys in left.items() if name not in own}
    return left


def _canonical(tensors: Mapping[Keys, torch.Tensor], ours: Mapping[str, str]) -> dict[str, Keys]:
    """Names in the detector -> keys in the file, whatever the names are wrapped in; a ResNet's names are its body's.

    Args:
        ours: our names by the file's.
    """
    found: dict[str, Keys] = {}
    for source in tensors:
        parts = dotted(source).split(".")
        start = next((at for at, part in enumerate(parts) if part not in WRAPPERS), len(parts))
        names = [".".join(parts[at:]) for at in range(start + 1)]
        names += [f"{BODY}{names[-1]}"]
        if name := next((name for name in names if name in ours), None):
            found.setdefault(ours[name], source)
    return found


def _check(
    state: Mapping[str, torch.Tensor],
    sources: Mapping[str, Keys],
    tensors: Mapping[Keys, torch.Tensor],
    layout: Layout,
    differ: Sequence[str],
    whole: bool,
    path: Path,
) -> None:
    """Refuse a file whose tensors are not those of the detector, in the file's own names."""
    needed = [name for name in state if not is_of_classes(name) and (whole or name.startswith(BODY))]
    missing = [name_in(layout.framework, name) for name in needed if name not in sources]
    if missing or any(not is_of_classes(name) for name in differ):
        shapes = [
            f"{dotted(sources[name])} is {list(tensors[sources[name]].shape)}, not {list(state[name].shape)}"
            for name in differ
            if not is_of_classes(name)
        ]
        raise _does_not_fit(path, layout, missing, shapes)
    taken = set(sources.values())
    strangers = [
        dotted(keys)
        for keys in tensors
        if keys not in taken and bare(dotted(keys)).startswith(_NETWORK) and not _is_unimportant(dotted(keys), layout)
    ]
    if strangers and layout.framework != "torchvision":
        told = f"{len(strangers)} tensors that no ResNet with an FPN has ({few(strangers)})"
        raise InputError(f"checkpoint {path} is of another network: it has {told}", EXPORTED)


def _is_unimportant(name: str, layout: Layout) -> bool:
    return name.endswith(UNIMPORTANT) or (layout.framework != "torchvision" and is_ignored(name))


def _told(
    sources: Mapping[str, Keys],
    layout: Layout,
    whole: bool,
    values: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
) -> str:
    """What became of the classifier."""
    name = f"{CLASSIFIER}weight"
    if not whole:
        return "the file holds a ResNet: only the body is loaded, all else starts from random weights"
    if name in sources:
        return "taken"
    if name not in values:
        return "the checkpoint has no classifier"
    return f"{name_in(layout.framework, name)} is {list(values[name].shape)}, not {list(state[name].shape)}: left out"


def _does_not_fit(path: Path, layout: Layout, missing: list[str], misshapen: list[str]) -> InputError:
    problems = [f"{len(missing)} tensors are missing ({few(missing)})"] if missing else []
    problems += [f"{len(misshapen)} have another shape ({few(misshapen)})"] if misshapen else []
    hint = "choose the backbone it was made with (backbone.name); it should be torchvision's Mask R-CNN, or a ResNet"
    if layout.framework != "torchvision":
        hint = f"choose the backbone it was made with (backbone.name: resnet50, resnet101, ...); or else {EXPORTED}"
    return InputError(f"checkpoint {path} does not fit: {'; '.join(problems)}", hint)
