"""torchvision's Mask R-CNN on an FPN, around any of torchvision's ResNets.

The state has torchvision's own names and class order (background first), so that a model of ours can be loaded there;
`class_order` converts.
"""

from __future__ import annotations

import difflib
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from gol_decouple.backbones.anchors import Anchors
from gol_decouple.backbones.box_coding import BoundedCoder, ClassAgnosticPredictor
from gol_decouple.backbones.conventions import filled
from gol_decouple.backbones.resizing import Resizing
from gol_decouple.backbones.roi_pooling import roi_pooling
from gol_decouple.detector_settings import ConventionsConfig, DetectorConfig
from gol_decouple.errors import InputError
from gol_decouple.runtime import stream_seed
from gol_decouple.settings import TransformConfig

LIBRARY = "torchvision"
# The name that stands for a ResNet-50 within torchvision's own Mask R-CNN, of which there are weights trained on COCO.
COCO_DETECTOR = "maskrcnn_resnet50_fpn"
BODIES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
    "resnext101_32x4d",  # of mmdetection's checkpoints: torchvision has no weights of it
)
GROUPS = 32  # of GroupNorm
MASK_TEMPERATURE = 20.0
_HINT = f"choose torchvision:NAME of {', '.join((*BODIES, COCO_DETECTOR))}"


class Body(NamedTuple):
    """The ResNet that a backbone's name stands for.

    Attributes:
        architecture: torchvision's name of it.
        weights: the name of its published weights among torchvision's models, with a tag if the user gave one.
        of_detector: whether those are of a whole Mask R-CNN.
    """

    architecture: str
    weights: str
    of_detector: bool


def body_of(name: str) -> Body:
    """The ResNet called `torchvision:resnet50`, with a tag of its weights or without, or torchvision's Mask R-CNN's.

    Raises:
        InputError: no such ResNet, or no weights of that tag.
    """
    library, _, model_name = name.partition(":")
    architecture, _, tag = model_name.partition(".")
    if library != LIBRARY or architecture not in (*BODIES, COCO_DETECTOR):
        near = difflib.get_close_matches(architecture, (*BODIES, COCO_DETECTOR), n=1)
        guess = f"did you mean {LIBRARY}:{near[0]}? " if near else ""
        message = f"backbone {name!r} cannot be a detector's: it is none of torchvision's ResNets"
        raise InputError(message, f"{guess}{_HINT}")
    tags = published_tags(architecture)
    if tag and tag not in tags:
        raise InputError(f"unknown backbone {name!r}", f"{architecture} has weights {', '.join(tags) or 'nowhere'}")
    of_detector = architecture == COCO_DETECTOR
    return Body("resnet50" if of_detector else architecture, model_name, of_detector)


def published_tags(architecture: str) -> list[str]:
    """The tags of a ResNet's published weights; none of one that torchvision does not have."""
    if architecture not in models.list_models():
        return []
    return [known for known in models.get_model_weights(architecture).__members__ if known != "DEFAULT"]


def build_detector(
    name: str,
    num_classes: int,
    seed: int,
    settings: DetectorConfig,
    transform: TransformConfig,
    frozen_batchnorm: bool,
    class_agnostic: bool = False,
) -> MaskRCNN:
    """A freshly initialised Mask R-CNN for C classes and background, its weights drawn from `seed`.

    Its input are images [3, H, W] of floats in [0, 1], of any size; it normalises and resizes them itself, in training
    mode to a random one of `train_min_sizes`, else to `min_size`. What frameworks do differently, it does by
    `settings.conventions`, and has them as its attribute `conventions`, with nothing unset.

    Args:
        frozen_batchnorm: for weights trained elsewhere, whose statistics then stand still, since a detector's batches
            are too small to move them. A body that begins with random weights has GroupNorm instead: its statistics
            are those of one image, so neither batches nor processes change what it learns.
        class_agnostic: every class has the same box: `bbox_pred` is [4, D].

    Raises:
        InputError: no backbone has that name, or not one for detectors.
    """
    body, conventions = body_of(name), filled(settings.conventions)
    norm = (
        partial(FrozenBatchNorm2d, eps=conventions.batchnorm_eps) if frozen_batchnorm else partial(nn.GroupNorm, GROUPS)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed))
        backbone = _backbone(body.architecture, norm)
        coder_weights = conventions.coder_weights
        model = MaskRCNN(backbone, num_classes + 1, bbox_reg_weights=coder_weights, **_counts(settings))
        if class_agnostic:
            model.roi_heads.box_predictor = ClassAgnosticPredictor(
                model.roi_heads.box_predictor.cls_score.in_features, num_classes + 1
            )
        if not frozen_batchnorm:
            _begin_as_shortcuts(backbone.body)
        if settings.mask_predictor == "normalized":
            _normalize(model.roi_heads.mask_predictor)
    _follow(model, conventions)
    model.transform = Resizing(settings, transform)
    # Coordinates and losses in bfloat16 would be off by pixels: what decides on boxes, classes and masks is float32.
    for module in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        module.register_forward_hook(_in_float32)
    return model


