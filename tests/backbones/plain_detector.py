"""How mmdetection (2.x and 3.x) and detectron2 test a Mask R-CNN on one image, step by step.

Written from their sources, apart from ours and from torchvision's models: tests compare ours with it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from fixed_point import resize_fixed_point
from foreign import name_of
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms, roi_align

State = dict[str, Tensor]
STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)  # height over width
LONGEST_GROWTH = math.log(1000 / 16)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of bytes, red first


class Conventions(NamedTuple):
    """What a checkpoint was trained with: all that its weights do not show. `mean` and `std` are red first."""

    framework: str
    channels: str = "rgb"
    stride_in: str = "3x3"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    activation: str = "softmax"
    normalized_masks: bool = False
    eps: float = 1e-5
    min_size: int = 800
    max_size: int = 1333
    proposals: int = 1000  # before suppression, of a level, and after it, of the image
    score_threshold: float = 0.05
    nms: float = 0.5
    max_detections: int = 100


MMDETECTION = Conventions("mmdetection")
MMDETECTION_CAFFE = Conventions("mmdetection", "bgr", "1x1", std=(1.0, 1.0, 1.0))
DETECTRON2 = Conventions("detectron2", "bgr", "1x1", std=(1.0, 1.0, 1.0))
DETECTRON2_X101 = Conventions("detectron2", "bgr", "3x3", std=(58.395, 57.12, 57.375))


class Result(NamedTuple):
    """What a detector makes of an image of H x W pixels, which it sees as h x w pixels.

    Attributes:
        pixels: float [3, h padded, w padded], the network's input.
        size: h, w.
        maps: of the FPN, five of [1, channels, ...].
        proposals: float [N, 4], corners x, y, x, y in h x w; best first.
        features: float [N, 1024], of the proposals, before the classifier.
        scores: float [N, C], after the activation, without background.
        boxes: float [M, 4], of the detections, best first, in H x W.
        labels: int64 [M].
        detected: float [M], their scores.
        masks: bool [M, H, W].
    """

    pixels: Tensor
    size: tuple[int, int]
    maps: list[Tensor]
    proposals: Tensor
    features: Tensor
    scores: Tensor
    boxes: Tensor
    labels: Tensor
    detected: Tensor
    masks: Tensor


@torch.no_grad()
def detect(state: State, image: np.ndarray, how: Conventions, proposals: Tensor | None = None) -> Result:
    """The whole inference on a uint8 image [H, W, 3] in RGB, with other proposals than the network's own if given."""
    pixels, size = prepare(image, how)
    maps = pyramid(state, how, resnet(state, how, pixels[None]))
    if proposals is None:
        proposals, _ = propose(state, how, maps, size)
    features = box_features(state, how, maps, proposals)
    scores = class_scores(state, how, features)
    boxes = class_boxes(state, how, features, proposals, size)
    boxes, labels, detected = best(boxes, scores, how)
    probabilities = mask_probabilities(state, how, maps, boxes, labels)
    height, width = image.shape[:2]
    boxes = boxes * torch.tensor([width / size[1], height / size[0]] * 2)
    if how.framework == "detectron2":  # drops those that are cut to nothing
        visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, labels, detected, probabilities = (part[visible] for part in (boxes, labels, detected, probabilities))
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, probability, box in zip(masks, probabilities, boxes, strict=True):
        mask[:] = paste(probability, box, height, width) >= 0.5
    return Result(pixels, size, maps, proposals, features, scores, boxes, labels, detected, masks)


def prepare(image: np.ndarray, how: Conventions) -> tuple[Tensor, tuple[int, int]]:
    """The network's input [3, padded height, padded width], and the image's height and width within it."""
    height, width = new_size(*image.shape[:2], how)
    if how.framework == "detectron2":
        resized = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    else:
        resized = resize_fixed_point(image, height, width)
    pixels = (torch.from_numpy(resized).float() - torch.tensor(how.mean)) / torch.tensor(how.std)
    pixels = pixels.permute(2, 0, 1)
    if how.channels == "bgr":
        pixels = pixels.flip(0)
    return F.pad(pixels, (0, -width % 32, 0, -height % 32)), (height, width)


def new_size(height: int, width: int, how: Conventions) -> tuple[int, int]:
    """To the nearest; half a pixel goes up or down as each framework's order of floating-point steps has it."""
    if how.framework == "mmdetection":
        scale = min(how.max_size / max(height, width), how.min_size / min(height, width))
        return int(height * scale + 0.5), int(width * scale + 0.5)
    new = [
        float(how.min_size) if side == min(height, width) else how.min_size / min(height, width) * side
        for side in (height, width)
    ]
    if max(new) > how.max_size:
        scale = how.max_size / max(new)
        new = [side * scale for side in new]
    return int(new[0] + 0.5), int(new[1] + 0.5)


