"""What the config says that mmdetection stores in its checkpoints: Python text, read as data and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gol_decouple.errors import InputError
from gol_decouple.limits import SETTINGS_BYTES

BYTES = 255
LARGEST = 2**53  # of whole numbers that are also floats
DIGITS = 12  # of numbers of bytes over 255: 0.485, and not 0.48500000000000004
# Settings that detectors here have one value of, as mmdetection's usual ones do.
_REQUIRED: dict[str, Any] = {
    "rpn_head.anchor_generator.type": "AnchorGenerator",
    "rpn_head.bbox_coder.type": "DeltaXYWHBBoxCoder",
    "roi_head.bbox_head.bbox_coder.type": "DeltaXYWHBBoxCoder",
    "roi_head.mask_iou_head": None,
    "rpn_head.anchor_generator.scales": [8],
    "rpn_head.anchor_generator.ratios": [0.5, 1.0, 2.0],
    "rpn_head.anchor_generator.strides": [4, 8, 16, 32, 64],
    "rpn_head.anchor_generator.octave_base_scale": None,
    "rpn_head.anchor_generator.base_sizes": None,
    "rpn_head.bbox_coder.target_means": [0, 0, 0, 0],
    "rpn_head.bbox_coder.target_stds": [1, 1, 1, 1],
    "roi_head.bbox_head.bbox_coder.target_means": [0, 0, 0, 0],
    "roi_head.bbox_head.reg_predictor_cfg.type": "Linear",
    "roi_head.bbox_roi_extractor.roi_layer.type": "RoIAlign",
    "roi_head.bbox_roi_extractor.roi_layer.output_size": 7,
    "roi_head.bbox_roi_extractor.finest_scale": 56,
    "roi_head.mask_roi_extractor.finest_scale": 56,
    "roi_head.mask_roi_extractor.roi_layer.type": "RoIAlign",
    "roi_head.mask_roi_extractor.roi_layer.output_size": 14,
    "roi_head.mask_head.predictor_cfg.tempearture": 20,  # as it is spelt there
    "roi_head.mask_head.predictor_cfg.learnable_temp": False,
}
_NMS_OF_PROPOSALS = 0.7
_STRIDES = {"pytorch": "3x3", "caffe": "1x1"}
_ACTIVATIONS = ("gumbel", "sigmoid", "softmax")
# GOL's losses, which have sigmoid unless they say otherwise, and mmdetection's own.
_OF_LOSSES = {
    **{"GumbelCE": "gumbel", "DropLoss": "sigmoid", "EQL": "sigmoid"},
    **{"CrossEntropyLoss": "sigmoid", "FocalLoss": "sigmoid"},
}


@dataclass(frozen=True)
class Stated:
    """What a config says.

    Attributes:
        settings: by their dotted names here.
        other_classifier: why its classifier is none of a linear layer and an activation that are here, if it is not.
        tests: what it is tested with there, in words.
        sizes: that its shorter side is resized to in tests, and that the longer one is at most, if they are one pair.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    other_classifier: str | None = None
    tests: str | None = None
    sizes: tuple[int, int] | None = None


def parse(text: str) -> dict[str, Any]:
    """The variables of a config's text whose values are literals and calls of `dict`; others are left out.

    The text may begin with a line that names its file.

    Raises:
        InputError: it is longer than `limits.SETTINGS_BYTES`.
    """
    SETTINGS_BYTES.check(len(text), f"its config has {len(text):,} characters")
    for candidate in (text, text.partition("\n")[2]):
        try:
            return dict(_variables(ast.parse(candidate)))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return {}


