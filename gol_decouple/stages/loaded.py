"""A finished classifier that a detector's checkpoint brought: no Softmax one, so that the features file has it not."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from gol_decouple import runs
from gol_decouple.backbones.class_order import LinearLayer, classifier_from_torchvision
from gol_decouple.backbones.detector_layouts import CLASSIFIER
from gol_decouple.files import read_json


def loaded_classifier(run: Path) -> LinearLayer | None:
    """The columns of the C classes in the detector of a run, [C, D]; None if its checkpoint's were left out.

    Raises:
        InputError: the run's checkpoint.json cannot be read.
    """
    origin = read_json(run / runs.CHECKPOINT, "--overwrite loads the checkpoint again")
    if f"{CLASSIFIER}weight" not in origin.get("tensors", {}):
        return None
    with safe_open(run / runs.MODEL, framework="pt") as file:
        parts = [file.get_tensor(f"{CLASSIFIER}{kind}") for kind in ("weight", "bias")]
    weight, bias = classifier_from_torchvision(*parts)
    return LinearLayer(weight[:-1], bias[:-1])
