"""Names and orders of other frameworks' tensors, there and back, against state dicts written out name by name."""

from __future__ import annotations

from pathlib import Path

import foreign
import pytest
import torch
from annotated import narrow_bottlenecks

from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.class_order import LinearLayer
from gol_decouple.backbones.detector_layouts import Layout, bare, layout_of, name_in, refuse_others, to_layout, to_ours
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.errors import InputError
from gol_decouple.settings import TransformConfig

FRAMEWORKS = ("mmdetection", "detectron2")
CLASSES = 3


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_bottlenecks)


def detector(name: str, num_classes: int = CLASSES, agnostic: bool = False) -> torch.nn.Module:
    return build_detector(f"torchvision:{name}", num_classes, 0, DetectorConfig(), TransformConfig(), True, agnostic)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("body", "name"),
    [("R50", "resnet50"), ("X101-32x4d", "resnext101_32x4d"), ("X101-64x4d", "resnext101_64x4d")],
)
def test_every_tensor_has_its_place_and_shape(framework: str, body: str, name: str) -> None:
    theirs = foreign_shapes(framework, body)
    with torch.device("meta"):
        ours = detector(name, 80).state_dict()
    names = {name_in(framework, name): name for name in ours}  # type: ignore[arg-type]
    assert len(names) == len(ours)
    assert names.keys() == {name for name in theirs if not name.endswith("num_batches_tracked")}
    layout = Layout(framework)  # type: ignore[arg-type]
    for their_name, own_name in names.items():
        given = to_ours(own_name, torch.empty(theirs[their_name], device="meta"), layout, 80)
        assert given.shape == ours[own_name].shape, own_name


def foreign_shapes(framework: str, body: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes without drawing the numbers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape, _ in foreign._parts(framework, foreign.BODIES[body], 80, 81, False):
        if name.endswith((".weight", ".bias")):
            shapes[name] = shape
        else:
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{name}.{part}": shape for part in parts}
    return shapes


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("columns", [CLASSES, CLASSES + 1])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("bgr", "order"), [(False, None), (True, (2, 0, 1))])
def test_there_and_back_every_number_is_the_same(
    framework: str, columns: int, agnostic: bool, bgr: bool, order: tuple[int, ...] | None
) -> None:
    theirs = foreign.state_of(framework, "narrow", CLASSES, columns=columns, agnostic=agnostic)
    theirs = {name: tensor for name, tensor in theirs.items() if not name.endswith("num_batches_tracked")}
    layout = Layout(framework, columns > CLASSES, order, bgr)  # type: ignore[arg-type]
    ours = detector("resnet50", agnostic=agnostic).state_dict()
    names = {name_in(framework, name): name for name in ours}  # type: ignore[arg-type]
    loaded = {names[name]: to_ours(names[name], tensor, layout, CLASSES) for name, tensor in theirs.items()}
    assert {name: tensor.shape for name, tensor in loaded.items()} == {n: t.shape for n, t in ours.items()}
    back = to_layout(loaded, Layout.from_dict(layout.as_dict()))
    assert back.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(back[name], tensor), name


