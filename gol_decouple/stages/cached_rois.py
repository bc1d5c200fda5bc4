"""RoIs of features files on a device, an image at a time: of one file, or of those of a cascade's stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple.backbones import conventions
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.roi_boxes import ImageRois
from gol_decouple.features import FeaturesFile


def image_rois(features: FeaturesFile, split: str, device: torch.device) -> Iterator[ImageRois]:
    """The RoIs of every image of a split that has any."""
    rows = features[split]
    images = rows.images
    for at, num_rois in enumerate(images.num_rois.tolist()):
        if num_rois:
            own = slice(at * images.rois_per_image, at * images.rois_per_image + num_rois)
            x, boxes = rows.features[0, own].astype(np.float32), rows.boxes[own]
            size = int(images.heights[at]), int(images.widths[at])
            yield ImageRois(int(images.ids[at]), size, _there(x, device), _there(boxes, device))


def cascade_rois(stages: Sequence[FeaturesFile], split: str, device: torch.device) -> Iterator[ImageRois]:
    """The RoIs of the last stage of a cascade, with the features that the earlier ones saw of the same proposals."""
    for rois in zip(*(image_rois(features, split, device) for features in stages), strict=True):
        yield replace(rois[-1], earlier=tuple(one.features for one in rois[:-1]))


def box_regressor(features: FeaturesFile, device: torch.device) -> BoxRegressor:
    """The one in the file; without one, boxes are final: one that leaves them where they are."""
    found = features.regressor
    if found is None:
        weight = torch.zeros(1, 4, features.feature_size, device=device)
        return BoxRegressor(weight, torch.zeros(1, 4, device=device))
    x, y, width, height = found.coder_weights
    least = _least_growth(features)
    return BoxRegressor(_there(found.weight, device), _there(found.bias, device), (x, y, width, height), least)


def _least_growth(features: FeaturesFile) -> float:
    """That of the framework whose conventions the RoIs' detector had, if the file tells."""
    told = features.origin.get("transform", {}).get("conventions")
    return conventions.least_growth(told.get("framework") if isinstance(told, dict) else None)


def _there(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)
