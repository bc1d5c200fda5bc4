"""Box detections from RoI features, without the image: of many classifiers that share a box regressor.

Few of the R * C boxes of an image can be detections. Suppression looks at a class's boxes from the highest score down,
and stops to matter when enough have survived: so boxes are decoded in the order of their scores, some at a time, until
there are as many detections as asked for. What comes out is what decoding all of them gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gol_decouple.detection.box_regression import BoxRegressor, DecodedBoxes
from gol_decouple.detection.ground_truth import Bools, Ints
from gol_decouple.detection.settings import DetectionSettings
from gol_decouple.detection.suppression import Boxes, Survivors
from gol_decouple.errors import InputError

# RoI features [R, D] to scores [R, C], background left out; of a cascade, those of each stage, in their order.
Scorer = Callable[..., Tensor]

_SMALLEST_SIDE = 1e-2  # pixels; torchvision's, too
_SORTED_AT_ONCE = 4096
_DECODED_AT_ONCE = 512


@dataclass(frozen=True)
class ImageRois:
    """The R RoIs of an image.

    Attributes:
        image_id: as annotations have it.
        size: height and width in pixels.
        features: float32 [R, D].
        boxes: float32 [R, 4], x1, y1, x2, y2 in pixels.
        earlier: of the last stage of a cascade, the features [R, D] of each stage before it, of the same proposals.
    """

    image_id: int
    size: tuple[int, int]
    features: Tensor
    boxes: Tensor
    earlier: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class ImageBoxes:
    """N detections in an image, from the highest score to the lowest; of equal scores, by RoI and class.

    Attributes:
        boxes: float32 [N, 4], x1, y1, x2, y2 in pixels.
        labels: int64 [N].
        scores: float32 [N].
    """

    boxes: Boxes
    labels: Ints
    scores: NDArray[np.float32]

    def some(self, rows: Bools | slice) -> ImageBoxes:
        """Those for which `rows` [N] is true, or of a slice."""
        return ImageBoxes(self.boxes[rows], self.labels[rows], self.scores[rows])


@torch.inference_mode()
def detect_boxes(
    rois: ImageRois, regressor: BoxRegressor, scorers: Sequence[Scorer], settings: DetectionSettings
) -> list[ImageBoxes]:
    """The detections of an image by each of several classifiers, as torchvision's RoIHeads finds them.

    Boxes that are no numbers, and scores that are none, are no detections.

    Raises:
        InputError: the regressor, classifiers and features do not go together.
    """
    decoded: DecodedBoxes | None = None
    found = []
    for scorer in scorers:
        scores = scorer(*rois.earlier, rois.features)
        if decoded is None:
            decoded = DecodedBoxes(rois.features, rois.boxes, rois.size, regressor, scores.shape[1])
            expected = scores.shape
        if scores.shape != expected or len(scores) != len(rois.boxes):
            raise InputError(
                f"scores are {list(scores.shape)}, expected {[len(rois.boxes), expected[1]]}: RoIs and classes"
            )
        found.append(_detections(scores, decoded, settings))
    return found


def _detections(scores: Tensor, decoded: DecodedBoxes, settings: DetectionSettings) -> ImageBoxes:
    survivors = Survivors(settings.nms_threshold)
    chosen = []
    for values, pairs in _descending(scores.reshape(-1), settings.score_threshold):
        boxes = decoded.of(pairs)
        present = ((boxes[:, 2:] - boxes[:, :2]) >= _SMALLEST_SIDE).all(1)
        labels = (pairs % scores.shape[1])[present].cpu().numpy()
        chosen.append(values[present].cpu().numpy()[survivors.add(boxes[present].cpu().numpy(), labels)])
        if len(survivors.boxes) >= settings.max_detections:
            break
    all_scores = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.float32)
    return ImageBoxes(survivors.boxes, survivors.classes, all_scores).some(slice(settings.max_detections))


def _descending(scores: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores above the threshold, and their places in [R * C], from the highest down; of equal ones, by place."""
    left = torch.where(scores > threshold, scores, -torch.inf)
    most = _SORTED_AT_ONCE
    while len(left):
        least = left.topk(min(most, len(left)), sorted=False).values.min()
        # All that are equal to the least, of which topk takes any.
        places = ((left >= least) & (left > -torch.inf)).nonzero()[:, 0]
        if not len(places):
            return
        values, order = left[places].sort(descending=True, stable=True)
        left[places] = -torch.inf
        yield from zip(torch.split(values, _DECODED_AT_ONCE), torch.split(places[order], _DECODED_AT_ONCE), strict=True)
        most *= 4