def _counts(settings: DetectorConfig) -> dict[str, float]:
    """How many there are of everything, and what is dropped, as torchvision calls it."""
    return {
        "rpn_pre_nms_top_n_train": 2 * settings.proposals,
        "rpn_post_nms_top_n_train": settings.proposals,
        "rpn_pre_nms_top_n_test": settings.proposals_before_nms or settings.proposals,
        "rpn_post_nms_top_n_test": settings.proposals,
        "box_batch_size_per_image": settings.rois_per_image,
        "box_positive_fraction": settings.foreground_fraction,
        "box_score_thresh": settings.score_threshold,
        "box_nms_thresh": settings.nms,
        "box_detections_per_img": settings.max_detections,
    }


def _follow(model: MaskRCNN, conventions: ConventionsConfig) -> None:
    """Let a model of torchvision's do what the framework of `conventions` does; its weights stay."""
    heads = model.roi_heads
    model.conventions = conventions
    model.rpn.anchor_generator = Anchors(conventions)
    heads.box_roi_pool, heads.mask_roi_pool = roi_pooling(7, conventions), roi_pooling(14, conventions)
    for part in (model.rpn, heads):
        part.box_coder = BoundedCoder(part.box_coder.weights, conventions)
    if conventions.framework != "torchvision":
        model.rpn.min_size = torch.finfo(torch.float32).tiny  # all proposals that have an area
    if conventions.stride_in == "1x1":
        for block in model.backbone.body.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


class NormalizedConv2d(nn.Conv2d):
    """A 1x1 convolution of directions: the cosine of each pixel and each filter, times a temperature, plus the bias.

    The normalised mask predictor of Seesaw Loss (Wang et al., CVPR 2021, section 3.3), which GOL takes too.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        directions = F.normalize(self.weight, dim=1, eps=1e-6)
        return F.conv2d(MASK_TEMPERATURE * F.normalize(x, dim=1, eps=1e-6), directions, self.bias)


def _backbone(architecture: str, norm_layer: Any) -> Any:
    if architecture != "resnext101_32x4d":
        return resnet_fpn_backbone(backbone_name=architecture, weights=None, norm_layer=norm_layer, trainable_layers=5)
    body = models.resnet101(weights=None, norm_layer=norm_layer, groups=32, width_per_group=4)
    layers = {f"layer{stage}": str(stage - 1) for stage in (1, 2, 3, 4)}
    return BackboneWithFPN(body, layers, [256, 512, 1024, 2048], 256)


def _begin_as_shortcuts(body: nn.Module) -> None:
    """Let each residual block begin as its shortcut alone (Goyal et al., 2017, section 5.1).

    Otherwise the maps grow from block to block, and a detector from random weights diverges in its first epoch.
    """
    for block in body.modules():
        if isinstance(block, BasicBlock):
            nn.init.zeros_(block.bn2.weight)
        elif isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)


def _normalize(mask_predictor: nn.Module) -> None:
    """Replace the predictor's last convolution by one of directions, which begins with its weights."""
    last = mask_predictor.get_submodule("mask_fcn_logits")
    normalized = NormalizedConv2d(last.in_channels, last.out_channels, 1)  # type: ignore[arg-type]
    normalized.load_state_dict(last.state_dict())
    mask_predictor.set_submodule("mask_fcn_logits", normalized)


def _in_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    return type(output)(_in_float32(_module, _inputs, part) for part in output)
