"""A detector loaded from another framework's checkpoint sees, on a real image, what that framework sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import annotated
import foreign
import foreign_files as files
import numpy as np
import plain_detector as plain
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones.detector_weights import detector_from
from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import load_config

CLASSES = 12
CASES: dict[str, tuple[plain.Conventions, dict[str, Any]]] = {
    "detectron2": (plain.DETECTRON2, {}),
    "mmdetection": (plain.MMDETECTION, {}),
    "mmdetection, caffe": (plain.MMDETECTION_CAFFE, {}),
    "mmdetection, normalised masks": (plain.MMDETECTION._replace(normalized_masks=True), {"agnostic": True}),
}


class Seen(NamedTuple):
    """What our detector makes of an image, as `plain.Result` has it; its input is red first."""

    pixels: Tensor
    maps: list[Tensor]
    proposals: Tensor
    features: Tensor
    scores: Tensor
    boxes: Tensor
    labels: Tensor
    detected: Tensor
    masks: Tensor


def state_for(how: plain.Conventions, agnostic: bool = False) -> plain.State:
    return foreign.state_of(
        how.framework, "R50", CLASSES, agnostic=agnostic, unscaled=how.stride_in == "1x1", seed=how.min_size
    )


def write(folder: Path, state: plain.State, how: plain.Conventions, agnostic: bool) -> Path:
    """The checkpoint, with the config that mmdetection would write into it."""
    if how.framework == "detectron2":
        return files.write_detectron2(folder / "model_final.pth", state)
    config = files.mmdetection_config(
        2,
        "R50",
        CLASSES,
        style="caffe" if how.stride_in == "1x1" else "pytorch",
        pixels=files.CAFFE_PIXELS if how.channels == "bgr" else files.PIXELS,
        agnostic=agnostic,
        mask_predictor=files.NORMED_MASKS if how.normalized_masks else None,
        scale=(how.max_size, how.min_size),
        testing={"score_thr": how.score_threshold, "max_per_img": how.max_detections},
    )
    return files.write_mmdetection(folder / "epoch_12.pth", state, config, [f"class {at}" for at in range(CLASSES)])


def load(checkpoint: Path, how: plain.Conventions, folder: Path) -> MaskRCNN:
    """Our detector of a config that leaves the conventions to the checkpoint."""
    settings = {
        "backbone.name": "torchvision:resnet50",
        "stage1.checkpoint": checkpoint,
        "detector.train_min_sizes": f"[{how.min_size}]",
        "detector.min_size": how.min_size,
        "detector.max_size": how.max_size,
        "detector.proposals": how.proposals,
        "detector.proposals_before_nms": how.proposals,
        "detector.score_threshold": how.score_threshold,
        "detector.max_detections": how.max_detections,
        "detector.mask_predictor": "normalized" if how.normalized_masks else "standard",
    }
    config = load_config(
        str(annotated.write_config(folder / "config.toml", folder)),
        [f"{name}={value}" for name, value in settings.items()],
    )
    detector, _ = detector_from(resolve(config), CLASSES, checkpoint)
    return detector.eval()


@torch.inference_mode()
def see(model: MaskRCNN, image: np.ndarray) -> Seen:
    kept: dict[str, Any] = {}

    def keep(name: str, module: torch.nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: kept.update({name: output}))

    keep("images", model.transform)
    keep("maps", model.backbone)
    keep("proposals", model.rpn)
    keep("features", model.roi_heads.box_head)
    keep("predicted", model.roi_heads.box_predictor)
    found = model([torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255])[0]
    return Seen(
        kept["images"][0].tensors[0],
        list(kept["maps"].values()),
        kept["proposals"][0][0],
        kept["features"],
        kept["predicted"][0].softmax(dim=1)[:, 1:],
        found["boxes"],
        found["labels"] - 1,
        found["scores"],
        found["masks"][:, 0] >= 0.5,
    )


@torch.inference_mode()
def assert_sees_as(ours: Seen, state: plain.State, image: np.ndarray, how: plain.Conventions) -> None:
    """Each step after the proposals is compared from ours: two that overlap alike may come in either order."""
    expected = plain.detect(state, image, how, ours.proposals)
    pixels = expected.pixels.flip(0) if how.channels == "bgr" else expected.pixels
    torch.testing.assert_close(ours.pixels, pixels, rtol=1e-5, atol=2e-3)  # a byte's step is 0.017 or 1
    for level, (one, other) in enumerate(zip(ours.maps, expected.maps, strict=True)):
        assert (one - other).abs().max() < 1e-4 * other.abs().max(), f"level {level}"
    proposals, _ = plain.propose(state, how, expected.maps, expected.size)
    assert len(ours.proposals) == len(proposals)
    assert share_found(proposals, ours.proposals) > 0.99
    assert (ours.features - expected.features).abs().max() < 1e-4 * expected.features.abs().max()
    torch.testing.assert_close(ours.scores, expected.scores, rtol=1e-3, atol=1e-4)
    assert len(ours.boxes) == len(expected.boxes) == how.max_detections
    distances = (ours.boxes[:, None] - expected.boxes).abs().amax(dim=-1)
    distances[ours.labels[:, None] != expected.labels] = torch.inf
    nearest, at = distances.min(dim=0)
    close = nearest < 0.02
    assert close.float().mean() > 0.97
    torch.testing.assert_close(ours.detected[at][close], expected.detected[close], rtol=1e-3, atol=1e-4)
    wrong = ours.masks[at][close] ^ expected.masks[close]
    assert expected.masks.sum() > 1000
    assert wrong.sum() < 1e-3 * expected.masks.sum()


def share_found(boxes: Tensor, among: Tensor) -> float:
    """How many of the boxes are there, up to a fiftieth of a pixel."""
    return (torch.cdist(boxes, among, p=torch.inf).amin(dim=1) < 0.02).float().mean().item()


def image_of(real_data: Path) -> np.ndarray:
    path = sorted((real_data / "lvis" / "val3_images").glob("*.jpg"))[0]
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("name", CASES)
def test_the_whole_forward_pass(name: str, real_data: Path, tmp_path: Path) -> None:
    how, made = CASES[name]
    how = how._replace(min_size=256, max_size=400, proposals=300, max_detections=20)
    state, image = state_for(how, **made), image_of(real_data)
    checkpoint = write(tmp_path, state, how, made.get("agnostic", False))
    assert_sees_as(see(load(checkpoint, how, tmp_path), image), state, image, how)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_whole_forward_pass_at_full_size(name: str, real_data: Path, tmp_path: Path) -> None:
    how, made = CASES[name]
    how = how._replace(score_threshold=1e-4, max_detections=300)
    state, image = state_for(how, **made), image_of(real_data)
    checkpoint = write(tmp_path, state, how, made.get("agnostic", False))
    assert_sees_as(see(load(checkpoint, how, tmp_path), image), state, image, how)
