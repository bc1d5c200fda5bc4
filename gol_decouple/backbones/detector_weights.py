"""What a detector starts from: published weights of its body or of all of it, and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torchvision import models
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones import from_torchvision, published
from gol_decouple.backbones.checkpoints import UNIMPORTANT, WRAPPERS, Match
from gol_decouple.backbones.mask_rcnn import Body, body_of, build_detector
from gol_decouple.backbones.tensor_files import Keys, dotted, read_tensors
from gol_decouple.errors import InputError, few
from gol_decouple.settings import Config

BODY = "backbone.body."
CLASSIFIER = "roi_heads.box_predictor."
REGRESSOR = f"{CLASSIFIER}bbox_pred.weight"
# What has a row for each class, and is left out where the classes are others.
PREDICTORS = (CLASSIFIER, "roi_heads.mask_predictor.mask_fcn_logits.")
STATISTICS = "running_mean"
IMAGE_SIZE = 224  # ResNets have the same weights for all sizes


def start_detector(config: Config, num_classes: int) -> tuple[MaskRCNN, Match | None]:
    """The detector of a config with the weights that its training begins with, and what it took from a file, if any.

    Raises:
        InputError: an unknown backbone, or a checkpoint that does not fit.
        EnvironmentFailure: published weights are not here and cannot be downloaded.
    """
    body = body_of(config.backbone.name)
    if config.stage1.checkpoint is not None:
        return detector_from(config, num_classes, Path(config.stage1.checkpoint))
    if not config.backbone.pretrained:
        return _build(config, num_classes, frozen_batchnorm=False), None
    detector = _build(config, num_classes, frozen_batchnorm=True)
    if body.of_detector:
        path, tensors = _coco_weights(body, detector.conventions.batchnorm_eps)
        others = {keys: tensor for keys, tensor in tensors.items() if not _of_classes(dotted(keys))}
        match = _load(detector, others, path)
        left_out = [dotted(keys) for keys in tensors if _of_classes(dotted(keys))]
        match = replace(match, unused=left_out, classifier="not taken: it is for COCO's own classes")
    else:
        tensors = {(name,): tensor for name, tensor in from_torchvision.published(body.weights, IMAGE_SIZE).items()}
        match = _load(detector, tensors, Path(body.weights))
    return detector, match


def detector_from(config: Config, num_classes: int, path: Path) -> tuple[MaskRCNN, Match]:
    """The detector of a config with the weights in a file: a whole Mask R-CNN's (ours, or torchvision's), or a ResNet's
    for its body alone.

    Predictors for another number of classes are left out. A body with BatchNorm keeps its statistics as they are. A box
    regressor that is one for all classes stays one.

    Raises:
        InputError: no checkpoint, or one without tensors that it should have.
    """
    tensors = read_tensors(path)
    detector = _build(
        config,
        num_classes,
        frozen_batchnorm=any(dotted(keys).endswith(STATISTICS) for keys in tensors),
        class_agnostic=any(dotted(keys).endswith(REGRESSOR) and len(tensor) == 4 for keys, tensor in tensors.items()),
    )
    return detector, _load(detector, tensors, path)


def _build(config: Config, num_classes: int, frozen_batchnorm: bool, class_agnostic: bool = False) -> MaskRCNN:
    settings = config.detector
    assert settings is not None  # as data.kind = "lvis" has it
    return build_detector(
        config.backbone.name, num_classes, config.seed, settings, config.transform, frozen_batchnorm, class_agnostic
    )


def _load(detector: MaskRCNN, tensors: Mapping[Keys, torch.Tensor], path: Path) -> Match:
    """Load all tensors but predictors of other classes; of a ResNet's, the body's."""
    state = detector.state_dict()
    sources = _canonical(tensors, state)
    whole = any(not name.startswith(BODY) for name in sources)
    needed = [name for name in state if not _of_classes(name) and (whole or name.startswith(BODY))]
    missing = [name for name in needed if name not in sources]
    shapes = {name: (list(tensors[keys].shape), list(state[name].shape)) for name, keys in sources.items()}
    differ = [name for name, (has, wanted) in shapes.items() if has != wanted]
    if missing or any(not _of_classes(name) for name in differ):
        raise _does_not_fit(path, missing, [f"{name} is {shapes[name][0]}, not {shapes[name][1]}" for name in differ])
    for predictor in PREDICTORS:  # all of one, or nothing
        own = [name for name in state if name.startswith(predictor)]
        if any(name in differ or name not in sources for name in own):
            sources = {name: keys for name, keys in sources.items() if name not in own}
    detector.load_state_dict({name: tensors[keys] for name, keys in sources.items()}, strict=False)
    taken = set(sources.values())
    unused = [dotted(keys) for keys in tensors if keys not in taken and not dotted(keys).endswith(UNIMPORTANT)]
    has_classifier = any(name.startswith(CLASSIFIER) for name in sources)
    return Match(path, sources, {}, unused, _told(whole, shapes), has_classifier)


def _canonical(tensors: Mapping[Keys, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, Keys]:
    """Names in the detector -> keys in the file, whatever the names are wrapped in; a ResNet's names are its body's."""
    found: dict[str, Keys] = {}
    for source in tensors:
        parts = dotted(source).split(".")
        start = next((at for at, part in enumerate(parts) if part not in WRAPPERS), len(parts))
        names = [".".join(parts[at:]) for at in range(start + 1)]
        names += [f"{BODY}{names[-1]}"]
        if name := next((name for name in names if name in state), None):
            found.setdefault(name, source)
    return found


def _of_classes(name: str) -> bool:
    return name.startswith(PREDICTORS)


def _told(whole: bool, shapes: Mapping[str, tuple[list[int], list[int]]]) -> str:
    if not whole:
        return "the file holds a ResNet: only the body is loaded, all else starts from random weights"
    has, wanted = shapes.get(f"{CLASSIFIER}cls_score.weight", (None, None))
    if has is None or wanted is None:
        return "the checkpoint has no classifier"
    return f"{CLASSIFIER}cls_score.weight is {has}, not {wanted}: left out"


def _does_not_fit(path: Path, missing: list[str], misshapen: list[str]) -> InputError:
    problems = [f"{len(missing)} tensors are missing ({few(missing)})"] if missing else []
    problems += [f"{len(misshapen)} have another shape ({few(misshapen)})"] if misshapen else []
    return InputError(
        f"checkpoint {path} does not fit: {'; '.join(problems)}",
        "choose the backbone it was made with (backbone.name); it should be torchvision's Mask R-CNN, or a ResNet",
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
