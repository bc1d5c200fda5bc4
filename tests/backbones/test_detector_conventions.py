"""Whole detectors by the conventions of each framework, and with one box for all classes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from annotated import narrow_backbone
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.conventions import MEAN, STD, filled, of_model
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.detector_settings import ConventionsConfig, DetectorConfig, Framework
from gol_decouple.settings import TransformConfig

SIZES: dict[str, Any] = {"train_min_sizes": (64,), "min_size": 64, "max_size": 96}
COUNTS: dict[str, Any] = {"proposals": 50, "rois_per_image": 16, "max_detections": 20, "score_threshold": 0.0}


def build(
    conventions: dict[str, Any] | None = None,
    name: str = "torchvision:resnet18",
    frozen: bool = False,
    agnostic: bool = False,
    **settings: Any,
) -> MaskRCNN:
    own = ConventionsConfig(**conventions or {})
    config = DetectorConfig(**SIZES | COUNTS | {"conventions": own} | settings)
    return build_detector(name, 3, 0, config, TransformConfig(), frozen, agnostic)


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *size), generator=stream) / 255 for size in ((70, 90), (90, 64))]


@pytest.fixture(scope="module")
def targets(images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    found = []
    for label, image in enumerate(images, 1):
        masks = torch.zeros(2, *image.shape[1:], dtype=torch.uint8)
        masks[0, 5:40, 10:50] = masks[1, 30:60, 20:60] = 1
        boxes = torch.tensor([[10.0, 5.0, 50.0, 40.0], [20.0, 30.0, 60.0, 60.0]])
        found.append({"boxes": boxes, "labels": torch.tensor([label, 3]), "masks": masks})
    return found


def stirred(model: MaskRCNN) -> MaskRCNN:
    """With boxes and masks that differ from each other."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        predictor = model.roi_heads.box_predictor
        for layer in (predictor.cls_score, predictor.bbox_pred, model.rpn.head.bbox_pred):
            layer.weight.normal_(std=0.3)
            layer.bias.normal_(std=0.3)
        model.roi_heads.mask_predictor.mask_fcn_logits.weight.normal_(std=0.3)
    return model


def found_by(model: MaskRCNN, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    with torch.inference_mode():
        found: list[dict[str, torch.Tensor]] = model.eval()(images)
    return found


def losses_of(
    model: MaskRCNN, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)  # what is sampled
    losses: dict[str, torch.Tensor] = model.train()(images, targets)
    return losses


@pytest.mark.usefixtures("_narrow")
def test_torchvisions_are_bit_equal_to_its_own_model(
    images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]
) -> None:
    ours = stirred(build())
    theirs = MaskRCNN(
        narrow_backbone(norm_layer=lambda width: torch.nn.GroupNorm(32, width)),
        *(4, 64, 96, list(MEAN), list(STD)),
        **{f"rpn_{when}_nms_top_n_{mode}": 50 for when in ("pre", "post") for mode in ("train", "test")}
        | {"rpn_pre_nms_top_n_train": 100},
        box_batch_size_per_image=16,
        box_score_thresh=0.0,
        box_detections_per_img=20,
    )
    assert isinstance(theirs.transform, GeneralizedRCNNTransform)
    theirs.load_state_dict(ours.state_dict())
    for one, other in zip(found_by(ours, images), found_by(theirs, images), strict=True):
        assert len(one["boxes"]) == 20
        assert all(torch.equal(one[name], other[name]) for name in ("boxes", "labels", "scores", "masks"))
    first, second = losses_of(ours, images, targets), losses_of(theirs, images, targets)
    assert all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.usefixtures("_narrow")