def made(framework: str, columns: int, order: tuple[int, ...] | None = None) -> dict[str, torch.Tensor]:
    """Predictors whose rows say whose they are: class c has c + 1, background has 9."""
    layout = Layout(framework, columns > CLASSES, order)  # type: ignore[arg-type]
    rows = torch.tensor([1.0, 2.0, 3.0, 9.0])
    boxes = (rows[:3, None] + torch.tensor([0.1, 0.2, 0.3, 0.4])).flatten()
    parts = {
        "roi_heads.box_predictor.cls_score.bias": rows[:columns],
        "roi_heads.box_predictor.bbox_pred.bias": boxes,
        "roi_heads.mask_predictor.mask_fcn_logits.bias": rows[:3],
        "roi_heads.mask_predictor.mask_fcn_logits.weight": rows[:3, None, None, None].expand(3, 2, 1, 1),
    }
    return {name.split(".", 2)[2]: to_ours(name, tensor, layout, CLASSES) for name, tensor in parts.items()}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_background_moves_to_the_front_and_is_made_up_where_there_is_none(framework: str) -> None:
    parts = made(framework, 4)
    assert parts["cls_score.bias"].tolist() == [9.0, 1.0, 2.0, 3.0]
    expected = [0, 0, 0, 0, 1.1, 1.2, 1.3, 1.4, 2.1, 2.2, 2.3, 2.4, 3.1, 3.2, 3.3, 3.4]
    assert parts["bbox_pred.bias"].tolist() == pytest.approx(expected)
    assert parts["mask_fcn_logits.bias"].tolist() == [-100.0, 1.0, 2.0, 3.0]
    assert parts["mask_fcn_logits.weight"][:, 0, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert made(framework, 3)["cls_score.bias"].tolist() == [-100.0, 1.0, 2.0, 3.0]


def test_classes_are_put_into_our_order() -> None:
    """Ours are the file's third, first and second."""
    parts = made("mmdetection", 4, (2, 0, 1))
    assert parts["cls_score.bias"].tolist() == [9.0, 3.0, 1.0, 2.0]
    assert parts["bbox_pred.bias"][4::4].tolist() == pytest.approx([3.1, 1.1, 2.1])
    assert parts["mask_fcn_logits.bias"].tolist() == [-100.0, 3.0, 1.0, 2.0]


def state_with(num_classes: int = CLASSES) -> dict[str, torch.Tensor]:
    rows = num_classes + 1
    return {
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(rows, 2),
        "roi_heads.box_predictor.cls_score.bias": torch.zeros(rows),
        "roi_heads.mask_predictor.mask_fcn_logits.bias": torch.arange(float(rows)),
        "rpn.head.conv.0.0.bias": torch.ones(2),
    }


def classifier(columns: int) -> LinearLayer:
    return LinearLayer(torch.arange(1.0, columns + 1)[:, None].repeat(1, 2), torch.arange(1.0, columns + 1))


def test_a_retrained_classifier_is_written_with_the_files_columns() -> None:
    softmax = to_layout(state_with(), Layout("detectron2"), classifier(4))
    assert softmax["roi_heads.box_predictor.cls_score.bias"].tolist() == [1.0, 2.0, 3.0, 4.0]
    gumbel = to_layout(state_with(), Layout("detectron2"), classifier(3))
    assert gumbel["roi_heads.box_predictor.cls_score.bias"].tolist() == [1.0, 2.0, 3.0, -100.0]
    assert gumbel["roi_heads.box_predictor.cls_score.weight"][:, 0].tolist() == [1.0, 2.0, 3.0, 0.0]
    assert gumbel["roi_heads.mask_head.predictor.bias"].tolist() == [1.0, 2.0, 3.0]
    assert gumbel["proposal_generator.rpn_head.conv.bias"].tolist() == [1.0, 1.0]
    ours = to_layout(state_with(), Layout("torchvision"), classifier(3))
    assert ours["roi_heads.box_predictor.cls_score.bias"].tolist() == [-100.0, 1.0, 2.0, 3.0]
    without = Layout("mmdetection", background=False, order=(2, 0, 1))
    found = to_layout(state_with(), without, classifier(3))["roi_head.bbox_head.fc_cls.bias"]
    assert found.tolist() == [2.0, 3.0, 1.0], "our class 0 is the file's 2"
    with pytest.raises(InputError, match="has 4 columns, one for background, and the checkpoint's has 3"):
        to_layout(state_with(), without, classifier(4))


@pytest.mark.parametrize("told", [{}, {"framework": "other", "background": True, "order": None, "bgr": False}])
def test_a_layout_that_is_none_is_told_by_python(told: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Layout.from_dict(told)


def test_whose_names_they_are() -> None:
    for framework in FRAMEWORKS:
        names = foreign.state_of(framework, "narrow", CLASSES)
        assert layout_of(names) == framework
        assert layout_of([f"state_dict.module.{name}" for name in names]) == framework
    assert layout_of(["state_dict.backbone.body.conv1.weight", "rpn.head.conv.0.0.bias"]) == "torchvision"
    assert layout_of(["conv1.weight", "layer1.0.conv1.weight"]) is None
    assert layout_of(["state_dict.backbone.conv1.weight"]) is None, "a body alone"
    assert bare("model.module.backbone.conv1.weight") == "backbone.conv1.weight"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("state_dict.roi_head.bbox_head.0.fc_cls.weight", "a cascade"),
        ("model.roi_heads.box_predictor.0.cls_score.weight", "a cascade"),
        ("roi_heads.box_head.0.fc1.weight", "a cascade"),
        ("state_dict.bbox_head.fc_cls.weight", "mmdetection 1.x"),
        ("bbox_head.shared_fcs.0.weight", "mmdetection 1.x"),
        ("bbox_head.retina_cls.weight", "a RetinaNet"),
        ("model.head.cls_score.weight", "a RetinaNet"),
        ("bbox_head.gfl_cls.weight", "a detector of mmdetection's that classifies no RoIs"),
        ("roi_heads.res5.0.conv1.weight", "a detector on one feature map"),
        ("roi_head.shared_head.layer4.0.conv1.weight", "a detector on one feature map"),
        ("backbone.stem.conv1.weight", "a detector of detectron2's without an FPN"),
        ("roi_head.bbox_head.fc_cls.weight", "a detector of mmdetection's without an FPN"),
    ],
)
def test_other_detectors_are_refused_with_a_way_out(name: str, what: str) -> None:
    with pytest.raises(InputError, match=f"checkpoint a.pth is of {what}") as error:
        refuse_others([name], Path("a.pth"))
    assert "docs/exported-rois.md" in (error.value.hint or "")
