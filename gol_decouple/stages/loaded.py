"""What stage one ended with: a detector, and the classifier.

That is Softmax's, which is in the features file, or one that a detector's checkpoint brought, which is in the detector
alone: stage two would take it for a Softmax one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gol_decouple import losses, runs
from gol_decouple.backbones.class_order import LinearLayer, classifier_from_torchvision
from gol_decouple.backbones.detector_layouts import CLASSIFIER
from gol_decouple.backbones.detector_weights import detector_from
from gol_decouple.classifiers import Classifier, as_tensors
from gol_decouple.errors import InputError, few
from gol_decouple.features import FeaturesFile
from gol_decouple.files import read_json
from gol_decouple.losses import Loss
from gol_decouple.settings import Config
from gol_decouple.stages.belonging import load_tensors, unreadable_model

_HINT = "repeat stage one with --overwrite, which loads the checkpoint again"


def stage_one(folder: Path, config: Config | None, features: FeaturesFile) -> tuple[Classifier, Loss] | None:
    """The classifier of stage one, and what turns its logits into scores; None if only a backbone was loaded.

    Args:
        folder: of the run that the features belong to.
        config: of that run; None: a features file that was made elsewhere.

    Raises:
        InputError: files of the run that cannot be read, or do not fit each other.
    """
    activation = activation_of(config)
    if activation == "softmax":
        if features.classifier is None:
            return None
        return with_loss(LinearLayer(*as_tensors(features.classifier)), activation, features.is_detection)
    layer = _loaded_classifier(folder, (len(features.classes) + 1, features.feature_size))
    return None if layer is None else with_loss(layer, activation, background=True)


def activation_of(config: Config | None) -> str:
    """That of stage one; only a detector's checkpoint brings another than Softmax."""
    detector = None if config is None else config.detector
    return "softmax" if detector is None or detector.activation is None else detector.activation


def with_loss(layer: LinearLayer, activation: str, background: bool) -> tuple[Classifier, Loss]:
    """A classifier of stage one, and what turns its logits into scores.

    Args:
        layer: [C, D], or with background [C+1, D], which is last; one-vs-all activations have no use for that.
    """
    loss = losses.get("cross_entropy", activation=activation, background=background)
    columns = loss.num_columns(len(layer.bias) - background)
    return Classifier(layer.weight[:columns], layer.bias[:columns]), loss


def _loaded_classifier(run: Path, shape: tuple[int, int]) -> LinearLayer | None:
    """That of a run's detector, background last; None if its checkpoint's was left out.

    Args:
        shape: C+1, and the size of the features.
    """
    tensors = read_json(run / runs.CHECKPOINT, _HINT).get("tensors", {})
    if not isinstance(tensors, dict):
        told = f"{run / runs.CHECKPOINT} does not tell what was loaded: 'tensors' is no object"
        raise InputError(told, _HINT)
    if f"{CLASSIFIER}weight" not in tensors:
        return None
    model = load_tensors(run)
    try:
        weight, bias = (model[f"{CLASSIFIER}{kind}"] for kind in ("weight", "bias"))
    except KeyError as error:
        raise unreadable_model(run, f"it has no {error}") from None
    if (weight.shape, bias.shape) != (shape, shape[:1]):
        raise unreadable_model(run, f"its classifier is {list(weight.shape)}, not {list(shape)}")
    return classifier_from_torchvision(weight, bias)


def load_detector(run: Path, config: Config, num_classes: int) -> Any:
    """The Mask R-CNN that a run's stage one ended with, in eval mode; every tensor of it is the run's, but what nothing
    ever fitted.

    Raises:
        InputError: its weights cannot be read, or are of another detector.
    """
    load_tensors(run)  # refuses what is damaged, or not of this run
    try:
        model, match = detector_from(config, num_classes, run / runs.MODEL)
    except InputError as error:
        raise unreadable_model(run, error.message) from None
    missing = sorted(model.state_dict().keys() - match.found.keys())
    if missing := [name for name in missing if not name.startswith(match.unfit)]:
        raise unreadable_model(run, f"{few(missing)} are not there, or for another number of classes")
    return model.eval()