def resnet(state: State, how: Conventions, x: Tensor) -> list[Tensor]:
    """The maps [1, channels, ...] of the four stages."""

    def norm(x: Tensor, part: str, at: int = 0, **where: int) -> Tensor:
        name = name_of(how.framework, part, at, **where)
        weight, bias, mean, variance = (
            state[f"{name}.{key}"][:, None, None] for key in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + how.eps).sqrt() * weight + bias

    x = F.conv2d(x, state[name_of(how.framework, "stem")], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "stem_norm").relu(), 3, stride=2, padding=1)
    maps = []
    for stage in range(4):
        block = 0
        while name_of(how.framework, "conv", stage=stage, block=block) in state:
            where = {"stage": stage, "block": block}
            weights = [state[name_of(how.framework, "conv", at, **where)] for at in range(3)]
            stride = 2 if stage > 0 and block == 0 else 1
            first, second = (stride, 1) if how.stride_in == "1x1" else (1, stride)
            y = norm(F.conv2d(x, weights[0], stride=first), "norm", 0, **where).relu()
            groups = y.shape[1] // weights[1].shape[1]
            y = norm(F.conv2d(y, weights[1], stride=second, padding=1, groups=groups), "norm", 1, **where).relu()
            y = norm(F.conv2d(y, weights[2]), "norm", 2, **where)
            if block == 0:
                shortcut = state[name_of(how.framework, "shortcut", **where)]
                x = norm(F.conv2d(x, shortcut, stride=stride), "shortcut_norm", **where)
            x = (x + y).relu()
            block += 1
        maps.append(x)
    return maps


def weights_of(state: State, how: Conventions, part: str, at: int = 0) -> tuple[Tensor, Tensor]:
    name = name_of(how.framework, part, at)
    return state[f"{name}.weight"], state[f"{name}.bias"]


def pyramid(state: State, how: Conventions, maps: list[Tensor]) -> list[Tensor]:
    """The FPN's five maps: each has a pixel for 4, 8, ... 64 pixels of the input."""
    coarser, levels = None, []
    for at in reversed(range(4)):
        inner = F.conv2d(maps[at], *weights_of(state, how, "lateral", at))
        if coarser is not None:
            inner = inner + coarser.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        levels.insert(0, F.conv2d(inner, *weights_of(state, how, "output", at), padding=1))
        coarser = inner
    return [*levels, levels[-1][:, :, ::2, ::2]]


def anchors(height: int, width: int, stride: int) -> Tensor:
    """Of a map's pixels, in the order y, x, ratio: [height * width * 3, 4]; the first is centred at 0, 0."""
    size = 8 * stride
    sides = torch.tensor([[size / ratio**0.5, size * ratio**0.5] for ratio in RATIOS])
    y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
    centres = torch.stack([x, y], dim=-1)[:, :, None].float()
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=-1).reshape(-1, 4)


def moved(boxes: Tensor, deltas: Tensor, size: tuple[int, int], framework: str) -> Tensor:
    """Boxes [..., 4] moved by deltas (of the centre, in sides; log of the sides) and cut to the image."""
    sides, centres = boxes[..., 2:] - boxes[..., :2], (boxes[..., :2] + boxes[..., 2:]) / 2
    growth = deltas[..., 2:].clamp(max=LONGEST_GROWTH)
    if framework == "mmdetection":
        growth = growth.clamp(min=-LONGEST_GROWTH)
    centres, half = centres + deltas[..., :2] * sides, sides * growth.exp() / 2
    limits = torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype)
    return torch.cat([centres - half, centres + half], dim=-1).clamp(min=0).minimum(limits)


