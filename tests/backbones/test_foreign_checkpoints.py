"""Checkpoints of detectron2 and mmdetection become our detector, and say what of them did not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign
import foreign_files as files
import pytest
import torch
from annotated import narrow_bottlenecks
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_facts import Facts
from gol_decouple.backbones.detector_layouts import Layout, to_layout
from gol_decouple.backbones.detector_loading import order_of
from gol_decouple.backbones.detector_weights import detector_from, start_detector
from gol_decouple.backbones.mask_rcnn import body_of
from gol_decouple.backbones.mmdetection_config import Stated
from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import load_config
from gol_decouple.errors import InputError

NAMES = ["three", "seven", "nine"]
CLASSIFIER = "roi_heads.box_predictor.cls_score"
FRAMEWORKS = ["mmdetection", "detectron2"]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Narrow detectors, and a folder that is emptied at once: they are large all the same."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_bottlenecks)
    yield
    shutil.rmtree(tmp_path)


def loaded(config: Path, checkpoint: Path, *settings: str, names: list[str] = NAMES) -> tuple[MaskRCNN, Match]:
    base = ["backbone.name=torchvision:resnet50", f"stage1.checkpoint={checkpoint}"]
    detector, match = start_detector(resolve(load_config(str(config), [*base, *settings])), len(names), names)
    assert match is not None
    return detector, match


def written(path: Path, framework: str, state: dict[str, torch.Tensor], **config: Any) -> Path:
    if framework == "detectron2":
        return files.write_detectron2(path, state)
    return files.write_mmdetection(path, state, files.mmdetection_config(**config), NAMES)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_whole_detector(tmp_path: Path, detector_config: Path, framework: str) -> None:
    state = foreign.state_of(framework, "narrow", 3)
    detector, match = loaded(detector_config, written(tmp_path / "a.pth", framework, state))
    ours = detector.state_dict()
    assert match.found.keys() == ours.keys()
    assert match.has_classifier
    assert match.unused == []
    bgr = framework == "detectron2"
    stem = state[foreign.name_of(framework, "stem")]
    assert torch.equal(ours["backbone.body.conv1.weight"], stem.flip(1) if bgr else stem)
    assert torch.equal(ours[f"{CLASSIFIER}.bias"], state[f"{foreign.name_of(framework, 'classes')}.bias"].roll(1)), (
        "background comes first"
    )
    told = match.as_dict()
    assert told["layout"] == {"framework": framework, "background": True, "order": None, "bgr": bgr}
    assert told["format"] == "torch"
    container = "state_dict" if framework == "mmdetection" else "model"
    assert told["tensors"][f"{CLASSIFIER}.weight"] == [container, f"{foreign.name_of(framework, 'classes')}.weight"]
    back = to_layout(ours, Layout.from_dict(told["layout"]))
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_regressor_for_all_classes(tmp_path: Path, detector_config: Path, framework: str) -> None:
    state = foreign.state_of(framework, "narrow", 3, agnostic=True)
    detector, match = loaded(detector_config, written(tmp_path / "a.pth", framework, state))
    predictor = detector.roi_heads.box_predictor
    assert predictor.bbox_pred.weight.shape == (4, 1024)
    assert match.has_classifier
    features = torch.randn(5, 1024)
    scores, deltas = predictor(features)
    assert (scores.shape, deltas.shape) == ((5, 4), (5, 16))
    one = features @ predictor.bbox_pred.weight.T + predictor.bbox_pred.bias
    torch.testing.assert_close(deltas.view(5, 4, 4), one[:, None].expand(5, 4, 4))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("columns", [3, 4])
def test_one_vs_all_classifiers(tmp_path: Path, detector_config: Path, framework: str, columns: int) -> None:
    state = foreign.state_of(framework, "narrow", 3, columns=columns)
    path = written(tmp_path / "a.pth", framework, state)
    detector, match = loaded(detector_config, path, "detector.activation=gumbel")
    bias = detector.roi_heads.box_predictor.cls_score.bias
    theirs = state[f"{foreign.name_of(framework, 'classes')}.bias"]
    assert torch.equal(bias[1:], theirs[:3])
    assert bias[0] == (theirs[3] if columns == 4 else -100.0)
    assert match.has_classifier
    assert match.layout is not None
    assert match.layout["background"] == (columns == 4)


def test_classes_are_in_the_order_of_the_annotations_or_by_name(tmp_path: Path, detector_config: Path) -> None:
    """mmdetection looks for the names in the annotations, and numbers them as it finds them there."""
    state = foreign.state_of("mmdetection", "narrow", 3)
    path = files.write_mmdetection(tmp_path / "a.pth", state, "", ["seven", "nine", "three"])
    detector, match = loaded(detector_config, path)
    theirs = state["roi_head.bbox_head.fc_cls.bias"]
    assert detector.roi_heads.box_predictor.cls_score.bias.tolist() == theirs[[3, 0, 1, 2]].tolist()
    (warning,) = match.warnings
    assert "its names of classes are in another order: they are taken in that of category ids" in warning
    detector, match = loaded(detector_config, path, "detector.conventions.class_order=names")
    assert match.warnings == []
    assert detector.roi_heads.box_predictor.cls_score.bias.tolist() == theirs[[3, 2, 0, 1]].tolist()
    assert "its classes are in another order: they are found by their names" in match.table()
    assert match.as_dict()["layout"]["order"] == (2, 0, 1)
    back = to_layout(detector.state_dict(), Layout.from_dict(match.as_dict()["layout"]))
    for part in ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits"):
        assert torch.equal(back[f"roi_head.{part}.weight"], state[f"roi_head.{part}.weight"])


def test_classes_without_names_are_trusted_and_others_are_not(tmp_path: Path, detector_config: Path) -> None:
    state = foreign.state_of("mmdetection", "narrow", 3)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    _, match = loaded(detector_config, tmp_path / "a.pth")
    assert "it names no classes: they are taken in the order of category ids" in match.table()
    path = files.write_mmdetection(tmp_path / "b.pth", state, "", ["three", "cat", "dog"])
    _, match = loaded(detector_config, path)
    assert not match.has_classifier
    assert match.warnings == [
        f"{path}: its classes are others: it has cat, dog, the data seven, nine; its predictors are left out"
    ]
    left_out = {name.rsplit(".", 1)[0] for name in match.unused}
    head = "state_dict.roi_head"
    assert left_out == {f"{head}.bbox_head.fc_cls", f"{head}.bbox_head.fc_reg", f"{head}.mask_head.conv_logits"}


@pytest.mark.parametrize(("differing", "others"), [(1, False), (2, False), (3, True)])
def test_names_that_are_spelt_otherwise_are_no_other_classes(differing: int, others: bool) -> None:
    """mmdetection has speaker_(stereo_equipment) where LVIS's own files have speaker_(stero_equipment)."""
    ours = [f"class {at}" for at in range(18)] + ["speaker_(stero_equipment)", "cat"]
    theirs = [f"other {at}" for at in range(differing - 1)] + ours[differing - 1 : 18]
    theirs += ["speaker_(stereo_equipment)", "cat"]
    facts = Facts("mmdetection", False, Stated(), theirs, 21, 20, False)
    order = order_of(facts, ours, 20, by_names=False)
    assert order.places is None
    assert (order.others is not None) == others
    assert "speaker_(stereo_equipment)" in (order.others or order.warning or "")
    assert order_of(facts, ours, 20, by_names=True).others is not None, "one name is not there"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_predictors_of_another_number_of_classes_are_left_out(
    tmp_path: Path, detector_config: Path, framework: str
) -> None:
    path = written(tmp_path / "a.pth", framework, foreign.state_of(framework, "narrow", 5))
    detector, match = loaded(detector_config, path)
    assert detector.roi_heads.box_predictor.cls_score.weight.shape == (4, 1024)
    assert match.classifier == f"{foreign.name_of(framework, 'classes')}.weight is [6, 1024], not [4, 1024]: left out"
    assert len(match.unused) == 6


