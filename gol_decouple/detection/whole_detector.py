"""Boxes and masks of a whole Mask R-CNN whose classifier is replaced by others, in one pass over the images.

Everything but scores is torchvision's own: the model's modules are called one after another, as its `forward` does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gol_decouple.backbones import conventions
from gol_decouple.backbones.class_order import labels_to_torchvision, regressor_from_torchvision
from gol_decouple.data.masks import Rle
from gol_decouple.detection.box_evaluation import Evaluated, with_sides
from gol_decouple.detection.box_regression import BoxRegressor
from gol_decouple.detection.evaluation import Evaluation
from gol_decouple.detection.ground_truth import Ints
from gol_decouple.detection.roi_boxes import ImageBoxes, ImageRois, Scorer, detect_boxes
from gol_decouple.detection.settings import DetectionSettings

# A row of results as LVIS's and COCO's tools write them.
Result = dict[str, Any]

_MASK_PROBABILITY = 0.5
_MASKS_AT_ONCE = 16  # each is of the whole image, and has C + 1 channels before


class DetectorImage:
    """What a Mask R-CNN makes of one image before its classifier.

    Args:
        model: torchvision's MaskRCNN, in evaluation mode.
        image: floats in [0, 1], [3, H, W].

    Attributes:
        rois: its proposals, in pixels of the image as the model resized it.
    """

    def __init__(self, model: Any, image_id: int, image: Tensor) -> None:
        images, _ = model.transform([image])
        maps = model.backbone(images.tensors)
        self._maps = OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps
        proposals, _ = model.rpn(images, self._maps)
        self._model, self._resized = model, images.image_sizes
        self._size = (int(image.shape[1]), int(image.shape[2]))
        heads = model.roi_heads
        features = heads.box_head(heads.box_roi_pool(self._maps, proposals, self._resized))
        self.rois = ImageRois(image_id, self._resized[0], features, proposals[0])

    def in_image(self, found: ImageBoxes) -> ImageBoxes:
        """Detections among `rois`, in pixels of the image."""
        boxes = self._restored({"boxes": torch.from_numpy(found.boxes)})["boxes"]
        return replace(found, boxes=boxes.numpy())

    def masks(self, found: ImageBoxes) -> list[Rle]:
        """The mask of each of the detections among `rois`, of the size of the image."""
        heads = self._model.roi_heads
        device = self.rois.features.device
        masks: list[Rle] = []
        for start in range(0, len(found.labels), _MASKS_AT_ONCE):
            some = found.some(slice(start, start + _MASKS_AT_ONCE))
            boxes = torch.from_numpy(some.boxes).to(device)
            logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(self._maps, [boxes], self._resized)))
            channels = labels_to_torchvision(torch.from_numpy(some.labels), logits.shape[1] - 1)
            probabilities = logits[range(len(logits)), channels.to(device)].sigmoid()[:, None]
            whole = self._restored({"boxes": boxes, "masks": probabilities})["masks"]
            masks += _encoded(self._covered(whole[:, 0]))
        return masks

    def _covered(self, probabilities: Tensor) -> Tensor:
        """The pixels of masks; at a probability of exactly a half, frameworks do not agree."""
        if conventions.of_model(self._model).framework == "torchvision":
            return probabilities > _MASK_PROBABILITY
        return probabilities >= _MASK_PROBABILITY

    def _restored(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        restored: dict[str, Tensor] = self._model.transform.postprocess([found], self._resized, [self._size])[0]
        return restored


def regressor_of(model: Any) -> BoxRegressor:
    """The box regressor of torchvision's MaskRCNN, in our order of classes."""
    layer = model.roi_heads.box_predictor.bbox_pred
    weight, bias = regressor_from_torchvision(layer.weight.detach(), layer.bias.detach())
    least = conventions.least_growth(conventions.of_model(model).framework)
    return BoxRegressor(weight, bias, tuple(model.roi_heads.box_coder.weights), least)


@torch.inference_mode()
def detector_results(
    model: Any,
    images: Iterable[tuple[int, Tensor]],
    scorers: Sequence[Scorer],
    category_ids: Ints,
    settings: DetectionSettings,
    evaluated: Evaluated | None = None,
) -> Iterator[list[list[Result]]]:
    """The results of each classifier in one image after another, as LVIS's tools take them.

    Args:
        model: torchvision's MaskRCNN; it is put into evaluation mode. Its own classifier and test settings are not
            asked.
        images: ids, and floats in [0, 1], [3, H, W], where the model is.
        scorers: classifiers of the model's RoI features, with their activations.
        category_ids: [C], of their labels.
        evaluated: which of the detections get a mask and are given back; None: all.

    Raises:
        InputError: parts that do not go together, or images that are not in the annotations.
    """
    model.eval()
    regressor = regressor_of(model)
    for image_id, pixels in images:
        image = DetectorImage(model, image_id, pixels)
        results = []
        for found in detect_boxes(image.rois, regressor, scorers, settings):
            chosen = found if evaluated is None else found.some(evaluated.among(image_id, found.labels))
            masks = [as_result(mask) for mask in image.masks(chosen)]
            results.append(_rows(image_id, image.in_image(chosen), masks, category_ids))
        yield results


def detector_ap(
    prepared_boxes: Evaluation,
    prepared_masks: Evaluation,
    model: Any,
    images: Iterable[tuple[int, Tensor]],
    scorers: Sequence[Scorer],
    category_ids: Ints,
    settings: DetectionSettings,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """LVIS's figures of boxes and of masks (see `evaluate_lvis`) for each classifier.

    Masks are made of what is evaluated only: detections of classes that the image is annotated or negative for.

    Args:
        prepared_boxes, prepared_masks: the same annotations, for bbox and for segm. Images that they have and `images`
            has not count as without detections.

    The others, and errors, are those of `detector_results`; also raises InputError for classes that the annotations do
    not have.
    """
    evaluated = Evaluated(prepared_boxes.truth, category_ids)
    results: list[list[Result]] = [[] for _ in scorers]
    for found in detector_results(model, images, scorers, category_ids, settings, evaluated):
        for rows, more in zip(results, found, strict=True):
            rows.extend(more)
    most = settings.max_detections
    return [
        (prepared_boxes.evaluate(rows, max_dets=most), prepared_masks.evaluate(rows, max_dets=most)) for rows in results
    ]


def _encoded(masks: Tensor) -> list[Rle]:
    """Masks, bool [N, H, W], as run lengths, which go down the columns."""
    from pycocotools import mask as coco

    by_column = masks.transpose(1, 2).to(torch.uint8).contiguous().cpu().numpy()
    found: list[Rle] = coco.encode(by_column.T)
    return found


def as_result(mask: Rle) -> dict[str, Any]:
    """A mask as results in JSON have it."""
    return {"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")}


def _rows(image_id: int, found: ImageBoxes, masks: list[dict[str, Any]], category_ids: Ints) -> list[Result]:
    columns = (category_ids[found.labels], with_sides(found.boxes), found.scores.astype(np.float64))
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "score": score,
            "segmentation": mask,
        }
        for category_id, box, score, mask in zip(*(column.tolist() for column in columns), masks, strict=True)
    ]
