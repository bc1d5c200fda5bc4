"""Whose names a detector's tensors have, and what they are called there and here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from gol_decouple.backbones.checkpoints import WRAPPERS
from gol_decouple.backbones.class_order import (
    NEVER,
    LinearLayer,
    background_first,
    background_last,
    classifier_to_torchvision,
)
from gol_decouple.detector_settings import Framework
from gol_decouple.errors import InputError

STEM = "backbone.body.conv1.weight"
CLASSIFIER = "roi_heads.box_predictor.cls_score."
REGRESSOR = "roi_heads.box_predictor.bbox_pred."
MASKS = "roi_heads.mask_predictor.mask_fcn_logits."
# What has rows for each class, how many, and the bias of background's where a framework has none.
ROWS = {CLASSIFIER: (1, NEVER), REGRESSOR: (4, 0.0), MASKS: (1, NEVER)}

_WRAPPERS = WRAPPERS - {"backbone"}  # a part of its own here
EXPORTED = "docs/exported-rois.md exports what its classifier sees of each image; stage two retrains it on that"

# What is replaced in our names, one after another; a framework's names of all of ours give the way back.
_RENAMED: dict[Framework, tuple[tuple[str, str], ...]] = {
    "torchvision": (),
    "mmdetection": (
        ("backbone.body.", "backbone."),
        *((f"backbone.fpn.inner_blocks.{level}.0.", f"neck.lateral_convs.{level}.conv.") for level in range(4)),
        *((f"backbone.fpn.layer_blocks.{level}.0.", f"neck.fpn_convs.{level}.conv.") for level in range(4)),
        ("rpn.head.conv.0.0.", "rpn_head.rpn_conv."),
        ("rpn.head.cls_logits.", "rpn_head.rpn_cls."),
        ("rpn.head.bbox_pred.", "rpn_head.rpn_reg."),
        ("roi_heads.box_head.fc6.", "roi_head.bbox_head.shared_fcs.0."),
        ("roi_heads.box_head.fc7.", "roi_head.bbox_head.shared_fcs.1."),
        (CLASSIFIER, "roi_head.bbox_head.fc_cls."),
        (REGRESSOR, "roi_head.bbox_head.fc_reg."),
        *((f"roi_heads.mask_head.{at}.0.", f"roi_head.mask_head.convs.{at}.conv.") for at in range(4)),
        ("roi_heads.mask_predictor.conv5_mask.", "roi_head.mask_head.upsample."),
        (MASKS, "roi_head.mask_head.conv_logits."),
    ),
    "detectron2": (
        ("backbone.body.conv1.", "backbone.bottom_up.stem.conv1."),
        ("backbone.body.bn1.", "backbone.bottom_up.stem.conv1.norm."),
        *((f"backbone.body.layer{stage}.", f"backbone.bottom_up.res{stage + 1}.") for stage in range(1, 5)),
        (".downsample.0.", ".shortcut."),
        (".downsample.1.", ".shortcut.norm."),
        *((f".bn{at}.", f".conv{at}.norm.") for at in range(1, 4)),
        *((f"backbone.fpn.inner_blocks.{level}.0.", f"backbone.fpn_lateral{level + 2}.") for level in range(4)),
        *((f"backbone.fpn.layer_blocks.{level}.0.", f"backbone.fpn_output{level + 2}.") for level in range(4)),
        ("rpn.head.conv.0.0.", "proposal_generator.rpn_head.conv."),
        ("rpn.head.cls_logits.", "proposal_generator.rpn_head.objectness_logits."),
        ("rpn.head.bbox_pred.", "proposal_generator.rpn_head.anchor_deltas."),
        ("roi_heads.box_head.fc6.", "roi_heads.box_head.fc1."),
        ("roi_heads.box_head.fc7.", "roi_heads.box_head.fc2."),
        *((f"roi_heads.mask_head.{at}.0.", f"roi_heads.mask_head.mask_fcn{at + 1}.") for at in range(4)),
        ("roi_heads.mask_predictor.conv5_mask.", "roi_heads.mask_head.deconv."),
        (MASKS, "roi_heads.mask_head.predictor."),
    ),
}
# Beginnings of names that only a framework's detectors have, the surest first.
_MARKS: tuple[tuple[Framework, tuple[str, ...]], ...] = (
    ("detectron2", ("proposal_generator.", "backbone.bottom_up.", "backbone.fpn_lateral", "roi_heads.res5.")),
    ("mmdetection", ("roi_head.", "rpn_head.", "neck.", "bbox_head.")),
    ("torchvision", ("backbone.body.", "backbone.fpn.", "rpn.", "roi_heads.")),
)
# Beginnings of names of detectors that are no Mask R-CNN on an FPN, and what these are.
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("roi_head.bbox_head.0.", "roi_heads.box_predictor.0.", "roi_heads.box_head.0.", "bbox_head.0."),
        "a cascade, whose boxes are classified several times",
    ),
    (("bbox_head.retina_", "head.cls_score.", "head.bbox_pred."), "a RetinaNet, which classifies anchors and no RoIs"),
    (
        ("bbox_head.fc_cls.", "bbox_head.shared_fcs.", "bbox_head.fc_reg."),
        "mmdetection 1.x, whose boxes and RoIs are not those of later versions",
    ),
    (("bbox_head.",), "a detector of mmdetection's that classifies no RoIs"),
    (("roi_head.shared_head.", "roi_heads.res5."), "a detector on one feature map (C4), and no FPN"),
    (("backbone.stem.", "backbone.res4."), "a detector of detectron2's without an FPN (C4 or DC5)"),
)
# Constants beside detectron2's weights, and the moving averages of mmdetection's.
_IGNORED = ("proposal_generator.anchor_generator.", "pixel_mean", "pixel_std", "ema_")


def bare(name: str) -> str:
    """A tensor's name without what training scripts wrap a model in."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def is_ignored(name: str) -> bool:
    """Whether a framework stores this beside its weights, and nothing is lost without it."""
    return bare(name).startswith(_IGNORED)


