"""How the frameworks that Mask R-CNNs are trained in differ in what their weights do not show.

Read off detectron2 0.6 (config/defaults.py, modeling/), mmdetection 2.x and 3.x (configs/_base_/models, models/) and
torchvision 0.29 (models/detection/).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gol_decouple.detector_settings import CODER_WEIGHTS, ConventionsConfig, Framework

# What torchvision's weights take, red first, of 1. detectron2's are of Caffe's bytes, which nothing divides.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNSCALED = (1 / 255, 1 / 255, 1 / 255)
# The logarithm of the largest growth of a side that a box regressor can ask for, in all of them.
MOST_GROWTH = math.log(1000 / 16)


class Usual(NamedTuple):
    """What a framework's detectors have unless their config says otherwise.

    Attributes:
        settings: all of `ConventionsConfig`.
        mean, std: of pixels in [0, 1], red first.
    """

    settings: dict[str, Any]
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


# What is the same in detectron2 and mmdetection, and in part in torchvision.
_ALIKE: dict[str, Any] = {
    "class_order": "ids",
    "batchnorm_eps": 1e-5,
    "anchor_rounding": False,
    "anchor_offset": 0.0,
    "aligned": True,
    "sampling_ratio": 0,
    "coder_weights": CODER_WEIGHTS,
}
USUAL: dict[Framework, Usual] = {
    "torchvision": Usual(
        {
            **_ALIKE,
            "framework": "torchvision",
            "channels": "rgb",
            "stride_in": "3x3",
            "anchor_rounding": True,
            "aligned": False,
            "sampling_ratio": 2,
            "resize": "float",
        }
    ),
    # Its ResNet-50 and -101 come from Caffe2; its ResNeXt, and weights it took from torchvision, differ.
    "detectron2": Usual(
        {**_ALIKE, "framework": "detectron2", "channels": "bgr", "stride_in": "1x1", "resize": "pillow"}, std=UNSCALED
    ),
    "mmdetection": Usual(
        {**_ALIKE, "framework": "mmdetection", "channels": "rgb", "stride_in": "3x3", "resize": "opencv"}
    ),
}


def usual_of(framework: Framework, backbone: str) -> Usual:
    """What a framework's detectors around a backbone usually have; `backbone` is a `backbone.name`."""
    usual = USUAL[framework]
    if framework == "detectron2" and "resnext" in backbone:  # from ResNeXt's own weights: no Caffe
        return Usual({**usual.settings, "stride_in": "3x3"}, usual.mean, STD)
    return usual


def filled(conventions: ConventionsConfig) -> ConventionsConfig:
    """Conventions with what is unset as their framework usually has it, torchvision if that is unset too."""
    usual = USUAL[conventions.framework or "torchvision"].settings
    return ConventionsConfig.model_validate(usual | conventions.model_dump(exclude_none=True))


def of_model(model: Any) -> ConventionsConfig:
    """Those that a detector was built by; one that does not say so is torchvision's own."""
    conventions: ConventionsConfig = getattr(model, "conventions", None) or filled(ConventionsConfig())
    return conventions


def least_growth(framework: Framework | None) -> float:
    """The logarithm of the least growth of a side that a box regressor can ask for; -inf: there is no bound."""
    return -MOST_GROWTH if framework == "mmdetection" else -math.inf