def test_every_framework_begins_with_the_same_weights_and_finds_something_else(images: list[torch.Tensor]) -> None:
    models = {framework: stirred(build({"framework": framework})) for framework in get_args(Framework)}
    states = [model.state_dict() for model in models.values()]
    assert all(torch.equal(state[name], states[0][name]) for state in states for name in states[0])
    found = {framework: found_by(model, images)[0] for framework, model in models.items()}
    for framework, model in models.items():
        assert of_model(model) == filled(ConventionsConfig(framework=framework))
        for other in models.keys() - {framework}:
            assert not torch.equal(found[framework]["boxes"], found[other]["boxes"])
    assert of_model(torch.nn.Identity()) == filled(ConventionsConfig()), "torchvision's own says nothing"


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("framework", get_args(Framework))
@pytest.mark.usefixtures("_narrow")
def test_all_of_them_train(
    images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]], framework: str, agnostic: bool
) -> None:
    model = build({"framework": framework, "stride_in": "1x1"}, agnostic=agnostic)
    losses = losses_of(model, images, targets)
    assert len(losses) == 5
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.usefixtures("_narrow")
def test_one_box_for_all_classes_is_a_box_for_each_with_the_same_weights(
    images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]
) -> None:
    one, each = stirred(build(agnostic=True)), build()
    state = one.state_dict()
    own = {name: tensor for name, tensor in state.items() if "bbox_pred" in name and name.startswith("roi_heads")}
    assert {len(tensor) for tensor in own.values()} == {4}
    repeated = {name: torch.cat([tensor] * 4) for name, tensor in own.items()}
    each.load_state_dict(state | repeated)
    for first, second in zip(found_by(one, images), found_by(each, images), strict=True):
        assert torch.equal(first["labels"], second["labels"])
        torch.testing.assert_close(first["boxes"], second["boxes"])
    first_losses, second_losses = losses_of(one, images, targets), losses_of(each, images, targets)
    for name, loss in second_losses.items():
        torch.testing.assert_close(first_losses[name], loss)


@pytest.mark.parametrize("where", ["1x1", "3x3"])
def test_the_stride_is_in_the_convolution_that_is_asked_for(where: str) -> None:
    body = build({"stride_in": where}, name="torchvision:resnet50").backbone.body
    for stage in (body.layer2, body.layer3, body.layer4):
        strides = [block.conv1.stride + block.conv2.stride for block in stage]
        assert strides[0] == ((2, 2, 1, 1) if where == "1x1" else (1, 1, 2, 2))
        assert set(strides[1:]) == {(1, 1, 1, 1)}
    assert {block.conv1.stride + block.conv2.stride for block in body.layer1} == {(1, 1, 1, 1)}
    # A 1x1 convolution with a stride sees every second pixel, and so does all that follows it.
    block, x = body.layer2[0], torch.randn(1, 256, 8, 8)
    torch.nn.init.ones_(block.bn3.weight)
    with torch.no_grad():
        found = block(x)
        block.conv1.stride = block.conv2.stride = block.downsample[0].stride = (1, 1)
        expected = block(x[:, :, ::2, ::2])
    assert torch.allclose(found, expected, atol=1e-5) == (where == "1x1")


def test_a_body_of_two_3x3_convolutions_has_its_strides_anyway() -> None:
    block = build({"framework": "detectron2"}).backbone.body.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.25])
def test_batchnorm_divides_with_its_eps(eps: float) -> None:
    body = build({"batchnorm_eps": eps}, frozen=True).backbone.body
    norms = [module for module in body.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert {norm.eps for norm in norms} == {eps}
    x = torch.randn(1, 64, 4, 4)
    body.bn1.running_var.fill_(0.5)
    torch.testing.assert_close(body.bn1(x), x / (0.5 + eps) ** 0.5)


@pytest.mark.usefixtures("_narrow")
def test_proposals_before_and_after_suppression_are_counted_apart() -> None:
    rpn = build(proposals=40, proposals_before_nms=300).rpn.eval()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (300, 40)
    rpn.train()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (80, 40)
    assert build(proposals=40).rpn.eval().pre_nms_top_n() == 40


@pytest.mark.parametrize(("framework", "kept"), [("torchvision", 1), ("detectron2", 2), ("mmdetection", 2)])
@pytest.mark.usefixtures("_narrow")
def test_proposals_with_any_area_are_kept(framework: str, kept: int) -> None:
    rpn = build({"framework": framework}).rpn.eval()
    tiny = torch.tensor([[[1.0, 1.0, 1.0005, 9.0], [20.0, 20.0, 20.0, 30.0], [40.0, 40.0, 50.0, 50.0]]])
    boxes, _ = rpn.filter_proposals(tiny, torch.zeros(1, 3), [(64, 64)], [3])
    assert len(boxes[0]) == kept


@pytest.mark.usefixtures("_narrow")
def test_boxes_shrink_without_a_bound_but_in_mmdetection() -> None:
    shrunk = torch.tensor([[0.0, 0.0, -9.0, -9.0]])
    for framework, side in (("torchvision", 0.0123), ("detectron2", 0.0123), ("mmdetection", 1.6)):
        model = build({"framework": framework})
        for coder, weight in ((model.rpn.box_coder, 1.0), (model.roi_heads.box_coder, 5.0)):
            (box,) = coder.decode(weight * shrunk, [torch.tensor([[0.0, 0.0, 100.0, 100.0]])])[0].tolist()
            assert box[2] - box[0] == pytest.approx(side, abs=1e-3)