def layout_of(names: Iterable[str]) -> Framework | None:
    """Whose detectors have tensors of these names; None: nobody's."""
    known = [bare(name) for name in names]
    for framework, marks in _MARKS:
        if any(name.startswith(marks) for name in known):
            return framework
    return None


def name_in(framework: Framework, name: str) -> str:
    """What a framework calls a tensor that is called `name` here."""
    return reduce(lambda made, pair: made.replace(*pair), _RENAMED[framework], name)


def refuse_others(names: Collection[str], path: Path) -> None:
    """Refuse the weights of other detectors.

    Raises:
        InputError: there are names that no Mask R-CNN on an FPN has.
    """
    known = [bare(name) for name in names]
    for beginnings, what in _OTHERS:
        if found := next((name for name in known if name.startswith(beginnings)), None):
            raise InputError(f"checkpoint {path} is of {what} ({found})", EXPORTED)
    if any(name.startswith("roi_head.") for name in known) and not any(name.startswith("neck.") for name in known):
        raise InputError(f"checkpoint {path} is of a detector of mmdetection's without an FPN (C4 or DC5)", EXPORTED)


@dataclass(frozen=True)
class Layout:
    """How a file's tensors lie there, as far as it is not the same here.

    Attributes:
        framework: whose names they have.
        background: whether its classifier has a column for background.
        order: the places of our classes in the file, [C]; None: the same.
        bgr: whether its first layer takes blue first.
    """

    framework: Framework
    background: bool = True
    order: tuple[int, ...] | None = None
    bgr: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Layout:
        """The layout that `as_dict` told.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        order = told["order"]
        if told["framework"] not in _RENAMED:
            raise ValueError(told["framework"])
        places = None if order is None else tuple(map(int, order))
        return cls(told["framework"], bool(told["background"]), places, bool(told["bgr"]))


def to_ours(name: str, tensor: torch.Tensor, layout: Layout, num_classes: int) -> torch.Tensor:
    """A file's tensor as our detector for C classes has it, or as it is, if it is for others.

    Args:
        name: ours.
    """
    if name == STEM and layout.bgr:
        return tensor.flip(1)
    part, _, kind = name.rpartition(".")
    per_class, bias = ROWS.get(f"{part}.", (0, 0.0))
    if layout.framework == "torchvision" or not per_class:
        return tensor
    fits = [num_classes * per_class]
    if part + "." == CLASSIFIER:
        fits = [num_classes + layout.background]
    if len(tensor) not in fits or _is_agnostic(part + ".", tensor):
        return tensor
    return background_first(tensor, num_classes, layout.order, per_class, bias if kind == "bias" else 0.0)


def to_layout(
    state: Mapping[str, torch.Tensor], layout: Layout, classifier: LinearLayer | None = None
) -> dict[str, torch.Tensor]:
    """Our detector's state in a file's layout: under its names, in its order of classes and colours.

    Args:
        state: of the whole detector, or some of it.
        classifier: instead of the state's own: ours, [C or C+1, D], background last.

    Raises:
        InputError: the classifier has a column for background, and the layout has none.
    """
    tensors = dict(state)
    if classifier is not None:
        columns, num_classes = len(classifier.bias), len(state[f"{MASKS}bias"]) - 1
        if columns > num_classes and not layout.background:
            raise InputError(
                f"the classifier has {columns} columns, one for background, and the checkpoint's has {num_classes}",
                "take a classifier of sigmoid or gumbel, which has no background",
            )
        weight, bias = classifier_to_torchvision(classifier, num_classes)
        tensors |= {f"{CLASSIFIER}weight": weight, f"{CLASSIFIER}bias": bias}
    return {name_in(layout.framework, name): _from_ours(name, tensor, layout) for name, tensor in tensors.items()}


def _from_ours(name: str, tensor: torch.Tensor, layout: Layout) -> torch.Tensor:
    if name == STEM and layout.bgr:
        return tensor.flip(1)
    part = name.rpartition(".")[0] + "."
    per_class, _ = ROWS.get(part, (0, 0.0))
    if layout.framework == "torchvision" or not per_class or _is_agnostic(part, tensor):
        return tensor
    return background_last(tensor, layout.order, per_class, part == CLASSIFIER and layout.background)


def _is_agnostic(part: str, tensor: torch.Tensor) -> bool:
    """Whether these are the rows of one box regressor for all classes."""
    return part == REGRESSOR and len(tensor) == 4
