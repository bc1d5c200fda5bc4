"""What a detector starts from: checkpoints, a published body, and torchvision's detector trained on COCO."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from conftest import RunCli
from safetensors.torch import save_file
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from gol_decouple.backbones import from_torchvision, published
from gol_decouple.backbones.conventions import USUAL
from gol_decouple.backbones.detector_weights import detector_from, start_detector
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.config import load_config
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.settings import Config

COCO = "backbone.name=torchvision:maskrcnn_resnet50_fpn"
CLASSES = "roi_heads.box_predictor.cls_score.weight"


def config_of(path: Path, *settings: str) -> Config:
    return load_config(str(path), settings)


def other(config: Config, num_classes: int = 3, frozen: bool = False) -> MaskRCNN:
    """A detector with weights of another seed."""
    assert config.detector is not None
    return build_detector(config.backbone.name, num_classes, 9, config.detector, config.transform, frozen)


def save(model: torch.nn.Module, path: Path, prefix: str = "") -> Path:
    save_file({f"{prefix}{name}": tensor.clone() for name, tensor in model.state_dict().items()}, path)
    return path


def test_our_own_detector_is_loaded_whole(tmp_path: Path, detector_config: Path) -> None:
    config = config_of(detector_config)
    source = other(config)
    detector, match = detector_from(config, 3, save(source, tmp_path / "model.safetensors", "module."))
    state = source.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in detector.state_dict().items())
    assert match.has_classifier
    assert match.unused == []
    assert "backbone.body          60 tensors  module.backbone.body" in match.table()


def test_one_box_regressor_for_all_classes_stays_one(tmp_path: Path, detector_config: Path) -> None:
    config = config_of(detector_config)
    assert config.detector is not None
    arguments = (config.backbone.name, 3, 9, config.detector, config.transform, False)
    source = build_detector(*arguments, class_agnostic=True)
    detector, match = detector_from(config, 3, save(source, tmp_path / "model.safetensors", "model."))
    state = source.state_dict()
    assert state["roi_heads.box_predictor.bbox_pred.weight"].shape == (4, 1024)
    assert all(torch.equal(tensor, state[name]) for name, tensor in detector.state_dict().items())
    assert match.has_classifier
    detector, match = detector_from(config, 5, save(source, tmp_path / "model.safetensors"))
    assert detector.roi_heads.box_predictor.bbox_pred.weight.shape == (4, 1024)
    assert not match.has_classifier


def test_predictors_of_other_classes_are_left_out_and_told(tmp_path: Path, detector_config: Path) -> None:
    config = config_of(detector_config)
    source = other(config, num_classes=5)
    detector, match = detector_from(config, 3, save(source, tmp_path / "model.safetensors"))
    assert torch.equal(detector.rpn.head.conv[0][0].weight, source.rpn.head.conv[0][0].weight)
    assert detector.state_dict()[CLASSES].shape == (4, 1024)
    assert not match.has_classifier
    assert match.classifier == f"{CLASSES} is [6, 1024], not [4, 1024]: left out"
    left_out = {".".join(name.split(".")[:3]) for name in match.unused}
    assert left_out == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_predictor.mask_fcn_logits",
    }


def test_a_resnet_becomes_the_body_with_its_statistics_as_they_are(tmp_path: Path, detector_config: Path) -> None:
    config = config_of(detector_config)
    resnet = torchvision.models.resnet18()
    resnet.bn1.running_mean.uniform_()
    torch.save({"state_dict": resnet.state_dict()}, tmp_path / "resnet.pth")
    detector, match = detector_from(config, 3, tmp_path / "resnet.pth")
    x = torch.randn(1, 3, 64, 64)
    resnet.eval()
    with torch.no_grad():
        ours = detector.backbone.body(x)["3"]
        theirs = torch.nn.Sequential(*list(resnet.children())[:-2])(x)
    torch.testing.assert_close(ours, theirs)
    assert "only the body is loaded" in match.classifier
    assert match.unused == ["state_dict.fc.weight", "state_dict.fc.bias"]
    assert not match.has_classifier


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("rpn.head.conv.0.0.weight", r"does not fit: 1 tensors are missing \(rpn.head.conv.0.0.weight\)"),
        ("backbone.body.layer4", r"does not fit: \d+ tensors are missing"),
    ],
)
def test_a_detector_with_missing_tensors_is_refused(
    tmp_path: Path, detector_config: Path, drop: str, message: str
) -> None:
    config = config_of(detector_config)
    tensors = {name: tensor for name, tensor in other(config).state_dict().items() if not name.startswith(drop)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        detector_from(config, 3, tmp_path / "model.safetensors")


def test_another_body_is_refused_with_a_way_out(tmp_path: Path, detector_config: Path, run_cli: RunCli) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    arguments = ["--checkpoint", tmp_path / "resnet34.pth", "--runs-dir", tmp_path / "runs"]
    outcome = run_cli("stage1", detector_config, *arguments, "--set", "backbone.name=torchvision:resnet50")
    assert outcome.code == 2
    assert "error: checkpoint" in outcome.err
    assert "have another shape" in outcome.err
    assert "choose the backbone it was made with (backbone.name)" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_published_body_is_that_of_the_tag(detector_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def weights(name: str, size: int) -> dict[str, torch.Tensor]:
        asked.append(name)
        return torchvision.models.resnet18().state_dict()

    monkeypatch.setattr(from_torchvision, "published", weights)
    settings = ["backbone.name=torchvision:resnet18.IMAGENET1K_V1", "backbone.pretrained=true"]
    detector, match = start_detector(config_of(detector_config, *settings), 3)
    assert asked == ["resnet18.IMAGENET1K_V1"]
    assert match is not None
    assert not match.has_classifier
    assert "running_mean" in detector.backbone.body.bn1.state_dict()


def test_cocos_detector_is_taken_without_its_predictors(
    tmp_path: Path, detector_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    theirs = MaskRCNN(backbone, 91)
    for name, buffer in theirs.named_buffers():
        if name.endswith("bn1.running_var"):
            buffer.uniform_(1e-5, 1e-4)  # hardly more than eps: that theirs was 0 shows
        elif name.endswith("running_var"):
            buffer.uniform_(500.0, 1000.0)  # keeps the maps small
    path = published.place("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")
    path.parent.mkdir()
    torch.save(theirs.state_dict(), path)
    overwrite_eps(theirs, 0.0)  # as torchvision does with these weights
    detector, match = start_detector(config_of(detector_config, COCO, "backbone.pretrained=true"), 90)
    without, _ = start_detector(
        config_of(detector_config, COCO, "backbone.pretrained=true", "detector.conventions.batchnorm_eps=0"), 90
    )
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(without.backbone(x)["0"], theirs.backbone(x)["0"]), "with their eps, nothing is changed"
        for one, other_one in zip(detector.backbone(x).values(), theirs.backbone(x).values(), strict=True):
            torch.testing.assert_close(one, other_one, rtol=1e-4, atol=1e-4)
    taken, given = detector.state_dict(), theirs.state_dict()
    assert torch.equal(taken["roi_heads.box_head.fc6.weight"], given["roi_heads.box_head.fc6.weight"])
    assert not torch.equal(taken[CLASSES], given[CLASSES]), "90 classes of ours are not COCO's 90"
    assert match is not None
    assert not match.has_classifier
    assert match.classifier == "not taken: it is for COCO's own classes"
    assert CLASSES in match.unused


def test_weights_that_are_not_here_and_cannot_be_fetched_are_the_machines_failure(
    tmp_path: Path, detector_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def refused(url: str, *_: object) -> None:
        assert url.startswith("https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco")
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(EnvironmentFailure, match="could not be downloaded: no network") as error:
        start_detector(config_of(detector_config, COCO, "backbone.pretrained=true"), 3)
    assert "put it at" in (error.value.hint or "")
    assert torchvision.ops.FrozenBatchNorm2d(1).eps == USUAL["torchvision"].settings["batchnorm_eps"]
