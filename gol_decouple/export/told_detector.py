"""What `config.json` beside an exported detector says: all that is needed to build and use it."""

from __future__ import annotations

from typing import Any

from torch import nn

import gol_decouple
from gol_decouple.backbones.conventions import MEAN, STD, USUAL, filled
from gol_decouple.backbones.detector_layouts import CLASSIFIER, Layout, name_in
from gol_decouple.backbones.mask_rcnn import LIBRARY, body_of, published_tags
from gol_decouple.export.told import FORMAT_VERSION, method_of, scored_as
from gol_decouple.stages.restored_detector import RestoredDetector


def told_of_detector(model: RestoredDetector, file: str, layout: Layout) -> dict[str, Any]:
    """The contents of `config.json`.

    Args:
        file: the name of the detector's own.
        layout: of that file.
    """
    manifest, layer = model.found.manifest, model.model.roi_heads.box_predictor.cls_score
    return {
        "format_version": FORMAT_VERSION,
        "gol_decouple": gol_decouple.__version__,
        "file": file,
        "layout": layout.framework,
        "detector": _build(model, layout),
        "classifier": name_in(layout.framework, CLASSIFIER).removesuffix("."),
        "feature_size": layer.in_features,
        "num_classes": len(model.class_names),
        "class_names": model.class_names,
        "category_ids": model.category_ids.tolist(),
        "train_counts": manifest["train_counts"],
        "dataset": manifest["dataset"],
        "scores": _scores(model),
        "method": method_of(manifest),
    }


def _build(model: RestoredDetector, layout: Layout) -> dict[str, Any]:
    """How torchvision builds the network, and whether it can."""
    settings, transform, network = model.config.detector, model.config.transform, model.model
    assert settings is not None  # or it would be no detector
    # The first layer takes red first here, whatever it once took; only the checkpoint's own layout has it turned back.
    channels = "bgr" if layout.bgr else "rgb"
    conventions = filled(settings.conventions).model_dump() | {"channels": channels}
    class_agnostic = network.roi_heads.box_predictor.bbox_pred.out_features == 4
    body = body_of(model.config.backbone.name).architecture
    usual = conventions == USUAL["torchvision"].settings and settings.mask_predictor == "standard"
    norm = "GroupNorm" if isinstance(network.backbone.body.bn1, nn.GroupNorm) else "FrozenBatchNorm2d"
    return {
        "library": LIBRARY,
        "name": "MaskRCNN",
        "plain": usual and not class_agnostic and bool(published_tags(body)),
        "body": body,
        "norm": norm,
        "arguments": {
            "num_classes": len(model.class_names) + 1,
            "min_size": settings.min_size,
            "max_size": settings.max_size,
            "image_mean": list(transform.mean or MEAN),
            "image_std": list(transform.std or STD),
            "rpn_pre_nms_top_n_test": settings.proposals_before_nms or settings.proposals,
            "rpn_post_nms_top_n_test": settings.proposals,
            "box_score_thresh": model.settings.score_threshold,
            "box_nms_thresh": model.settings.nms_threshold,
            "box_detections_per_img": model.settings.max_detections,
        },
        "mask_predictor": settings.mask_predictor,
        "class_agnostic": class_agnostic,
        "conventions": conventions,
    }


def _scores(model: RestoredDetector) -> dict[str, Any]:
    """How scores come from the logits q of a RoI."""
    name, formula = scored_as(model.loss.activation.name)
    background = not model.loss.activation.one_vs_all
    over = "over background and classes" if background else "of each class; background has no score, and no weights"
    return {"activation": name, "background": background, "formula": f"{formula} {over}; q: the logits"}
