"""Box detections from RoI features beside torchvision's postprocessing of the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear
from torchvision.models.detection.roi_heads import RoIHeads

from benchmarks.timing import rates, report, spread, times
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.roi_boxes import ImageBoxes, ImageRois, detect_boxes
from gol_decouple.detection.settings import DetectionSettings

SIZE = (480, 640)
OBJECTS = 40
SETTINGS = DetectionSettings()
# Of the classifiers' weights: how much the scores of a RoI differ.
SHARPNESS = {"flat": 0.05, "sharp": 0.3}


def main(
    num_rois: int = 1000,
    classes: int = 1203,
    feature_size: int = 1024,
    scorers: int = 8,
    images: int = 3,
    rounds: int = 5,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """An image's boxes by one classifier and by several, beside torchvision's and beside the classifiers alone."""
    torch.set_num_threads(threads)
    stream = torch.Generator().manual_seed(0)
    regressor = BoxRegressor(
        torch.randn(classes, 4, feature_size, generator=stream) * 0.01, torch.randn(classes, 4, generator=stream) * 0.1
    )
    rois = [_rois(stream, num_rois, feature_size) for _ in range(images)]
    figures: dict[str, Any] = {}
    for name, scale in SHARPNESS.items():
        weights = [torch.randn(classes + 1, feature_size, generator=stream) * scale for _ in range(scorers)]
        scores = torch.stack([_scorer(weights[0])(one.features) for one in rois])
        figures[f"{name} scores: share above the threshold"] = round(float((scores > 1e-4).float().mean()), 3)
        found = _measured(rois, weights, regressor, rounds)
        figures |= {f"{name} scores: {what}": value for what, value in found.items()}
    report("roi-boxes", figures, out)


def _measured(rois: list[ImageRois], weights: list[Tensor], regressor: BoxRegressor, rounds: int) -> dict[str, Any]:
    ours = [_scorer(weight) for weight in weights]
    theirs = [_Torchvision(weight, regressor) for weight in weights]
    several = len(weights)
    for one in rois:
        for found, expected in zip(detect_boxes(one, regressor, ours, SETTINGS), theirs, strict=True):
            _compare(found, expected(one))

    def some(function: Callable[[ImageRois], Any]) -> Callable[[], int]:
        return lambda: len([function(one) for one in rois])

    speed = rates(
        {
            "torchvision": some(theirs[0]),
            "the classifier alone": some(lambda one: ours[0](one.features)),
            "1 classifier": some(lambda one: detect_boxes(one, regressor, ours[:1], SETTINGS)),
            f"{several} classifiers": some(lambda one: detect_boxes(one, regressor, ours, SETTINGS)),
        },
        rounds,
    )
    figures: dict[str, Any] = {f"{name}, seconds an image": times(found) for name, found in speed.items()}
    figures["torchvision / 1 classifier, time"] = spread(speed["1 classifier"], speed["torchvision"])
    repeated = [rate / several for rate in speed["torchvision"]]
    figures[f"{several} x torchvision / {several} classifiers, time"] = spread(
        speed[f"{several} classifiers"], repeated
    )
    figures["1 classifier / the classifier alone, time"] = spread(speed["the classifier alone"], speed["1 classifier"])
    return figures


def _rois(stream: torch.Generator, number: int, feature_size: int) -> ImageRois:
    """RoIs around 40 objects, with features of theirs."""
    of = torch.randint(OBJECTS, (number,), generator=stream)
    objects = torch.rand(OBJECTS, 4, generator=stream)[of]
    sides = (20 + objects[:, 2:] * 200) * (torch.randn(number, 2, generator=stream) * 0.15).exp()
    centres = objects[:, :2] * torch.tensor(SIZE[::-1]) + torch.randn(number, 2, generator=stream) * sides * 0.15
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    boxes[:, 0::2].clamp_(0, SIZE[1])
    boxes[:, 1::2].clamp_(0, SIZE[0])
    prototypes = torch.randn(OBJECTS, feature_size, generator=stream)[of]
    features = (prototypes + 0.5 * torch.randn(number, feature_size, generator=stream)).relu()
    return ImageRois(1, SIZE, features, boxes)


def _scorer(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda features: linear(features, weight).softmax(1)[:, :-1]


class _Torchvision:
    """The detections of RoIHeads, which computes the boxes of all pairs from the same features."""

    def __init__(self, weight: Tensor, regressor: BoxRegressor) -> None:
        self._heads = RoIHeads(
            *(None, None, None, 0.5, 0.5, 512, 0.25, None),
            SETTINGS.score_threshold,
            SETTINGS.nms_threshold,
            SETTINGS.max_detections,
        )
        self._weight = torch.cat([weight[-1:], weight[:-1]])
        self._regressor = torch.cat([torch.zeros_like(regressor.weight[:1]), regressor.weight]).flatten(0, 1)
        self._bias = torch.cat([torch.zeros(1, 4), regressor.bias]).flatten()

    @torch.inference_mode()
    def __call__(self, rois: ImageRois) -> ImageBoxes:
        logits = linear(rois.features, self._weight)
        deltas = linear(rois.features, self._regressor, self._bias)
        boxes, scores, labels = self._heads.postprocess_detections(logits, deltas, [rois.boxes], [rois.size])
        return ImageBoxes(boxes[0].numpy(), labels[0].numpy() - 1, scores[0].numpy())


def _compare(found: ImageBoxes, expected: ImageBoxes) -> None:
    """The same boxes and scores; where scores are within rounding of each other, in any order."""
    pairs = [np.lexsort((one.boxes[:, 0], one.labels)) for one in (found, expected)]
    same = len(found.labels) == len(expected.labels) and np.array_equal(
        found.labels[pairs[0]], expected.labels[pairs[1]]
    )
    if not same or np.abs(found.boxes[pairs[0]] - expected.boxes[pairs[1]]).max() > 1e-2:
        raise SystemExit("torchvision finds other boxes")
