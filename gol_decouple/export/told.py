"""What `config.json` beside an exported model says: all that is needed to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gol_decouple
from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.export.linear import Library
from gol_decouple.settings import PLAIN
from gol_decouple.stages.restored import Restored

CONFIG = "config.json"
FORMAT_VERSION = 1
# Activations that differ in how they are trained, and not in their scores.
_SCORED_AS = {"gumbel_published": "gumbel"}
_FORMULAS = {"softmax": "softmax(q)", "sigmoid": "1 / (1 + exp(-q))", "gumbel": "exp(-exp(-q))"}


def told_of(model: Restored, file: str, library: Library, with_formula: bool) -> dict[str, Any]:
    """The contents of `config.json`.

    Args:
        file: the name of the model's own.
        with_formula: whether scores have to be worked out; an ONNX file has them as an output.

    Raises:
        InputError: the run does not tell the size of its images.
    """
    manifest = model.found.manifest
    return {
        "format_version": FORMAT_VERSION,
        "gol_decouple": gol_decouple.__version__,
        "file": file,
        "backbone": {"library": library.name, "name": library.architecture, "arguments": library.arguments},
        "classifier": library.classifier,
        "feature_size": model.model.classifier.in_features,
        "num_classes": len(model.class_names),
        "class_names": model.class_names,
        "train_counts": manifest["train_counts"],
        "dataset": manifest["dataset"],
        "input": input_of(model),
        "scores": _scores(model, with_formula),
        "method": method_of(manifest),
    }


def method_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a classifier was trained with."""
    return {
        "name": manifest["method"],
        "activation": manifest["activation"],
        "loss": manifest["loss"],
        "stage": manifest["stage"],
        "seed": manifest["seed"],
        "settings": manifest["settings"],
    }


def scored_as(activation: str) -> tuple[str, str]:
    """The activation that scores are worked out by, and its formula."""
    name = _SCORED_AS.get(activation, activation)
    return name, _FORMULAS[name]


def input_of(model: Restored) -> dict[str, Any]:
    """From an RGB image to what the network takes, as torchvision's Resize, CenterCrop, ToTensor and Normalize do it.

    Raises:
        InputError: a run that did not keep the size of its images.
    """
    if model.image_size is None:
        run = model.found.run
        hint = f"remove {run / runs.MANIFEST} and repeat stage one: it continues where it was"
        raise InputError(f"{run} does not tell the size of its images: an older version made it", hint)
    transform, size = model.config.transform, list(model.image_size)
    return {
        "resize": transform.resize or size,  # a number: of the shorter side
        "size": size,
        "interpolation": transform.interpolation or "bilinear",
        "mean": list(transform.mean or PLAIN),
        "std": list(transform.std or PLAIN),
    }


def _scores(model: Restored, with_formula: bool) -> dict[str, Any]:
    """How scores come from the logits q."""
    activation = model.loss.activation
    name, formula = scored_as(activation.name)
    normalise = activation.one_vs_all and model.temperature is not None
    told: dict[str, Any] = {"activation": name, "temperature": model.temperature, "sum_to_one": model.sums_to_one}
    if not with_formula:
        return told | {"formula": "the output `scores` of the file"}
    if model.temperature is not None:
        formula = f"{formula.replace('q', 'q / T')}, T = {model.temperature:g}"
    if normalise:
        formula += ", divided by their sum over the classes"
    return told | {"normalise": normalise, "formula": f"{formula}; q: the logits"}