def test_a_classifier_that_is_not_here_is_left_out_alone(tmp_path: Path, detector_config: Path) -> None:
    state = foreign.state_of("mmdetection", "narrow", 3, columns=3)
    loss = {**files.GUMBEL_DROP, "use_classif": "cls_rel"}
    detector, match = loaded(detector_config, written(tmp_path / "a.pth", "mmdetection", state, loss=loss))
    assert (match.has_classifier, len(match.unused)) == (False, 2)
    assert match.classifier == "not taken: its activation is 'cls_rel', which is not here"
    assert torch.equal(detector.roi_heads.box_predictor.bbox_pred.bias[4:], state["roi_head.bbox_head.fc_reg.bias"])
    seesaw = foreign.state_of("mmdetection", "narrow", 3, columns=5)
    seesaw["roi_head.bbox_head.loss_cls.cum_samples"] = torch.ones(4)
    _, match = loaded(detector_config, written(tmp_path / "b.pth", "mmdetection", seesaw))
    assert match.classifier == "roi_head.bbox_head.fc_cls.weight is [5, 1024], not [4, 1024]: left out"
    assert [name.partition(".")[2] for name in match.unused] == [
        "roi_head.bbox_head.fc_cls.weight",
        "roi_head.bbox_head.fc_cls.bias",
        "roi_head.bbox_head.loss_cls.cum_samples",
    ]


