"""What a finished detector finds in image files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple import runtime
from gol_decouple.data.images import decode
from gol_decouple.detection.box_evaluation import with_sides
from gol_decouple.detection.roi_boxes import detect_boxes
from gol_decouple.detection.whole_detector import DetectorImage, as_result, regressor_of
from gol_decouple.errors import InputError
from gol_decouple.predictions import LEAST_ONE_VS_ALL, LEAST_SCORE, SHOWN_OBJECTS, Best, ImageDetections
from gol_decouple.progress import SILENT, Progress
from gol_decouple.stages.restored_detector import RestoredDetector

# Takes each image's pixels [H, W, 3] and what was found in it.
See = Callable[[NDArray[np.uint8], ImageDetections], None]


def for_people(model: RestoredDetector, top_k: int | None = None, min_score: float | None = None) -> Best:
    """What is shown: a few detections of an image, those that are not mere guesses, as far as nothing else is asked."""
    least = LEAST_ONE_VS_ALL if model.loss.activation.one_vs_all else LEAST_SCORE
    return Best(SHOWN_OBJECTS if top_k is None else top_k, least if min_score is None else min_score)


@torch.inference_mode()
def detect_in_pictures(
    model: RestoredDetector,
    pictures: Sequence[Path],
    wanted: Best | None = None,
    masked: Best | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    see: See | None = None,
) -> Iterator[ImageDetections | InputError]:
    """The objects in image files, in their order; of a file that cannot be used, why.

    Each image goes through the detector alone and upright, as its annotations have it, and what it finds is what the
    run's evaluation of boxes and masks finds.

    Args:
        model: from `restored_detector.restore_detector(finding.find_classifier("runs/x", "gol"))`.
        pictures: paths, from `data.pictures.find_pictures`.
        wanted: which of an image's detections are given back; None: all.
        masked: which of those have a mask; None: none. A detector without a mask predictor has none.
        see: is called with the pixels of each image before what was found is given back.
    """
    detect = _Detect(
        model,
        runtime.select_device(device),
        wanted or Best(),
        masked if masked is not None and model.has_masks else Best(0),
    )
    with progress.bar("images", len(pictures), "images") as bar:
        for picture in pictures:
            try:
                pixels = decode(picture)
            except InputError as error:
                bar.advance(1)
                yield error
                continue
            found = detect(picture, pixels)
            if see is not None:
                see(pixels, found)
            bar.advance(1)
            yield found


class _Detect:
    """A detector on a device, with what does not change from image to image."""

    def __init__(self, model: RestoredDetector, device: torch.device, wanted: Best, masked: Best) -> None:
        self._model, self._device, self._wanted, self._masked = model, device, wanted, masked
        self._network = model.model.to(device)
        self._regressor = regressor_of(self._network)
        self._classifier, self._loss = model.classifier.to(device), model.loss.to(device)

    def __call__(self, picture: Path, pixels: NDArray[np.uint8]) -> ImageDetections:
        there = torch.from_numpy(pixels).to(self._device).permute(2, 0, 1) / 255.0
        image = DetectorImage(self._network, 0, there)
        (found,) = detect_boxes(image.rois, self._regressor, [self._scores], self._model.settings)
        all_scores = found.scores.tolist()
        number = self._wanted.among(all_scores)
        found = found.some(slice(number))
        masks = image.masks(found.some(slice(self._masked.among(all_scores))))
        labels = found.labels.tolist()
        return ImageDetections(
            picture,
            (pixels.shape[0], pixels.shape[1]),
            labels,
            self._model.category_ids[found.labels].tolist(),
            [self._model.class_names[label] for label in labels],
            all_scores[:number],
            with_sides(image.in_image(found).boxes).tolist(),
            [as_result(mask) for mask in masks],
            all_scores[number] if number < len(all_scores) else None,
        )

    def _scores(self, features: torch.Tensor) -> torch.Tensor:
        return self._loss.scores(self._classifier.logits(features))
