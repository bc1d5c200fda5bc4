"""RoIs of a frozen detector with what its classifier sees of them: what is cached of train and of val images.

Everything but the random choice is torchvision's own: proposals of the RPN, their IoU with the objects, the features
after the box head. The choice is drawn from (seed, image id), so that it depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gol_decouple import runtime

FOREGROUND_IOU = 0.5  # at least, of a RoI with the object that it overlaps most; as in the detector's own training
ROIS = 5  # a random stream
Target = dict[str, torch.Tensor]
Matched = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes, labels and IoUs of some RoIs


@dataclass(frozen=True)
class Rois:
    """R RoIs of one image.

    Attributes:
        features: after the box head, float32 [R, D].
        labels: of the object that each overlaps most, 0..C-1, or C, background, int64 [R].
        boxes: x1, y1, x2, y2 in pixels of the original image, float32 [R, 4].
        ious: with that object, 0 where the image has none, float32 [R].
    """

    features: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    ious: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Sampling:
    """How train RoIs are drawn: at most `num_rois` of an image, of which at most a share are of objects.

    `foreground_fraction = 1.0` keeps all RoIs of objects that there is room for.
    """

    num_rois: int
    foreground_fraction: float
    seed: int = 0

    def choose(self, labels: torch.Tensor, num_classes: int, image_id: int) -> torch.Tensor:
        """Indices [R] into labels [P] of an image's RoIs, in ascending order; as torchvision's own sampler counts."""
        draws = runtime.generator(self.seed, ROIS, image_id % 2**63)
        foreground, background = (
            torch.nonzero(which).squeeze(1).cpu() for which in (labels < num_classes, labels == num_classes)
        )
        first = _some(foreground, int(self.num_rois * self.foreground_fraction), draws)
        rest = _some(background, self.num_rois - len(first), draws)
        return torch.cat([first, rest]).sort().values.to(labels.device)


def train_rois(
    detector: nn.Module,
    images: Sequence[torch.Tensor],
    targets: Sequence[Target],
    image_ids: Sequence[int],
    num_classes: int,
    sampling: Sampling,
    precision: torch.dtype | None = None,
) -> list[Rois]:
    """RoIs to train a classifier on: proposals of the RPN and the objects themselves, some of them drawn.

    The detector is put in eval mode: it resizes to its test size, and nothing of it moves. Images of a batch are padded
    to one size, which the features of RoIs near an edge feel a little: batch alike to have the same bytes again.

    Args:
        images: float32 [3, H, W] in [0, 1] of any sizes, on the detector's device.
        targets: `boxes` [n, 4] in pixels and `labels` [n], 0..C-1, of each image.
        image_ids: which key the draws.
        precision: of mixed precision in the body and the RPN; features come from float32 maps either way.
    """

    def chosen(position: int, proposals: torch.Tensor, target: Target) -> Matched:
        boxes = torch.cat([proposals, target["boxes"].to(proposals.dtype)])
        labels, ious = _match(detector, boxes, target, num_classes)
        kept = sampling.choose(labels, num_classes, image_ids[position])
        return boxes[kept], labels[kept], ious[kept]

    return _rois(detector, images, targets, chosen, precision)


def val_rois(
    detector: nn.Module,
    images: Sequence[torch.Tensor],
    targets: Sequence[Target],
    num_classes: int,
    num_rois: int,
    precision: torch.dtype | None = None,
) -> list[Rois]:
    """RoIs as testing has them: the `num_rois` proposals that the RPN is surest of, surest first; see `train_rois`.

    What the objects are changes only `labels` and `ious`.
    """

    def chosen(_: int, proposals: torch.Tensor, target: Target) -> Matched:
        boxes = proposals[:num_rois]  # the RPN gives them in this order
        return boxes, *_match(detector, boxes, target, num_classes)

    return _rois(detector, images, targets, chosen, precision)


@torch.inference_mode()
def _rois(
    detector: Any,
    images: Sequence[torch.Tensor],
    targets: Sequence[Target],
    chosen: Callable[[int, torch.Tensor, Target], Matched],
    precision: torch.dtype | None,
) -> list[Rois]:
    """The RoIs that `chosen` takes of an image, given its position, proposals and target, both in the resized image."""
    detector.eval()
    given = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
    resized, there = detector.transform(list(images), given)
    with runtime.autocast(resized.tensors.device, precision):
        maps = detector.backbone(resized.tensors)
        proposals, _ = detector.rpn(resized, maps)
    matched = [chosen(position, *both) for position, both in enumerate(zip(proposals, there, strict=True))]
    maps = {name: one.float() for name, one in maps.items()}
    pooled = detector.roi_heads.box_roi_pool(maps, [boxes for boxes, _, _ in matched], resized.image_sizes)
    features = detector.roi_heads.box_head(pooled).split([len(boxes) for boxes, _, _ in matched])
    return [
        Rois(own, labels, boxes * _scale(image, size), ious)
        for own, (boxes, labels, ious), image, size in zip(features, matched, images, resized.image_sizes, strict=True)
    ]


def _match(detector: Any, boxes: torch.Tensor, target: Target, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels [R] of boxes, and their IoU [R] with the object that each overlaps most."""
    if not len(target["boxes"]):
        labels = torch.full((len(boxes),), num_classes, device=boxes.device)
        return labels, boxes.new_zeros(len(boxes))
    ious, matched = detector.roi_heads.box_similarity(target["boxes"].to(boxes.dtype), boxes).max(dim=0)
    return torch.where(ious >= FOREGROUND_IOU, target["labels"][matched], num_classes), ious


def _some(indices: torch.Tensor, count: int, draws: torch.Generator) -> torch.Tensor:
    """`count` of them at random, or all."""
    return indices[torch.randperm(len(indices), generator=draws)[:count]]


def _scale(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What boxes in a resized image are multiplied by to be boxes of the original, [4]."""
    height, width = image.shape[-2] / size[0], image.shape[-1] / size[1]
    return torch.tensor([width, height, width, height], device=image.device)
