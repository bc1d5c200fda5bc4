"""Names and layouts of a detector's tensors in the frameworks that checkpoints come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gol_decouple.backbones.class_order import LinearLayer, classifier_to_torchvision
from gol_decouple.errors import InputError

CLASSIFIER = "roi_heads.box_predictor.cls_score"


def to_layout(state: Mapping[str, Tensor], layout: Mapping[str, Any], classifier: LinearLayer) -> dict[str, Tensor]:
    """A detector's tensors under the names and in the class order of a framework, with a classifier in their place.

    Args:
        state: torchvision's names and class order.
        layout: what the run's checkpoint.json says of the file: `framework`.
        classifier: in our order of classes.
    """
    if layout["framework"] != "torchvision":
        raise InputError(f"the layout of {layout['framework']} is not known", "--format safetensors")
    num_classes = len(state["roi_heads.mask_predictor.mask_fcn_logits.bias"]) - 1
    weight, bias = classifier_to_torchvision(classifier, num_classes)
    return {**state, f"{CLASSIFIER}.weight": weight, f"{CLASSIFIER}.bias": bias}