def test_what_lies_beside_the_weights_is_nothing(tmp_path: Path, detector_config: Path) -> None:
    state = foreign.state_of("detectron2", "narrow", 3) | foreign.old_buffers()
    _, match = loaded(detector_config, files.write_detectron2(tmp_path / "a.pkl", state))
    assert match.unused == []
    assert match.as_dict()["format"] == "pickle"
    theirs = foreign.state_of("mmdetection", "narrow", 3)
    averages = {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in theirs.items()}
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.items()}
    torch.save({"state_dict": {**wrapped, **averages}}, tmp_path / "b.pth")
    detector, match = loaded(detector_config, tmp_path / "b.pth")
    assert match.unused == []
    assert torch.equal(detector.backbone.body.conv1.weight, theirs["backbone.conv1.weight"])


def test_our_own_file_is_not_turned_again(tmp_path: Path, detector_config: Path) -> None:
    from gol_decouple.stages.starting import save_model

    state = foreign.state_of("detectron2", "narrow", 3)
    path = files.write_detectron2(tmp_path / "a.pkl", state)
    base = ["backbone.name=torchvision:resnet50", f"stage1.checkpoint={path}"]
    config = resolve(load_config(str(detector_config), base))
    detector, _ = start_detector(config, 3, NAMES)
    save_model(detector, tmp_path / "model.safetensors", config)
    assert config.detector is not None
    assert config.detector.conventions.channels == "bgr"
    again, _ = detector_from(config, 3, tmp_path / "model.safetensors")
    assert torch.equal(again.backbone.body.conv1.weight, detector.backbone.body.conv1.weight)
    other, _ = loaded(detector_config, tmp_path / "model.safetensors")
    assert torch.equal(other.backbone.body.conv1.weight, detector.backbone.body.conv1.weight)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_missing_and_misshapen_tensors_have_the_files_names(
    tmp_path: Path, detector_config: Path, framework: str
) -> None:
    state = foreign.state_of(framework, "narrow", 3)
    name = f"{foreign.name_of(framework, 'mask_up')}.weight"
    short = {key: tensor for key, tensor in state.items() if key != name}
    with pytest.raises(InputError, match=rf"does not fit: 1 tensors are missing \({name}\)") as error:
        loaded(detector_config, written(tmp_path / "a.pth", framework, short))
    assert "docs/exported-rois.md" in (error.value.hint or "")
    other = state | {name: torch.zeros(1, 256, 2, 2)}
    with pytest.raises(
        InputError, match=rf"1 have another shape \(.*{name} is \[1, 256, 2, 2\], not \[256, 256, 2, 2\]"
    ):
        loaded(detector_config, written(tmp_path / "b.pth", framework, other))


def test_another_network_is_refused_though_nothing_is_missing(tmp_path: Path, detector_config: Path) -> None:
    """Deformable convolutions have all that plain ones have, and more."""
    state = foreign.state_of("detectron2", "narrow", 3)
    state["backbone.bottom_up.res3.0.conv2_offset.weight"] = torch.zeros(18, 32, 3, 3)
    with pytest.raises(InputError, match="is of another network: it has 1 tensors that no ResNet with an FPN has"):
        loaded(detector_config, written(tmp_path / "a.pth", "detectron2", state))


def test_boxes_are_decoded_with_the_files_weights(tmp_path: Path, detector_config: Path) -> None:
    text = files.mmdetection_config().replace("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]")
    state = foreign.state_of("mmdetection", "narrow", 3)
    detector, _ = loaded(detector_config, files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES))
    assert tuple(detector.roi_heads.box_coder.weights) == (20.0, 20.0, 10.0, 10.0)


def test_a_resnet_without_published_weights(detector_config: Path) -> None:
    assert body_of("torchvision:resnext101_32x4d").architecture == "resnext101_32x4d"
    settings = ["backbone.name=torchvision:resnext101_32x4d", "backbone.pretrained=true"]
    with pytest.raises(InputError, match="there are no published weights of torchvision:resnext101_32x4d"):
        start_detector(load_config(str(detector_config), settings), 3)
    with pytest.raises(InputError, match="unknown backbone 'torchvision:resnext101_32x4d.V1'"):
        body_of("torchvision:resnext101_32x4d.V1")
