"""The config in mmdetection's checkpoints is read as data, in the words of versions 2 and 3."""

from __future__ import annotations

from typing import Any

import foreign_files as files
import pytest

from gol_decouple.backbones.mmdetection_config import parse, stated
from gol_decouple.errors import InputError

PLAIN = {
    "detector.conventions.channels": "rgb",
    "detector.conventions.stride_in": "3x3",
    "detector.conventions.batchnorm_eps": 1e-5,
    "detector.conventions.anchor_offset": 0.0,
    "detector.conventions.aligned": True,
    "detector.conventions.sampling_ratio": 0,
    "detector.conventions.coder_weights": (10.0, 10.0, 5.0, 5.0),
    "detector.mask_predictor": "standard",
    "detector.activation": "softmax",
    "detector.proposals_before_nms": 1000,
    "transform.mean": (0.485, 0.456, 0.406),
    "transform.std": (0.229, 0.224, 0.225),
}


def settings_of(**given: Any) -> dict[str, Any]:
    return stated(parse(files.mmdetection_config(**given))).settings


@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_config(version: int) -> None:
    assert settings_of(version=version) == PLAIN
    found = stated(parse(files.mmdetection_config(version=version)))
    assert found.other_classifier is None
    assert found.tests == (
        "detector.score_threshold=0.0001 detector.nms=0.5 detector.max_detections=300 detector.proposals=1000"
    )


@pytest.mark.parametrize("version", [2, 3])
def test_caffes_colours_come_red_first(version: int) -> None:
    pixels = {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "rgb": False}
    found = settings_of(version=version, style="caffe", pixels=pixels)
    changed = {"detector.conventions.channels": "bgr", "detector.conventions.stride_in": "1x1"}
    assert found == PLAIN | changed


def test_normalisation_within_a_pipeline() -> None:
    text = files.mmdetection_config(pixels=files.CAFFE_PIXELS).replace("img_norm_cfg", "other")
    found = stated(parse(text)).settings
    assert found["transform.std"] == pytest.approx((1 / 255,) * 3)
    assert found["detector.conventions.channels"] == "bgr"


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (files.GUMBEL, "gumbel"),
        (files.GUMBEL_DROP, "gumbel"),
        ({**files.GUMBEL_DROP, "type": "EQL", "use_classif": "sigmoid"}, "sigmoid"),
        ({"type": "CrossEntropyLoss", "use_sigmoid": True}, "sigmoid"),
        ({"type": "CrossEntropyLoss"}, "softmax"),
        ({"type": "DropLoss"}, "sigmoid"),
        ({"type": "EQLv2"}, None),
    ],
)
def test_the_loss_says_the_activation(loss: dict[str, Any], activation: str | None) -> None:
    assert settings_of(loss=loss).get("detector.activation") == activation


def test_classifiers_that_are_not_here() -> None:
    relative = stated(parse(files.mmdetection_config(loss={**files.GUMBEL_DROP, "use_classif": "cls_rel"})))
    assert relative.other_classifier == "its activation is 'cls_rel', which is not here"
    assert "detector.activation" not in relative.settings
    eqlv2 = stated(parse(files.mmdetection_config(loss={"type": "EQLv2"})))
    assert eqlv2.other_classifier == "its loss is 'EQLv2', and what its scores are is not known here"
    assert stated(parse(files.mmdetection_config())).other_classifier is None
    text = files.mmdetection_config().replace("fc_out_channels", "cls_predictor_cfg=dict(type='NormedLinear'), fc_out")
    assert stated(parse(text)).other_classifier == "it is a NormedLinear, and no linear layer"


def test_the_normalised_mask_predictor() -> None:
    assert settings_of(mask_predictor=files.NORMED_MASKS)["detector.mask_predictor"] == "normalized"


def test_coder_weights_sampling_and_offset() -> None:
    text = files.mmdetection_config().replace("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]")
    text = text.replace("sampling_ratio=0", "sampling_ratio=2, aligned=False")
    text = text.replace("type='AnchorGenerator'", "type='AnchorGenerator', center_offset=0.5")
    found = stated(parse(text.replace("norm_cfg=dict(", "norm_cfg=dict(eps=0.001, "))).settings
    assert found["detector.conventions.coder_weights"] == (20.0, 20.0, 10.0, 10.0)
    assert found["detector.conventions.sampling_ratio"] == 2
    assert found["detector.conventions.aligned"] is False
    assert found["detector.conventions.anchor_offset"] == 0.5
    assert found["detector.conventions.batchnorm_eps"] == 0.001


def test_numbers_without_an_end_are_none() -> None:
    text = files.mmdetection_config().replace("max_per_img=300", f"max_per_img={'9' * 400}")
    assert "max_detections" not in (stated(parse(text)).tests or "")
    assert parse(f"a = {2**53}\nb = -{2**53 + 1}\nc = True") == {"a": 2**53, "b": None, "c": True}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scales=[8]", "scales=[4]", r"model.rpn_head.anchor_generator.scales = \[4\], and detectors here have \[8\]"),
        ("ratios=[0.5, 1.0, 2.0]", "ratios=[1.0]", "anchor_generator.ratios"),
        ("[4, 8, 16, 32, 64]", "[8, 16, 32, 64, 128]", "anchor_generator.strides"),
        ("[1.0, 1.0, 1.0, 1.0]", "[0.1, 0.1, 0.2, 0.2]", "rpn_head.bbox_coder.target_stds"),
        ("[0.1, 0.1, 0.2, 0.2]", "[0.1, 0.1]", "roi_head.bbox_head.bbox_coder.target_stds"),
        ("type='RoIAlign', output_size=14", "type='RoIPool', output_size=14", "mask_roi_extractor.roi_layer.type"),
        ("type='AnchorGenerator'", "type='LegacyAnchorGenerator'", "anchor_generator.type"),
        ("type='DeltaXYWHBBoxCoder'", "type='LegacyDeltaXYWHBBoxCoder'", "bbox_coder.type"),
        ("iou_threshold=0.7", "iou_threshold=0.9", "test_cfg.rpn.nms = 0.9, and detectors here have 0.7"),
        ("type='FCNMaskHead'", "predictor_cfg=dict(type='NormedConv2d', tempearture=10)", "predictor_cfg.tempearture"),
    ],
)
def test_what_detectors_here_cannot_do_is_refused(old: str, new: str, message: str) -> None:
    text = files.mmdetection_config()
    assert old in text
    with pytest.raises(InputError, match=message):
        stated(parse(text.replace(old, new)))


def test_only_literals_are_read(tmp_path: Any) -> None:
    path = tmp_path / "made"
    text = (
        "/home/somebody/mask_rcnn.py\n"
        f"work_dir = open({str(path)!r}, 'w')\n"
        "model = dict(type='MaskRCNN', a=-1, b=(1, 2), c={'d': None}, e=[x for x in 'y'], **other)\n"
        "gpu_ids = range(0, 4)\nimport os\nmodel.train = True\n"
    )
    assert parse(text) == {
        "work_dir": None,
        "model": {"type": "MaskRCNN", "a": -1, "b": [1, 2], "c": {"d": None}, "e": None},
        "gpu_ids": None,
    }
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "model = (", "a\0b", "model = 3", "\n"),
        *(
            "(" * 5000 + ")" * 5000,
            "x = " + "-" * 900 + "1",
            "x = " + "-" * 100_000 + "1",
            "x = " + "-" * 1500 + "1",
            "x = " + "[" * 150 + "]" * 150,
        ),
    ],
)
def test_a_text_that_is_no_config_says_nothing(text: str) -> None:
    assert stated(parse(text)).settings == {}
