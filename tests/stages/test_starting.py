"""What stage one begins with: parts of a backbone that are neither loaded nor trained are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from annotated import narrow_backbone
from torch import nn

from gol_decouple.backbones import mask_rcnn
from gol_decouple.config import load_config
from gol_decouple.progress import Progress
from gol_decouple.stages.backbone import _model
from gol_decouple.stages.detector import _detector
from gol_decouple.stages.starting import save_model

Begun = Callable[..., tuple[nn.Module, list[str]]]


class Said(Progress):
    """All that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


@pytest.fixture(params=["detector", "classifier"])
def begun(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, detector_config: Path) -> Begun:
    """The model that a config's training begins with, with some settings changed, and what is said of its parts."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)

    def begin(*settings: str) -> tuple[nn.Module, list[str]]:
        said = Said()
        if request.param == "detector":
            config = load_config(str(detector_config), settings)
            model: nn.Module = _detector(config, ["three", "seven", "nine"], said)[0]
        else:
            model = _model(load_config("digits_lt", settings), 3, said)[0]
        return model, [line for line in said.lines if "backbone.trainable" in line]

    return begin


def test_parts_that_keep_random_weights_are_told(begun: Begun) -> None:
    (warning,) = begun('backbone.trainable=["layer2", "layer3"]')[1]
    assert warning.startswith("warning: backbone.trainable does not name conv1, bn1, layer1")
    assert "layer2" not in warning


def test_parts_are_not_told_if_all_are_trained_or_none_or_some_loaded(begun: Begun, tmp_path: Path) -> None:
    model, warnings = begun()
    assert warnings == []
    only = 'backbone.trainable=["layer2"]'
    assert begun(only, "stage1.epochs=0")[1] == []
    save_model(model, tmp_path / "model.safetensors")
    assert begun(only, f"stage1.checkpoint={tmp_path / 'model.safetensors'}", "stage1.epochs=1")[1] == []
