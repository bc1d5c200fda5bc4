"""Exports RoIs of a detectron2 detector, as its classifiers see them, for `gol-decouple stage2`.

    python export_detectron2.py CONFIG CHECKPOINT --images lvis_v1 --train lvis_v1_train.json --val lvis_v1_val.json

Runs where detectron2 and gol-decouple are installed: detectors with an RPN and an FPN (StandardROIHeads,
CascadeROIHeads), and RetinaNet. docs/exported-rois.md says what comes out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from gol_decouple.detection import export_program
from gol_decouple.detection.roi_export import Choose, Seen, Stage, dense_rois
from gol_decouple.features.extract import weights_sha256


class Images:
    """Images as the detector is tested on them."""

    def __init__(self, model: Any, cfg: Any) -> None:
        self._model, self._format = model, cfg.INPUT.FORMAT
        self._resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    def look(self, image: Path) -> tuple[Any, Any, torch.Tensor]:
        """The resized image, its feature maps, and what boxes of the original image are multiplied by, [4]."""
        original = read_image(str(image), format=self._format)
        pixels = self._resize.get_transform(original).apply_image(original)
        (height, width), (new_height, new_width) = original.shape[:2], pixels.shape[:2]
        given = torch.as_tensor(pixels.astype("float32").transpose(2, 0, 1))
        images = self._model.preprocess_image([{"image": given}])
        scale = torch.tensor([new_width / width, new_height / height] * 2, device=images.tensor.device)
        return images, self._model.backbone(images.tensor), scale


class TwoStage:
    """A detector with an RPN and RoI heads of one stage or several."""

    def __init__(self, model: Any, cfg: Any, images: Images) -> None:
        self._model, self._images = model, images
        heads = model.roi_heads
        heads.mask_on = heads.keypoint_on = False  # masks take time, and change nothing
        is_cascade = isinstance(heads.box_predictor, torch.nn.ModuleList)
        predictors = list(heads.box_predictor) if is_cascade else [heads.box_predictor]
        ious = cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS if is_cascade else cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[:1]
        self._features: list[torch.Tensor] = []
        self._boxes: list[torch.Tensor] = []
        heads.box_pooler.register_forward_pre_hook(lambda _, given: self._boxes.append(given[1][0].tensor))
        for predictor in predictors:
            predictor.test_score_thresh = 2.0  # so does the suppression of boxes
            predictor.cls_score.register_forward_pre_hook(lambda _, given: self._features.append(given[0]))
        self.num_classes, self.class_names = heads.num_classes, None
        uses_sigmoid = cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE
        self.stages = [
            stage_of(predictor, iou, self.num_classes, uses_sigmoid)
            for predictor, iou in zip(predictors, ious, strict=True)
        ]

    def rois(self, image: Path, objects: torch.Tensor, choose: Choose) -> Seen:
        images, maps, scale = self._images.look(image)
        proposals, _ = self._model.proposal_generator(images, maps)
        boxes = torch.cat([proposals[0].proposal_boxes.tensor, objects.to(scale.device) * scale])
        boxes = boxes[choose(boxes / scale)]
        if not len(boxes):
            return [(boxes.new_zeros(0, stage.feature_size), boxes) for stage in self.stages]
        self._features.clear()
        self._boxes.clear()
        given = Instances(images.image_sizes[0])
        given.proposal_boxes, given.objectness_logits = Boxes(boxes), boxes.new_zeros(len(boxes))
        self._model.roi_heads(images, maps, [given])
        return [(x, of_stage / scale) for x, of_stage in zip(self._features, self._boxes, strict=True)]


class Dense:
    """RetinaNet: its surest anchors, and the 3x3 patch that its classifier sees of each."""

    def __init__(self, model: Any, images: Images) -> None:
        self._model, self._images = model, images
        self._seen: list[torch.Tensor] = []
        model.head.cls_score.register_forward_pre_hook(lambda _, given: self._seen.append(given[0][0]))
        self.stages = [Stage(9 * model.head.cls_score.in_channels)]
        self.num_classes, self.class_names = model.num_classes, None

    def rois(self, image: Path, _objects: torch.Tensor, choose: Choose) -> Seen:
        model = self._model
        _, maps, scale = self._images.look(image)
        levels = [maps[name] for name in model.head_in_features]
        self._seen.clear()
        logits, deltas = model.head(levels)
        anchors = model.anchor_generator(levels)
        scores = [by_anchor(one, self.num_classes).amax(1) for one in logits]
        decoded = [
            model.box2box_transform.apply_deltas(by_anchor(one, 4), own.tensor) / scale
            for own, one in zip(anchors, deltas, strict=True)
        ]
        return [dense_rois(self._seen, scores, decoded, choose)]


def by_anchor(level: torch.Tensor, width: int) -> torch.Tensor:
    """Of [1, A * width, H, W], [H * W * A, width]."""
    return level[0].permute(1, 2, 0).reshape(-1, width)


def stage_of(predictor: Any, iou: float, num_classes: int, uses_sigmoid: bool) -> Stage:
    """The layers of a predictor, as a features file has them."""
    layer, size = predictor.cls_score, predictor.cls_score.in_features
    is_softmax = type(layer) is torch.nn.Linear and len(layer.weight) == num_classes + 1 and not uses_sigmoid
    return Stage(
        size,
        iou,
        (layer.weight, layer.bias) if is_softmax else None,
        (predictor.bbox_pred.weight.view(-1, 4, size), predictor.bbox_pred.bias.view(-1, 4)),
        predictor.box2box_transform.weights,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    export_program.add_options(parser)
    given = vars(parser.parse_args())
    cfg = get_cfg()
    cfg.merge_from_file(given.pop("config"))
    cfg.MODEL.DEVICE = given.pop("device")
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(given.pop("checkpoint"))
    name = cfg.MODEL.META_ARCHITECTURE
    origin = {"backbone": {"name": f"{name} {cfg.MODEL.BACKBONE.NAME}", "sha256": weights_sha256(model)}}
    origin["transform"] = {"input": str(cfg.INPUT), "rpn": str(cfg.MODEL.RPN)}
    images = Images(model, cfg)
    detector = TwoStage(model, cfg, images) if hasattr(model, "roi_heads") else Dense(model, images)
    export_program.run(detector, origin, given)


if __name__ == "__main__":
    main()
