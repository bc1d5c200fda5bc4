"""What a checkpoint was made with fills a config, is told with its source, and gives way to what the user set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import foreign
import foreign_files as files
import pytest
import torch
from annotated import narrow_bottlenecks
from safetensors.torch import save_file

from gol_decouple.backbones import mask_rcnn
from gol_decouple.backbones.checkpoint_settings import detector_settings
from gol_decouple.backbones.detector_facts import METADATA
from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import load_config, to_toml
from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.settings import Config
from gol_decouple.stages.starting import save_model

NAMES = ["three", "seven", "nine"]
State = dict[str, torch.Tensor]


class Said(Progress):
    """All that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Narrow detectors, and a folder that is emptied at once: they are large all the same."""
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_bottlenecks)
    yield
    shutil.rmtree(tmp_path)


def resolved(config: Path, checkpoint: Path, *settings: str) -> tuple[Config, str]:
    """The config that a run keeps, and what is said."""
    said = Said()
    base = ["backbone.name=torchvision:resnet50", f"stage1.checkpoint={checkpoint}"]
    return resolve(load_config(str(config), [*base, *settings]), said), "\n".join(said.lines)


@pytest.fixture
def state() -> State:
    return foreign.state_of("mmdetection", "narrow", 3)


@pytest.mark.parametrize("version", [2, 3])
def test_mmdetections_own_config(tmp_path: Path, detector_config: Path, state: State, version: int) -> None:
    text = files.mmdetection_config(
        version, style="caffe", pixels=files.CAFFE_PIXELS, mask_predictor=files.NORMED_MASKS
    )
    path = files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES, version)
    config, said = resolved(detector_config, path)
    assert config.detector is not None
    conventions = config.detector.conventions.model_dump()
    assert conventions == {
        "framework": "mmdetection",
        "class_order": "ids",
        "channels": "bgr",
        "stride_in": "1x1",
        "batchnorm_eps": 1e-5,
        "anchor_rounding": False,
        "anchor_offset": 0.0,
        "aligned": True,
        "sampling_ratio": 0,
        "resize": "opencv",
        "coder_weights": (10.0, 10.0, 5.0, 5.0),
    }
    assert config.transform.mean == pytest.approx((0.485, 0.456, 0.406))
    assert config.transform.std == pytest.approx((1 / 255,) * 3)
    assert (config.detector.activation, config.detector.mask_predictor) == ("softmax", "normalized")
    assert config.detector.proposals_before_nms == 1000
    lines = said.splitlines()
    assert lines[0] == f"{path} is of mmdetection:"
    assert lines[1].startswith("  the file says ")
    assert "channels=bgr stride_in=1x1" in lines[1]
    assert lines[2].split(None, 3)[:3] == ["usual", "of", "mmdetection"]
    assert "anchor_rounding=false resize=opencv" in lines[2]
    assert "detector.score_threshold=0.0001 detector.nms=0.5" in lines[3]
    kept = tmp_path / "config.toml"
    kept.write_text(to_toml(config))
    assert load_config(str(kept)) == config


def test_other_sizes_of_images_than_there_are_warned_of(tmp_path: Path, detector_config: Path, state: State) -> None:
    text = files.mmdetection_config(scale=(128, 64))
    path = files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES)
    _, said = resolved(detector_config, path)
    assert f"warning: images are resized to 64, at most 96, and {path} was tested with 64 and 128" in said
    _, said = resolved(detector_config, path, "detector.max_size=128")
    assert "was tested with" not in said


def test_without_a_config_it_is_the_frameworks_usual(tmp_path: Path, detector_config: Path, state: State) -> None:
    torch.save(state, tmp_path / "a.pth")
    config, said = resolved(detector_config, tmp_path / "a.pth")
    assert config.detector is not None
    assert (config.detector.conventions.channels, config.detector.conventions.stride_in) == ("rgb", "3x3")
    assert config.transform.std == (0.229, 0.224, 0.225)
    assert config.detector.proposals_before_nms == 1000
    assert "the file says" in said  # whose names they are
    assert "warning" not in said


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_detectron2s_usual(tmp_path: Path, detector_config: Path, suffix: str) -> None:
    path = files.write_detectron2(tmp_path / f"a{suffix}", foreign.state_of("detectron2", "narrow", 3))
    config, _ = resolved(detector_config, path)
    assert config.detector is not None
    conventions = config.detector.conventions
    assert (conventions.framework, conventions.channels) == ("detectron2", "bgr")
    assert (conventions.stride_in, conventions.resize) == ("1x1", "pillow")
    assert config.transform.std == pytest.approx((1 / 255,) * 3)
    wide, _ = resolved(detector_config, path, "backbone.name=torchvision:resnext101_32x8d")
    assert wide.detector is not None
    assert wide.detector.conventions.stride_in == "3x3"
    assert wide.transform.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("red_first", [False, True])
def test_detectron2s_old_files_say_their_pixels(tmp_path: Path, detector_config: Path, red_first: bool) -> None:
    buffers = foreign.old_buffers() | {"pixel_std": torch.tensor([57.375, 57.12, 58.395]).view(3, 1, 1)}
    if red_first:
        buffers |= {name: buffers[name].flip(0) for name in ("pixel_mean", "pixel_std")}
    path = files.write_detectron2(tmp_path / "a.pkl", foreign.state_of("detectron2", "narrow", 3) | buffers)
    config, said = resolved(detector_config, path)
    assert config.detector is not None
    assert config.detector.conventions.channels == ("rgb" if red_first else "bgr")
    assert config.transform.mean == pytest.approx((0.485, 0.456, 0.406))
    assert config.transform.std == pytest.approx((0.229, 0.224, 0.225))
    assert f"channels={'rgb' if red_first else 'bgr'} transform.mean" in said


def test_what_the_user_sets_stands_and_is_told_if_the_file_says_otherwise(
    tmp_path: Path, detector_config: Path, state: dict
) -> None:
    path = files.write_mmdetection(tmp_path / "a.pth", state, files.mmdetection_config(scale=(96, 64)), NAMES)
    settings = [
        "detector.conventions.aligned=false",
        "detector.conventions.sampling_ratio=0",
        "detector.conventions.resize=pillow",
        "transform.mean=[0.5,0.5,0.5]",
        "transform.std=[0.229,0.224,0.225]",
        "detector.mask_predictor=standard",
    ]
    config, said = resolved(detector_config, path, *settings)
    assert config.detector is not None
    assert (config.detector.conventions.aligned, config.detector.conventions.resize) == (False, "pillow")
    assert config.transform.mean == (0.5, 0.5, 0.5)
    warnings = [line for line in said.splitlines() if line.startswith("warning")]
    assert warnings == [
        f"warning: aligned=false is set, and {path} says true",
        f"warning: transform.mean=[0.5,0.5,0.5] is set, and {path} says [0.485,0.456,0.406]",
    ]


@pytest.mark.parametrize("framework", ["mmdetection", "detectron2"])
def test_a_classifier_without_background_needs_its_activation(
    tmp_path: Path, detector_config: Path, framework: str
) -> None:
    torch.save(foreign.state_of(framework, "narrow", 3, columns=3), tmp_path / "a.pth")
    for settings in ([], ["detector.activation=softmax"]):
        with pytest.raises(InputError, match="has no column for background, so it is no Softmax one") as error:
            resolved(detector_config, tmp_path / "a.pth", *settings)
        assert "detector.activation=gumbel" in (error.value.hint or "")
    config, _ = resolved(detector_config, tmp_path / "a.pth", "detector.activation=sigmoid")
    assert config.detector is not None
    assert config.detector.activation == "sigmoid"


def test_a_classifier_that_is_not_softmax_is_not_trained_on(
    tmp_path: Path, detector_config: Path, state: State
) -> None:
    text = files.mmdetection_config(loss=files.GUMBEL)
    path = files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES)
    assert resolved(detector_config, path)[0].detector.activation == "gumbel"  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"stage1.epochs = 1 trains Softmax, and the classifier of .* is of gumbel"):
        resolved(detector_config, path, "stage1.epochs=1")
    config, said = resolved(detector_config, path, "stage1.epochs=1", "detector.activation=softmax")
    assert "warning: detector.activation=softmax is set, and" in said
    assert config.stage1.epochs == 1


def test_conventions_without_a_checkpoint_have_their_frameworks_pixels(detector_config: Path) -> None:
    config = resolve(load_config(str(detector_config), ["detector.conventions.framework=detectron2"]))
    assert config.transform.std == (1 / 255, 1 / 255, 1 / 255)
    with pytest.raises(InputError, match="channels = 'bgr' is of weights that are loaded, and none are"):
        resolve(load_config(str(detector_config), ["detector.conventions.channels=bgr"]))


def test_an_activation_without_a_checkpoint_is_refused(detector_config: Path) -> None:
    with pytest.raises(InputError, match="is of a classifier that is loaded, and none is"):
        resolve(load_config(str(detector_config), ["detector.activation=gumbel"]))
    resolve(load_config(str(detector_config), ["detector.activation=softmax"]))


def test_our_own_file_keeps_what_its_detector_was_made_with(
    tmp_path: Path, detector_config: Path, state: State
) -> None:
    text = files.mmdetection_config(
        style="caffe", pixels=files.CAFFE_PIXELS, loss=files.GUMBEL, mask_predictor=files.NORMED_MASKS
    )
    path = files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES)
    first, _ = resolved(detector_config, path)
    assert first.detector is not None
    model = mask_rcnn.build_detector("torchvision:resnet50", 3, 0, first.detector, first.transform, True)
    save_model(model, tmp_path / "model.safetensors", first)
    second, said = resolved(detector_config, tmp_path / "model.safetensors")
    assert second.detector is not None
    assert second.detector == first.detector.model_copy(
        update={"conventions": first.detector.conventions.model_copy(update={"channels": "rgb"})}
    ), "its first layer takes red first by now"
    assert second.transform == first.transform
    assert "is of this program:" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the metadata gol_decouple.detector of .* is damaged"),
        ("[" * 100_000, "the metadata gol_decouple.detector of .* is damaged"),
        ('{"detector.conventions.aligned": "perhaps"}', "something of detector.conventions.aligned that cannot be"),
        ('{"detector.conventions.framework": ["x"]}', "something of detector.conventions.framework that cannot be"),
        ('{"stage1.lr": 1}', "something of 'stage1.lr', which is no setting of detectors"),
    ],
)
def test_metadata_that_is_not_ours_is_refused(tmp_path: Path, detector_config: Path, text: str, message: str) -> None:
    save_file({"backbone.body.conv1.weight": torch.zeros(1)}, tmp_path / "a.safetensors", {METADATA: text})
    with pytest.raises(InputError, match=message):
        resolved(detector_config, tmp_path / "a.safetensors")


def test_another_detectors_config_is_refused(tmp_path: Path, detector_config: Path, state: State) -> None:
    text = files.mmdetection_config().replace("scales=[8]", "scales=[4]")
    path = files.write_mmdetection(tmp_path / "a.pth", state, text, NAMES)
    with pytest.raises(InputError, match=r"a.pth is of another detector: its config says .*scales = \[4\]") as error:
        resolved(detector_config, path)
    assert "docs/exported-rois.md" in (error.value.hint or "")


def test_torchvisions_file_says_nothing(tmp_path: Path, detector_config: Path) -> None:
    config = load_config(str(detector_config), ["backbone.name=torchvision:resnet50"])
    assert config.detector is not None
    model = mask_rcnn.build_detector("torchvision:resnet50", 3, 0, config.detector, config.transform, True)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    found, said = resolved(detector_config, tmp_path / "a.pth")
    assert found.detector is not None
    assert found.detector.conventions.framework == "torchvision"
    assert found.detector.conventions.aligned is False
    assert detector_settings(found)["detector.activation"] == "softmax"
    assert "the file says" not in said
    framework = "detector.conventions.framework=detectron2"
    converted, said = resolved(detector_config, tmp_path / "a.pth", framework)
    assert converted.detector is not None
    assert (converted.detector.conventions.channels, converted.detector.conventions.aligned) == ("bgr", True)
    assert "usual of detectron2" in said
