"""State dicts of Mask R-CNNs on an FPN, as mmdetection and detectron2 name and shape them, with random weights.

The weights of one seed are the same in both frameworks; only names and what lies around them differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

Part = tuple[str, tuple[int, ...], float]  # a tensor's name, shape and the standard deviation of its numbers


class Body(NamedTuple):
    """A ResNet by the blocks of its stages, and the FPN's channels."""

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    groups: int = 1
    group_width: int = 64
    channels: int = 256


BODIES = {
    "R50": Body(),
    "R101": Body((3, 4, 23, 3)),
    "X101-32x4d": Body((3, 4, 23, 3), 32, 4),
    "X101-64x4d": Body((3, 4, 23, 3), 64, 4),
    "X101-32x8d": Body((3, 4, 23, 3), 32, 8),
    "narrow": Body((1, 1, 1, 1), 1, 16, 32),  # torchvision's ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16)
}

# {at}: from 0, {one}: from 1, {two}: from 2; of blocks, {stage} is counted from 1 and {res} from 2.
NAMES = {
    "mmdetection": {
        "stem": "backbone.conv1.weight",
        "stem_norm": "backbone.bn1",
        "conv": "backbone.layer{stage}.{block}.conv{one}.weight",
        "norm": "backbone.layer{stage}.{block}.bn{one}",
        "shortcut": "backbone.layer{stage}.{block}.downsample.0.weight",
        "shortcut_norm": "backbone.layer{stage}.{block}.downsample.1",
        "lateral": "neck.lateral_convs.{at}.conv",
        "output": "neck.fpn_convs.{at}.conv",
        "rpn": "rpn_head.rpn_conv",
        "objectness": "rpn_head.rpn_cls",
        "anchor_deltas": "rpn_head.rpn_reg",
        "fc": "roi_head.bbox_head.shared_fcs.{at}",
        "classes": "roi_head.bbox_head.fc_cls",
        "deltas": "roi_head.bbox_head.fc_reg",
        "mask_conv": "roi_head.mask_head.convs.{at}.conv",
        "mask_up": "roi_head.mask_head.upsample",
        "masks": "roi_head.mask_head.conv_logits",
    },
    "detectron2": {
        "stem": "backbone.bottom_up.stem.conv1.weight",
        "stem_norm": "backbone.bottom_up.stem.conv1.norm",
        "conv": "backbone.bottom_up.res{res}.{block}.conv{one}.weight",
        "norm": "backbone.bottom_up.res{res}.{block}.conv{one}.norm",
        "shortcut": "backbone.bottom_up.res{res}.{block}.shortcut.weight",
        "shortcut_norm": "backbone.bottom_up.res{res}.{block}.shortcut.norm",
        "lateral": "backbone.fpn_lateral{two}",
        "output": "backbone.fpn_output{two}",
        "rpn": "proposal_generator.rpn_head.conv",
        "objectness": "proposal_generator.rpn_head.objectness_logits",
        "anchor_deltas": "proposal_generator.rpn_head.anchor_deltas",
        "fc": "roi_heads.box_head.fc{one}",
        "classes": "roi_heads.box_predictor.cls_score",
        "deltas": "roi_heads.box_predictor.bbox_pred",
        "mask_conv": "roi_heads.mask_head.mask_fcn{one}",
        "mask_up": "roi_heads.mask_head.deconv",
        "masks": "roi_heads.mask_head.predictor",
    },
}


def name_of(framework: str, part: str, at: int = 0, *, stage: int = 0, block: int = 0) -> str:
    """The name of a tensor, or of what has a weight and a bias; `at` and `stage` (of four) count from 0."""
    numbers = {"at": at, "one": at + 1, "two": at + 2, "stage": stage + 1, "res": stage + 2, "block": block}
    return NAMES[framework][part].format(**numbers)


