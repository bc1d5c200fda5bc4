"""Mask R-CNN as it is built: its body, its sizes, its predictors, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FrozenBatchNorm2d

from gol_decouple.backbones.mask_rcnn import Body, NormalizedConv2d, body_of, build_detector
from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.errors import InputError
from gol_decouple.settings import TransformConfig

SETTINGS: dict[str, Any] = {"train_min_sizes": (32, 48), "min_size": 64, "max_size": 96}


def build(seed: int = 0, frozen: bool = False, **settings: Any) -> MaskRCNN:
    config = DetectorConfig(**SETTINGS | settings)
    return build_detector("torchvision:resnet18", 3, seed, config, TransformConfig(mean=(0.1, 0.2, 0.3)), frozen)


@pytest.fixture(scope="module")
def detector() -> MaskRCNN:
    return build(
        proposals=30, rois_per_image=12, foreground_fraction=0.5, nms=0.3, score_threshold=0.01, max_detections=7
    )


def test_names_are_those_of_torchvisions_resnets() -> None:
    assert body_of("torchvision:resnet101") == Body("resnet101", "resnet101", False)
    assert body_of("torchvision:resnext101_64x4d").architecture == "resnext101_64x4d"
    assert body_of("torchvision:resnet50.IMAGENET1K_V2") == Body("resnet50", "resnet50.IMAGENET1K_V2", False)
    assert body_of("torchvision:maskrcnn_resnet50_fpn") == Body("resnet50", "maskrcnn_resnet50_fpn", True)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("timm:resnet50", "backbone 'timm:resnet50' cannot be a detector's", "did you mean torchvision:resnet50?"),
        ("resnet32", "backbone 'resnet32' cannot be a detector's", "choose torchvision:NAME of resnet18"),
        ("torchvision:resnet5", "backbone 'torchvision:resnet5' cannot", "did you mean torchvision:resnet50?"),
        ("torchvision:vit_b_16", "it is none of torchvision's ResNets", "choose torchvision:NAME of resnet18"),
        ("torchvision:resnet50.COCO_V9", "unknown backbone", "resnet50 has weights IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_other_names_are_refused(name: str, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        body_of(name)
    assert hint in (error.value.hint or "")


def test_weights_are_those_of_the_seed_and_leave_the_global_stream_alone(detector: MaskRCNN) -> None:
    before = torch.get_rng_state()
    same, other = build(0), build(1)
    assert torch.equal(torch.get_rng_state(), before)
    weight = "backbone.body.conv1.weight"
    assert torch.equal(same.state_dict()[weight], detector.state_dict()[weight])
    assert not torch.equal(other.state_dict()[weight], detector.state_dict()[weight])


def test_settings_reach_the_detector(detector: MaskRCNN) -> None:
    heads, rpn = detector.roi_heads, detector.rpn
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.01, 0.3, 7)
    assert (heads.fg_bg_sampler.batch_size_per_image, heads.fg_bg_sampler.positive_fraction) == (12, 0.5)
    for training in (True, False):
        rpn.train(training)
        assert rpn.post_nms_top_n() == 30
    assert heads.box_predictor.cls_score.out_features == 4, "three classes and background"
    assert heads.box_predictor.bbox_pred.out_features == 16
    assert detector.transform.image_mean == [0.1, 0.2, 0.3]
    assert detector.transform.image_std == [0.229, 0.224, 0.225]


def test_training_draws_a_size_and_evaluation_has_one(detector: MaskRCNN) -> None:
    image = [torch.rand(3, 100, 120)]
    detector.train()
    sizes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        sizes.add(detector.transform(image)[0].image_sizes[0])
    assert sizes == {(32, 38), (48, 57)}
    detector.eval()
    assert detector.transform(image)[0].image_sizes == [(64, 76)]
    assert detector.transform([torch.rand(3, 40, 120)])[0].image_sizes == [(32, 96)], "max_size"


def test_a_body_with_weights_of_others_has_batchnorm_that_stands_still() -> None:
    kinds = {type(module) for module in build(frozen=True).backbone.body.modules()}
    assert FrozenBatchNorm2d in kinds
    assert not kinds & {nn.BatchNorm2d, nn.GroupNorm}


def test_a_body_with_random_weights_has_groupnorm_and_blocks_that_begin_as_shortcuts(detector: MaskRCNN) -> None:
    body = detector.backbone.body
    assert not {type(module) for module in body.modules()} & {nn.BatchNorm2d, FrozenBatchNorm2d}
    x = torch.randn(2, 64, 5, 5)
    assert torch.equal(body.layer1[0](x), F.relu(x))
    # What one image gives does not depend on the others of its batch.
    detector.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(detector.backbone(images)["0"][:1], detector.backbone(images[:1])["0"])


def test_the_normalised_mask_predictor_scores_cosines() -> None:
    layer = NormalizedConv2d(5, 3, 1)
    x = torch.randn(2, 5, 4, 4)
    scores = layer(x)
    weight = layer.weight[:, :, 0, 0]
    for at in ((0, 0, 0), (1, 3, 2)):
        pixel = x[at[0], :, at[1], at[2]]
        cosine = (weight @ pixel) / (weight.norm(dim=1) * pixel.norm())
        torch.testing.assert_close(scores[at[0], :, at[1], at[2]], 20.0 * cosine + layer.bias)
    torch.testing.assert_close(layer(7.0 * x), scores)


def test_the_mask_predictor_is_normalised_on_request(detector: MaskRCNN) -> None:
    normalized = build(mask_predictor="normalized")
    assert isinstance(normalized.roi_heads.mask_predictor.mask_fcn_logits, NormalizedConv2d)
    assert not isinstance(detector.roi_heads.mask_predictor.mask_fcn_logits, NormalizedConv2d)
    one, two = normalized.state_dict(), detector.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one), "both begin with the same weights"


def test_what_decides_is_float32_in_mixed_precision(detector: MaskRCNN) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        objectness, deltas = detector.rpn.head([torch.randn(1, 256, 4, 4)])
        logits, boxes = detector.roi_heads.box_predictor(torch.randn(2, 1024))
        masks = detector.roi_heads.mask_predictor(torch.randn(1, 256, 4, 4))
    for tensor in (objectness[0], deltas[0], logits, boxes, masks):
        assert tensor.dtype == torch.float32


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="max_size should not be smaller than min_size and train_min_sizes"):
        DetectorConfig(min_size=64, max_size=96)  # train_min_sizes are up to 800
