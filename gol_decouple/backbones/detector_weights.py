"""What a detector starts from: published weights of its body or of all of it, and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torchvision import models
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones import from_torchvision, published, unfit
from gol_decouple.backbones.checkpoint_meta import meta_of
from gol_decouple.backbones.checkpoint_settings import look_at
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_layouts import Layout
from gol_decouple.backbones.detector_loading import BODY, is_of_classes, load, order_of
from gol_decouple.backbones.mask_rcnn import Body, body_of, build_detector, published_tags
from gol_decouple.backbones.tensor_files import Keys, dotted, read_contents, read_tensors
from gol_decouple.errors import InputError
from gol_decouple.settings import Config

STATISTICS = "running_mean"
IMAGE_SIZE = 224  # ResNets have the same weights for all sizes


def start_detector(
    config: Config, num_classes: int, class_names: Sequence[str] | None = None
) -> tuple[MaskRCNN, Match | None]:
    """The detector of a config with the weights that its training begins with, and what it took from a file, if any.

    Its attribute `unfit` names the predictors that have no weights, and are not trained (see `unfit.mark`).

    Args:
        class_names: in our order, to find the classes of a checkpoint that names them.

    Raises:
        InputError: an unknown backbone, or a checkpoint that does not fit.
        EnvironmentFailure: published weights are not here and cannot be downloaded.
    """
    if config.stage1.checkpoint is not None:
        return detector_from(config, num_classes, Path(config.stage1.checkpoint), class_names)
    detector, match = _published(config, num_classes)
    unfit.mark(detector, match, config.stage1.epochs)
    return detector, match


def _published(config: Config, num_classes: int) -> tuple[MaskRCNN, Match | None]:
    """The detector of a config with published weights, or with none."""
    body = body_of(config.backbone.name)
    if not config.backbone.pretrained:
        return _build(config, num_classes, frozen_batchnorm=False), None
    if not published_tags(body.weights.partition(".")[0]):
        hint = "--set backbone.pretrained=false, or weights of your own: --checkpoint model.pth"
        raise InputError(f"there are no published weights of {config.backbone.name}", hint)
    detector = _build(config, num_classes, frozen_batchnorm=True)
    if body.of_detector:
        path, tensors = _coco_weights(body, detector.conventions.batchnorm_eps)
        others = {keys: tensor for keys, tensor in tensors.items() if not is_of_classes(dotted(keys))}
        match = load(detector, others, Layout("torchvision"), path)
        left_out = [dotted(keys) for keys in tensors if is_of_classes(dotted(keys))]
        match = replace(match, unused=left_out, classifier="not taken: it is for COCO's own classes")
    else:
        tensors = {(name,): tensor for name, tensor in from_torchvision.published(body.weights, IMAGE_SIZE).items()}
        match = load(detector, tensors, Layout("torchvision"), Path(body.weights))
    return detector, match


def detector_from(
    config: Config, num_classes: int, path: Path, class_names: Sequence[str] | None = None
) -> tuple[MaskRCNN, Match]:
    """The detector of a config with the weights in a file: a whole Mask R-CNN's (ours, torchvision's, detectron2's or
    mmdetection's), or a ResNet's for its body alone. Its attribute `unfit` is as of `start_detector`.

    Predictors for other classes are left out. A body with BatchNorm keeps its statistics as they are. A box regressor
    that is one for all classes stays one.

    Raises:
        InputError: no checkpoint, one of another detector, or one without tensors that it should have.
    """
    contents = read_contents(path)
    facts = look_at(contents, path)
    is_frozen = any(dotted(keys).endswith(STATISTICS) for keys in contents.tensors)
    detector = _build(config, num_classes, is_frozen, facts.is_agnostic)
    assert config.detector is not None  # as data.kind = "lvis" has it
    by_names = config.detector.conventions.class_order == "names"
    order = order_of(facts, class_names, num_classes, by_names)
    bgr = config.detector.conventions.channels == "bgr" and not facts.is_ours
    layout = Layout(facts.framework or "torchvision", facts.has_background, order.places, bgr)
    never = unfit.read(contents.notes, path)
    match = load(detector, contents.tensors, layout, path, order, facts.stated.other_classifier, never)
    unfit.mark(detector, match, config.stage1.epochs)
    return detector, replace(match, meta=meta_of(contents.notes))


def _build(config: Config, num_classes: int, frozen_batchnorm: bool, class_agnostic: bool = False) -> MaskRCNN:
    assert config.detector is not None  # as data.kind = "lvis" has it
    return build_detector(
        config.backbone.name,
        num_classes,
        config.seed,
        config.detector,
        config.transform,
        frozen_batchnorm,
        class_agnostic,
    )


def _coco_weights(body: Body, eps: float) -> tuple[Path, dict[Keys, torch.Tensor]]:
    """torchvision's weights trained on COCO, from torch's hub folder if they are there, for FrozenBatchNorm2d of `eps`.

    They were trained with eps = 0. It is no part of a state, so that a detector that begins with one of ours would not
    have it; their weights are changed instead, to give the same output with the usual one.
    """
    name, _, tag = body.weights.partition(".")
    url = models.get_model_weights(name)[tag or "DEFAULT"].url
    path = published.place(url.rpartition("/")[2])
    if not path.is_file():
        published.fetch(f"torchvision:{body.weights}", url, path)
    tensors = {dotted(keys): tensor for keys, tensor in read_tensors(path).items()}
    for mean_name in [name for name in tensors if name.startswith(BODY) and name.endswith(STATISTICS)]:
        norm = mean_name.removesuffix(STATISTICS)
        variance = tensors[f"{norm}running_var"].double()
        ratio = ((variance + eps) / variance).sqrt()
        tensors[f"{norm}weight"] = (tensors[f"{norm}weight"].double() * ratio).to(tensors[f"{norm}weight"].dtype)
    return path, {(name,): tensor for name, tensor in tensors.items()}
