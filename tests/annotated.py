"""A tiny dataset in LVIS's format with images, and a detector of a few pixels, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

# Boxes x, y, width, height by image; category ids are out of order on purpose: labels are 0 (3), 1 (7) and 2 (9).
TRAIN: list[list[tuple[int, list[float]]]] = [
    [(7, [4, 6, 30, 20]), (3, [50, 10, 20, 40])],
    [(7, [10, 10, 40, 30])],
    [(7, [0, 0, 20, 20]), (7, [30, 30, 25, 20])],
    [],
    [(9, [20, 5, 30, 40])],
]
VAL: list[list[tuple[int, list[float]]]] = [[(3, [5, 5, 40, 30])], [], [(9, [30, 20, 20, 20]), (7, [2, 2, 20, 30])]]
CATEGORIES = ((7, "seven", "c"), (3, "three", "r"), (9, "nine", "f"))
SIZES = ((64, 80), (56, 72), (72, 64), (64, 64), (60, 90))  # height, width, in turn


# A process whose detectors have a narrow backbone.
MAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
import annotated
from gol_decouple.backbones import mask_rcnn
mask_rcnn.resnet_fpn_backbone = annotated.narrow_backbone
from gol_decouple.cli import main
sys.exit(main())
"""


def corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def tree(images: list[list[tuple[int, list[float]]]], folder: str) -> dict[str, Any]:
    rows, annotations = [], []
    for number, objects in enumerate(images):
        height, width = SIZES[number % len(SIZES)]
        rows.append(
            {
                "id": 100 + number,
                "height": height,
                "width": width,
                "file_name": f"{folder}/{number}.png",
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
        )
        for category, box in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "segmentation": [corners(box)],
                }
            )
    categories = [{"id": id_, "name": name, "frequency": frequency} for id_, name, frequency in CATEGORIES]
    return {"images": rows, "annotations": annotations, "categories": categories}


def draw(root: Path, images: list[list[tuple[int, list[float]]]], folder: str) -> None:
    """Grey noise with a rectangle of one colour a category."""
    stream = np.random.default_rng(0)
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number, objects in enumerate(images):
        height, width = SIZES[number % len(SIZES)]
        pixels = stream.integers(90, 140, (height, width, 3)).astype(np.uint8)
        for category, (x, y, w, h) in objects:
            colour = {3: (250, 20, 20), 7: (20, 250, 20), 9: (20, 20, 250)}[category]
            pixels[int(y) : int(y + h), int(x) : int(x + w)] = colour
        Image.fromarray(pixels).save(root / folder / f"{number}.png")


def make(root: Path) -> Path:
    """`train.json`, `val.json` and their images below `root`."""
    for name, images in (("train", TRAIN), ("val", VAL)):
        draw(root, images, name)
        (root / f"{name}.json").write_text(json.dumps(tree(images, name)), encoding="utf-8")
    return root


def write_config(path: Path, root: Path) -> Path:
    """Two epochs in steps of two images of 64 pixels, with a ResNet-18 from random weights."""
    path.write_text(
        f"""
[data]
kind = "lvis"
path = "{root}"
name = "tiny"

[data.annotations]
train = "train.json"
val = "val.json"

[transform]
flip = true

[detector]
train_min_sizes = [48, 64]
min_size = 64
max_size = 96
rois_per_image = 16
proposals = 40
val_rois_per_image = 12

[backbone]
name = "torchvision:resnet18"

[stage1]
epochs = 2
batch_size = 2
lr = 0.001
sampler = "repeat_factor"
precision = "float32"
num_workers = 0
""",
        encoding="utf-8",
    )
    return path


def narrow_backbone(*, norm_layer: Any, **_: object) -> nn.Module:
    """A ResNet-10 with a narrow FPN: detectors on it are a third as large as on a ResNet-18."""
    body = ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)
    layers = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return BackboneWithFPN(body, layers, [64, 128, 256, 512], 32)


def narrow_bottlenecks(*, norm_layer: Any, **_: object) -> nn.Module:
    """The narrow body of `foreign.BODIES`: four bottlenecks, and a narrow FPN."""
    body = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16, norm_layer=norm_layer)
    layers = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return BackboneWithFPN(body, layers, [256, 512, 1024, 2048], 32)
