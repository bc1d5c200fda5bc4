"""Exports RoIs of an mmdetection detector, as its classifiers see them, for `gol-decouple stage2`.

    python export_mmdetection.py CONFIG CHECKPOINT --images lvis_v1 --train lvis_v1_train.json --val lvis_v1_val.json

Runs where mmdetection 3 and gol-decouple are installed: detectors with an RPN and a RoI head, cascades among them, and
RetinaNet. docs/exported-rois.md says what comes out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import Compose
from mmdet.apis import init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.structures import InstanceData

from gol_decouple.detection import export_program
from gol_decouple.detection.roi_export import Choose, Seen, Stage, dense_rois
from gol_decouple.errors import InputError
from gol_decouple.features.extract import weights_sha256


class Images:
    """Images as the detector is tested on them."""

    def __init__(self, model: Any) -> None:
        self._model, self._pipeline = model, Compose(get_test_pipeline_cfg(model.cfg))

    def look(self, image: Path) -> tuple[Any, list[Any], torch.Tensor]:
        """Feature maps, data samples, and what boxes of the original image are multiplied by, [4]."""
        data = self._pipeline({"img_path": str(image), "img_id": 0})
        given = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        batch = self._model.data_preprocessor(given, False)
        samples = batch["data_samples"]
        scale = torch.tensor(tuple(samples[0].metainfo["scale_factor"]) * 2, device=batch["inputs"].device)
        return self._model.extract_feat(batch["inputs"]), samples, scale


class TwoStage:
    """A detector with an RPN and a RoI head of one stage or several."""

    def __init__(self, model: Any, images: Images) -> None:
        self._model, self._images = model, images
        roi_head = model.roi_head
        roi_head.mask_head = None  # masks take time, and change nothing
        roi_head.test_cfg.score_thr = 2.0  # so does the suppression of boxes
        heads, extractors = as_list(roi_head.bbox_head), as_list(roi_head.bbox_roi_extractor)
        self._features: list[torch.Tensor] = []
        self._regressed: list[torch.Tensor] = []
        self._boxes: list[torch.Tensor] = []
        for head, extractor in zip(heads, extractors, strict=True):
            head.fc_cls.register_forward_pre_hook(lambda _, given: self._features.append(given[0]))
            head.fc_reg.register_forward_pre_hook(lambda _, given: self._regressed.append(given[0]))
            extractor.register_forward_pre_hook(lambda _, given: self._boxes.append(given[1][:, 1:]))
        settings = as_list(roi_head.train_cfg)
        self.stages = [stage_of(head, of.assigner.pos_iou_thr) for head, of in zip(heads, settings, strict=True)]
        self.num_classes = heads[0].num_classes
        self.class_names = model.dataset_meta.get("classes")

    def rois(self, image: Path, objects: torch.Tensor, choose: Choose) -> Seen:
        maps, samples, scale = self._images.look(image)
        proposals = self._model.rpn_head.predict(maps, samples, rescale=False)[0].bboxes
        boxes = torch.cat([proposals, objects.to(scale.device) * scale])
        boxes = boxes[choose(boxes / scale)]
        if not len(boxes):
            return [(boxes.new_zeros(0, stage.feature_size), boxes) for stage in self.stages]
        for caught in (self._features, self._regressed, self._boxes):
            caught.clear()
        self._model.roi_head.predict(maps, [InstanceData(bboxes=boxes)], samples, rescale=False)
        if not all(map(torch.equal, self._features, self._regressed)):
            raise InputError("fc_reg sees other features than fc_cls: no features file can hold such a regressor")
        return [(x, of_stage / scale) for x, of_stage in zip(self._features, self._boxes, strict=True)]


class Dense:
    """RetinaNet: its surest anchors, and the 3x3 patch that its classifier sees of each."""

    def __init__(self, model: Any, images: Images) -> None:
        self._head, self._images = model.bbox_head, images
        self._seen: list[torch.Tensor] = []
        self._head.retina_cls.register_forward_pre_hook(lambda _, given: self._seen.append(given[0][0]))
        self.stages = [Stage(9 * self._head.retina_cls.in_channels)]
        self.num_classes = self._head.num_classes
        self.class_names = model.dataset_meta.get("classes")

    def rois(self, image: Path, _objects: torch.Tensor, choose: Choose) -> Seen:
        head = self._head
        maps, samples, scale = self._images.look(image)
        self._seen.clear()
        logits, deltas = head(maps)
        anchors = head.prior_generator.grid_priors([one.shape[-2:] for one in logits], device=scale.device)
        scores = [by_anchor(one, head.cls_out_channels)[:, : self.num_classes].amax(1) for one in logits]
        decoded = [
            head.bbox_coder.decode(own, by_anchor(one, 4), max_shape=samples[0].metainfo["img_shape"]) / scale
            for own, one in zip(anchors, deltas, strict=True)
        ]
        return [dense_rois(self._seen, scores, decoded, choose)]


def by_anchor(level: torch.Tensor, width: int) -> torch.Tensor:
    """Of [1, A * width, H, W], [H * W * A, width]."""
    return level[0].permute(1, 2, 0).reshape(-1, width)


def stage_of(head: Any, iou: float) -> Stage:
    """The layers of a box head, as a features file has them."""
    layer, loss, size = head.fc_cls, head.loss_cls, head.fc_cls.in_features
    is_softmax = type(layer).__name__ == "Linear" and len(layer.weight) == head.num_classes + 1
    is_softmax &= not getattr(loss, "use_sigmoid", False) and not getattr(loss, "custom_activation", False)
    if any(head.bbox_coder.means):
        raise InputError(f"the box coder has means {head.bbox_coder.means}, and a features file has none")
    return Stage(
        size,
        iou,
        (layer.weight, layer.bias) if is_softmax else None,
        (head.fc_reg.weight.view(-1, 4, size), head.fc_reg.bias.view(-1, 4)),
        [1 / std for std in head.bbox_coder.stds],
    )


def as_list(one: Any) -> list[Any]:
    return list(one) if isinstance(one, list | tuple | torch.nn.ModuleList) else [one]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    export_program.add_options(parser)
    given = vars(parser.parse_args())
    config, checkpoint, device = (given.pop(name) for name in ("config", "checkpoint", "device"))
    model = init_detector(config, checkpoint, device=device).eval()
    origin = {"backbone": {"name": Path(config).stem, "sha256": weights_sha256(model)}}
    pipeline = str(get_test_pipeline_cfg(model.cfg))
    # The framework bounds how much a box can shrink, which its regressor's layer does not show.
    origin["transform"] = {"pipeline": pipeline, "conventions": {"framework": "mmdetection"}}
    detector = (TwoStage if hasattr(model, "roi_head") else Dense)(model, Images(model))
    export_program.run(detector, origin, given)


if __name__ == "__main__":
    main()