def propose(state: State, how: Conventions, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Proposals [N, 4] and their logits, best first."""
    kept_boxes, kept_logits = [], []
    for stride, level in zip(STRIDES, maps, strict=True):
        hidden = F.conv2d(level, *weights_of(state, how, "rpn"), padding=1).relu()
        logits = F.conv2d(hidden, *weights_of(state, how, "objectness"))[0].permute(1, 2, 0).reshape(-1)
        deltas = F.conv2d(hidden, *weights_of(state, how, "anchor_deltas"))[0].permute(1, 2, 0).reshape(-1, 4)
        order = logits.argsort(descending=True, stable=True)[: how.proposals]
        boxes = moved(anchors(*level.shape[2:], stride)[order], deltas[order], size, how.framework)
        logits = logits[order]
        visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, logits = boxes[visible], logits[visible]
        kept = nms(boxes, logits, 0.7)
        kept_boxes.append(boxes[kept])
        kept_logits.append(logits[kept])
    boxes, logits = torch.cat(kept_boxes), torch.cat(kept_logits)
    order = logits.argsort(descending=True, stable=True)[: how.proposals]
    return boxes[order], logits[order]


def level_of(boxes: Tensor, framework: str) -> Tensor:
    """Which of the four finest maps each box is pooled from: int64 [N]."""
    size = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    if framework == "mmdetection":
        level = torch.log2(size / 56 + 1e-6)
    else:
        level = 4 + torch.log2(size / 224 + 2.0**-52) - 2
    return level.floor().clamp(0, 3).long()


def pooled(maps: list[Tensor], boxes: Tensor, bins: int, framework: str) -> Tensor:
    """RoIAlign with pixel centres where they are, as many samples a bin as it has pixels: [N, channels, bins, bins]."""
    levels, out = level_of(boxes, framework), boxes.new_zeros(len(boxes), maps[0].shape[1], bins, bins)
    for level, stride in enumerate(STRIDES[:4]):
        here = levels == level
        out[here] = roi_align(maps[level], [boxes[here]], bins, 1 / stride, sampling_ratio=0, aligned=True)
    return out


def box_features(state: State, how: Conventions, maps: list[Tensor], boxes: Tensor) -> Tensor:
    x = pooled(maps, boxes, 7, how.framework).flatten(1)
    for at in (0, 1):
        x = F.linear(x, *weights_of(state, how, "fc", at)).relu()
    return x


def class_scores(state: State, how: Conventions, features: Tensor) -> Tensor:
    """[N, C]: the columns after the C classes are background's, or nobody's."""
    logits = F.linear(features, *weights_of(state, how, "classes"))
    classes = len(weights_of(state, how, "masks")[0])
    if how.activation == "softmax":
        return logits.softmax(dim=1)[:, :classes]
    logits = logits[:, :classes]
    return logits.sigmoid() if how.activation == "sigmoid" else (-(-logits).exp()).exp()


def class_boxes(state: State, how: Conventions, features: Tensor, proposals: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, C, 4] or, of a regressor for all classes, [N, 1, 4]."""
    deltas = F.linear(features, *weights_of(state, how, "deltas")).reshape(len(features), -1, 4)
    return moved(proposals[:, None], deltas / torch.tensor([10.0, 10.0, 5.0, 5.0]), size, how.framework)


def best(boxes: Tensor, scores: Tensor, how: Conventions) -> tuple[Tensor, Tensor, Tensor]:
    """The surest detections' boxes [M, 4], labels and scores, after suppression within each class."""
    found: list[tuple[Any, ...]] = []
    for label in range(scores.shape[1]):
        sure = scores[:, label] > how.score_threshold
        own_scores, own_boxes = scores[sure, label], boxes[sure, label if boxes.shape[1] > 1 else 0]
        kept = nms(own_boxes, own_scores, how.nms)
        found.append((own_boxes[kept], torch.full((len(kept),), label), own_scores[kept]))
    all_boxes, labels, all_scores = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = all_scores.argsort(descending=True, stable=True)[: how.max_detections]
    return all_boxes[order], labels[order], all_scores[order]


def mask_probabilities(state: State, how: Conventions, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """[M, 28, 28]."""
    x = pooled(maps, boxes, 14, how.framework)
    for at in range(4):
        x = F.conv2d(x, *weights_of(state, how, "mask_conv", at), padding=1).relu()
    x = F.conv_transpose2d(x, *weights_of(state, how, "mask_up"), stride=2).relu()
    weight, bias = weights_of(state, how, "masks")
    if how.normalized_masks:
        x = 20 * x / (x.norm(dim=1, keepdim=True) + 1e-6)
        weight = weight / (weight.norm(dim=1, keepdim=True) + 1e-6)
    return F.conv2d(x, weight, bias)[torch.arange(len(labels)), labels].sigmoid()


def paste(mask: Tensor, box: Tensor, height: int, width: int) -> Tensor:
    """Probabilities [28, 28] of a box at the centres of an image's pixels [height, width]: bilinear, zero outside."""

    def shares(length: int, low: Tensor, high: Tensor, cells: int) -> Tensor:
        at = (torch.arange(length) + 0.5 - low) / (high - low) * cells - 0.5
        return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0)

    rows = shares(height, box[1], box[3], mask.shape[0])
    columns = shares(width, box[0], box[2], mask.shape[1])
    return rows @ mask @ columns.T