def state_of(
    framework: str,
    body: str = "R50",
    classes: int = 80,
    *,
    columns: int | None = None,
    agnostic: bool = False,
    unscaled: bool = False,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """The state dict of a whole Mask R-CNN.

    Args:
        body: a key of BODIES.
        columns: of the classifier, C + 1 unless given.
        agnostic: one box regressor for all classes.
        unscaled: for pixels in bytes that no deviation divides (Caffe's), of which the first layer makes 1.
    """
    stream = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, shape, deviation in _parts(framework, BODIES[body], classes, columns or classes + 1, agnostic):
        if name.endswith(".weight"):
            weight = torch.randn(shape, generator=stream)
            # What all inputs have in common would otherwise grow from layer to layer, until all pixels look alike.
            state[name] = deviation * (weight - weight.mean(dim=tuple(range(1, len(shape))), keepdim=True))
        elif name.endswith(".bias"):
            state[name] = deviation * torch.randn(shape, generator=stream)
        else:
            state |= _batchnorm(name, shape[0], deviation, framework, stream)
    if unscaled:
        state[name_of(framework, "stem")] /= 57.0
    return state


def old_buffers() -> dict[str, torch.Tensor]:
    """What detectron2 wrote beside the weights before it left constants out: blue first, anchors by level."""
    buffers = {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.ones(3)}
    buffers = {name: numbers.view(3, 1, 1) for name, numbers in buffers.items()}
    for level, size in enumerate((32, 64, 128, 256, 512)):
        sides = [(size / ratio**0.5, size * ratio**0.5) for ratio in (0.5, 1.0, 2.0)]
        corners = [[-width / 2, -height / 2, width / 2, height / 2] for width, height in sides]
        buffers[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = torch.tensor(corners)
    return buffers


def _parts(framework: str, body: Body, classes: int, columns: int, agnostic: bool) -> Iterator[Part]:
    """All tensors in order; what is called neither weight nor bias is a batch normalisation."""
    yield from _resnet(framework, body)
    width, boxes = body.channels, 4 if agnostic else 4 * classes

    def layer(part: str, shape: tuple[int, ...], spread: float, at: int = 0) -> Iterator[Part]:
        name = name_of(framework, part, at)
        fan_in = shape[0] if part == "mask_up" else torch.Size(shape[1:]).numel()
        yield f"{name}.weight", shape, spread * fan_in**-0.5
        yield f"{name}.bias", (shape[1] if part == "mask_up" else shape[0],), 0.1 * spread

    for at in range(4):
        yield from layer("lateral", (width, 256 << at, 1, 1), 1.0, at)
        # Coarser maps vary less; without more weight no large proposal would be among the best.
        yield from layer("output", (width, width, 3, 3), (1.0, 1.4, 1.8, 3.0)[at], at)
    yield from layer("rpn", (width, width, 3, 3), 1.4)
    yield from layer("objectness", (3, width, 1, 1), 2.0)
    yield from layer("anchor_deltas", (12, width, 1, 1), 0.3)
    yield from layer("fc", (1024, width * 49), 1.4, 0)
    yield from layer("fc", (1024, 1024), 1.4, 1)
    yield from layer("classes", (columns, 1024), 3.0)
    yield from layer("deltas", (boxes, 1024), 1.0)
    for at in range(4):
        yield from layer("mask_conv", (256, 256 if at else width, 3, 3), 1.4, at)
    yield from layer("mask_up", (256, 256, 2, 2), 1.4)
    yield from layer("masks", (classes, 256, 1, 1), 2.0)


def _resnet(framework: str, body: Body) -> Iterator[Part]:
    yield name_of(framework, "stem"), (64, 3, 7, 7), (2 / 147) ** 0.5
    yield name_of(framework, "stem_norm"), (64,), 1.0
    before = 64
    for stage, blocks in enumerate(body.blocks):
        inner, after = (body.groups * body.group_width) << stage, 256 << stage
        for block in range(blocks):
            shapes = [(inner, before, 1, 1), (inner, inner // body.groups, 3, 3), (after, inner, 1, 1)]
            for at, shape in enumerate(shapes):
                yield name_of(framework, "conv", at, stage=stage, block=block), shape, _he(shape)
                # The last of a block adds to what came before it: a little, or the maps would grow with depth.
                yield name_of(framework, "norm", at, stage=stage, block=block), shape[:1], 0.4 if at == 2 else 1.0
            if block == 0:
                shape = (after, before, 1, 1)
                yield name_of(framework, "shortcut", stage=stage, block=block), shape, _he(shape)
                yield name_of(framework, "shortcut_norm", stage=stage, block=block), shape[:1], 1.0
            before = after


def _he(shape: tuple[int, ...]) -> float:
    return float((2 / torch.Size(shape[1:]).numel()) ** 0.5)


def _batchnorm(
    name: str, channels: int, scale: float, framework: str, stream: torch.Generator
) -> dict[str, torch.Tensor]:
    """Statistics that are nobody's default; some variances so small that eps = 1e-5 counts."""
    variance = torch.empty(channels).uniform_(0.5, 2.0, generator=stream)
    weight = scale * torch.empty(channels).uniform_(0.5, 1.5, generator=stream)
    tiny = torch.arange(channels) % 16 == 3
    tensors = {
        "weight": torch.where(tiny, weight * 0.01, weight),
        "bias": 0.2 * torch.randn(channels, generator=stream),
        "running_mean": 0.3 * torch.randn(channels, generator=stream),
        "running_var": torch.where(tiny, variance * 1e-4, variance),
    }
    if framework == "mmdetection":
        tensors["num_batches_tracked"] = torch.tensor(1000)
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}
