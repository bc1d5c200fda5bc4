"""A finished detector in files that work without this program: as torchvision has it, or as the checkpoint was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gol_decouple import runs
from gol_decouple.backbones import unfit
from gol_decouple.backbones.checkpoint_meta import number_of_classes, with_classes
from gol_decouple.backbones.checkpoint_settings import detector_settings
from gol_decouple.backbones.class_order import classifier_to_torchvision
from gol_decouple.backbones.detector_facts import metadata
from gol_decouple.backbones.detector_layouts import CLASSIFIER, MASKS, Layout, to_layout
from gol_decouple.backbones.detector_loading import BODY
from gol_decouple.errors import InputError
from gol_decouple.export.checkpoint import INSTEAD, Checkpoint, left_out, origin_of, placed
from gol_decouple.export.linear import Tensors, linear_of
from gol_decouple.export.told import scored_as
from gol_decouple.files import read_json
from gol_decouple.stages.restored_detector import RestoredDetector

TORCHVISION = Layout("torchvision")
_LINEAR = "gumbel, gol, softmax and others are linear; gol-decouple predict takes all"
_PICKLED, _TORCH = ".pkl", ".pth"  # a pickle of NumPy arrays becomes a torch file


def detector_file(model: RestoredDetector) -> tuple[Checkpoint, Layout]:
    """`model.safetensors` under torchvision's names, in its class order; and that layout.

    Its metadata say how it is built and what its classifier's activation is, so that stage one can load it.

    Raises:
        InputError: the classifier is no linear layer whose scores can be told by the activation.
    """
    layer = classifier_to_torchvision(linear_of(model, _LINEAR), len(model.class_names))
    tensors = state_of(model) | {f"{CLASSIFIER}weight": layer.weight, f"{CLASSIFIER}bias": layer.bias}
    made = placed(runs.MODEL, "safetensors", [([name], tensor) for name, tensor in tensors.items()], _unfit(model))
    return replace(made, metadata=_metadata(model)), TORCHVISION


def detector_checkpoint(model: RestoredDetector) -> tuple[Checkpoint, Layout]:
    """The checkpoint of a run with the run's tensors in place of its own, and the layout it has.

    Predictors may be for other classes than the original's.

    Raises:
        InputError: the run loaded none, or the file of a ResNet; or as `detector_file`.
    """
    path = origin_of(model.found.run)
    layer = linear_of(model, _LINEAR)
    try:
        origin = read_json(path, INSTEAD)
        keys = {name: [str(key) for key in where] for name, where in origin["tensors"].items()}
        name, kind, unused = Path(origin["path"]).name, str(origin["format"]), list(origin.get("unused", []))
        layout = Layout.from_dict(origin["layout"])
        if all(own.startswith(BODY) for own in keys):
            raise InputError(f"{origin['path']} had no classifier that could be replaced: it holds a ResNet", INSTEAD)
        tensors = to_layout(state_of(model), layout, layer)
        *parents, prefix = _place(keys.values(), tensors)
        meta = with_classes(origin.get("meta", {}), model.class_names, layout.order)
        notes = _activation_note(model) + _classes_note(model, number_of_classes(origin.get("meta", {})))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} does not tell the layout of a checkpoint: {error!r}", INSTEAD) from None
    places = [([*parents, f"{prefix}{own}"], tensor) for own, tensor in tensors.items()]
    written = {".".join(where) for where, _ in places}
    notes = [*left_out([other for other in unused if other not in written], name), *_unfit(model), *notes]
    if name.endswith(_PICKLED):
        name = f"{name.removesuffix(_PICKLED)}{_TORCH}"
    made = placed(name, kind, places, notes)
    if meta and kind == "torch" and parents:
        made = replace(made, tree={"meta": meta, **made.tree})
    # Whoever finds these takes the names for torchvision's, and red for first.
    return replace(made, metadata=_metadata(model) if layout == TORCHVISION else {}), layout


def state_of(model: RestoredDetector) -> Tensors:
    """All tensors of the detector that stage one ended with, under torchvision's names."""
    return {name: tensor.detach().contiguous() for name, tensor in model.model.state_dict().items()}


def _metadata(model: RestoredDetector) -> dict[str, str]:
    """What stage one's own file says of itself, with the activation of the chosen classifier."""
    others = [name for name in model.model.unfit if name != CLASSIFIER]
    own = metadata(detector_settings(model.config) | {"detector.activation": _activation(model)})
    return own | unfit.metadata(others)


def _activation_note(model: RestoredDetector) -> list[str]:
    """What to do where a framework would make other scores of the logits than the classifier was trained for."""
    assert model.config.detector is not None  # or it would be no detector
    name, formula = scored_as(model.loss.activation.name)
    theirs = model.config.detector.activation or "softmax"
    if name == theirs:
        return []
    over = "of background and classes" if name == "softmax" else "of the class columns, without background"
    told = f"the original's classifier is {theirs}, this one {name}: scores are {formula} {over}"
    return [f"note: {told}; loaded here, it needs --set detector.activation={name}"]


def _classes_note(model: RestoredDetector, number: int | None) -> list[str]:
    """What else has to be changed in a config for other classes."""
    if number in (None, len(model.class_names)):
        return []
    return [f"note: its config is of {number} classes: set num_classes of its heads to {len(model.class_names)}"]


def _unfit(model: RestoredDetector) -> list[str]:
    """Notes on tensors that mean nothing."""
    return [] if model.has_masks else [f"{MASKS}*: random, since no mask predictor was loaded or trained"]


def _activation(model: RestoredDetector) -> str:
    return scored_as(model.loss.activation.name)[0]


def _place(places: Iterable[Sequence[str]], names: Iterable[str]) -> list[str]:
    """Where a file has its tensors: the keys that lead to them, and at the end what is before every name.

    Args:
        places: the keys that lead to some of them.
        names: what their framework calls all of them.
    """
    known = sorted(names, key=len, reverse=True)
    for *parents, last in places:
        if name := next((name for name in known if last.endswith(name)), None):
            return [*parents, last.removesuffix(name)]
    raise ValueError("it names no tensor of that framework")
