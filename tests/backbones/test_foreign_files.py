"""The made checkpoint files hold what the frameworks' own do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import foreign
import foreign_files as files
import numpy as np
import pytest
import torch


def run(text: str) -> dict[str, Any]:
    """The names that a config's text gives values to."""
    names: dict[str, Any] = {}
    exec(text, names)
    return names


@pytest.mark.parametrize("version", [2, 3])
def test_configs_say_what_they_should(version: int) -> None:
    text = files.mmdetection_config(
        version,
        "X101-32x4d",
        1203,
        style="caffe",
        pixels=files.CAFFE_PIXELS,
        loss=files.GUMBEL_DROP,
        agnostic=True,
        mask_predictor=files.NORMED_MASKS,
        scale=(640, 400),
        testing={"nms": {"type": "nms", "iou_threshold": 0.3}},
    )
    assert max(map(len, text.splitlines())) < 120
    config = run(text)
    backbone, head = config["model"]["backbone"], config["model"]["roi_head"]["bbox_head"]
    assert (backbone["type"], backbone["depth"], backbone["groups"], backbone["base_width"]) == ("ResNeXt", 101, 32, 4)
    assert backbone["style"] == "caffe"
    assert (head["num_classes"], head["reg_class_agnostic"], head["loss_cls"]["type"]) == (1203, True, "DropLoss")
    assert config["model"]["roi_head"]["mask_head"]["predictor_cfg"] == files.NORMED_MASKS
    testing = config["model"]["test_cfg"]["rcnn"]
    assert (testing["nms"]["iou_threshold"], testing["max_per_img"]) == (0.3, 300)
    if version == 2:
        assert config["img_norm_cfg"] == {"mean": [103.53, 116.28, 123.675], "std": [1.0] * 3, "to_rgb": False}
        assert config["test_pipeline"][1]["img_scale"] == (640, 400)
    else:
        assert config["model"]["data_preprocessor"]["bgr_to_rgb"] is False
        assert config["test_pipeline"][1]["scale"] == (640, 400)


def test_files_hold_the_weights_where_the_frameworks_put_them(tmp_path: Path) -> None:
    state = foreign.state_of("mmdetection", "narrow", 2)
    for version, config, where in ((2, "config", "CLASSES"), (3, "cfg", "dataset_meta")):
        path = files.write_mmdetection(tmp_path / "a.pth", state, "model = 1\n", ["cat", "dog"], version)
        held = torch.load(path, weights_only=True)
        assert held["meta"][config] == "model = 1\n"
        named = held["meta"][where]
        assert (named["classes"] if version == 3 else named) == ("cat", "dog")
        assert held["state_dict"].keys() == state.keys()
    state = foreign.state_of("detectron2", "narrow", 2) | foreign.old_buffers()
    held = torch.load(files.write_detectron2(tmp_path / "model_final.pth", state), weights_only=True)
    assert held["model"].keys() == state.keys()
    assert held["iteration"] == 89999
    with files.write_detectron2(tmp_path / "model_final.pkl", state).open("rb") as file:
        held = pickle.load(file)
    for name, array in held["model"].items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, state[name].numpy())


def test_old_anchors_are_those_of_each_level() -> None:
    buffers = foreign.old_buffers()
    assert buffers["pixel_mean"].shape == (3, 1, 1)
    cells = buffers["proposal_generator.anchor_generator.cell_anchors.1"]
    torch.testing.assert_close(cells[1], torch.tensor([-32.0, -32, 32, 32]))
    torch.testing.assert_close(cells[2], torch.tensor([-22.6274, -45.2548, 22.6274, 45.2548]))