def _variables(module: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, _value(node.value)


def stated(config: Mapping[str, Any]) -> Stated:
    """What a config that `parse` read says of its detector, in this program's settings.

    Raises:
        InputError: it says something that detectors here cannot do.
    """
    model = config.get("model")
    if not isinstance(model, Mapping):
        return Stated()
    for name, needed in _REQUIRED.items():
        found = _at(model, name)
        if found is not None and found != needed:
            wanted = "nothing" if needed is None else repr(needed)
            raise InputError(f"its config says model.{name} = {found!r}, and detectors here have {wanted}")
    settings = {**_normalisation(config, model), **_conventions(model), **_predictors(model)}
    tests = model.get("test_cfg") or config.get("test_cfg")
    overlap = _at(tests, "rpn.nms.iou_threshold") or _at(tests, "rpn.nms_thr")
    if overlap not in (None, _NMS_OF_PROPOSALS):
        raise InputError(f"its config says test_cfg.rpn.nms = {overlap!r}, and detectors here have {_NMS_OF_PROPOSALS}")
    before = _at(tests, "rpn.nms_pre")
    if isinstance(before, int):
        settings["detector.proposals_before_nms"] = before
    known = {name: value for name, value in settings.items() if value is not None}
    return Stated(known, _other_classifier(model), _tests(tests), _sizes(config))


def _conventions(model: Mapping[str, Any]) -> dict[str, Any]:
    norm = _at(model, "backbone.norm_cfg")
    layer = _at(model, "roi_head.bbox_roi_extractor.roi_layer")
    stds = _at(model, "roi_head.bbox_head.bbox_coder.target_stds")
    found: dict[str, Any] = {"stride_in": _STRIDES.get(str(_at(model, "backbone.style")))}
    if isinstance(norm, Mapping):
        found["batchnorm_eps"] = norm.get("eps", 1e-5)
    if isinstance(_at(model, "rpn_head.anchor_generator"), Mapping):
        found["anchor_offset"] = _at(model, "rpn_head.anchor_generator.center_offset") or 0.0
    if isinstance(layer, Mapping):
        found["aligned"], found["sampling_ratio"] = layer.get("aligned", True), layer.get("sampling_ratio", 0)
    if stds is not None:
        found["coder_weights"] = tuple(round(1 / one, DIGITS) for one in _four(stds))
    return {f"detector.conventions.{name}": value for name, value in found.items()}


def _four(stds: Any) -> tuple[float, ...]:
    numbers = [one for one in stds if isinstance(one, float | int) and one > 0] if isinstance(stds, list) else []
    if len(numbers) != 4 or numbers != stds:
        raise InputError(f"its config says model.roi_head.bbox_head.bbox_coder.target_stds = {stds!r}")
    return tuple(numbers)


def _normalisation(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Colours and their normalisation, of version 3 or 2."""
    told = model.get("data_preprocessor")
    told = told if isinstance(told, Mapping) and "mean" in told else config.get("img_norm_cfg")
    told = told if isinstance(told, Mapping) else next(_normalising(config), None)
    if not isinstance(told, Mapping):
        return {}
    is_rgb = told["bgr_to_rgb"] if "bgr_to_rgb" in told else told.get("to_rgb", "data_preprocessor" not in model)
    if told.get("rgb_to_bgr") or not isinstance(is_rgb, bool):
        return {}
    found: dict[str, Any] = {"detector.conventions.channels": "rgb" if is_rgb else "bgr"}
    for name in ("mean", "std"):
        numbers = told.get(name)
        if isinstance(numbers, list) and len(numbers) == 3 and all(isinstance(one, float | int) for one in numbers):
            red_first = numbers if is_rgb else numbers[::-1]
            found[f"transform.{name}"] = tuple(round(one / BYTES, DIGITS) for one in red_first)
    return found


def _normalising(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Steps of pipelines that normalise, wherever they are."""
    if isinstance(tree, Mapping):
        if tree.get("type") == "Normalize":
            yield tree
        for value in tree.values():
            yield from _normalising(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _normalising(value)


def _predictors(model: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    mask_head = _at(model, "roi_head.mask_head")
    if isinstance(mask_head, Mapping):
        normalized = _at(mask_head, "predictor_cfg.type") == "NormedConv2d"
        found["detector.mask_predictor"] = "normalized" if normalized else "standard"
    loss = _at(model, "roi_head.bbox_head.loss_cls")
    if isinstance(loss, Mapping):
        found["detector.activation"] = _activation(loss)
    return found


def _activation(loss: Mapping[str, Any]) -> str | None:
    """What turns a classifier's logits into scores, by the loss it was trained with; None: it does not say."""
    kind = loss.get("use_classif")  # of GOL's DropLoss and EQL
    if kind is not None:
        return kind if kind in _ACTIVATIONS else None
    if loss.get("type") == "CrossEntropyLoss" and not loss.get("use_sigmoid"):
        return "softmax"
    return _OF_LOSSES.get(str(loss.get("type")))


def _other_classifier(model: Mapping[str, Any]) -> str | None:
    layer = _at(model, "roi_head.bbox_head.cls_predictor_cfg.type")
    if layer not in (None, "Linear"):
        return f"it is a {layer}, and no linear layer"
    kind = _at(model, "roi_head.bbox_head.loss_cls.use_classif")
    if kind not in (None, *_ACTIVATIONS):
        return f"its activation is {kind!r}, which is not here"
    loss = _at(model, "roi_head.bbox_head.loss_cls")
    if isinstance(loss, Mapping) and loss.get("type") and _activation(loss) is None:
        return f"its loss is {loss['type']!r}, and what its scores are is not known here"
    return None


def _sizes(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """The sides of images in tests, of version 3's `Resize` or 2's `MultiScaleFlipAug`."""
    test = _at(config, "data.test.pipeline") or _at(config, "test_dataloader.dataset.pipeline")
    test = test or config.get("test_pipeline")
    for step in test if isinstance(test, list) else []:
        kind, scale = _at(step, "type"), _at(step, "scale") or _at(step, "img_scale")
        sides = [side for side in scale if isinstance(side, int)] if isinstance(scale, list) else []
        if kind in ("Resize", "MultiScaleFlipAug") and len(sides) == 2:
            return min(sides), max(sides)
    return None


def _tests(tests: Any) -> str | None:
    """The settings that its detections are tested with."""
    told = {
        "score_threshold": _at(tests, "rcnn.score_thr"),
        "nms": _at(tests, "rcnn.nms.iou_threshold") or _at(tests, "rcnn.nms.iou_thr"),
        "max_detections": _at(tests, "rcnn.max_per_img"),
        "proposals": _at(tests, "rpn.max_per_img") or _at(tests, "rpn.max_num") or _at(tests, "rpn.nms_post"),
    }
    known = [f"detector.{name}={value:g}" for name, value in told.items() if isinstance(value, float | int)]
    return " ".join(known) or None


def _at(tree: Any, dotted: str) -> Any:
    """What a tree of dicts has at a dotted name; None: nothing."""
    for key in dotted.split("."):
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def _value(node: ast.expr) -> Any:
    """A literal's value, with lists for tuples; None for whatever is none."""
    if isinstance(node, ast.Constant):
        return None if isinstance(node.value, int) and node.value > LARGEST else node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {one.arg: _value(one.value) for one in node.keywords if one.arg}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        return -number if isinstance(number, int | float) else None
    return None
