"""Settings that only images of one label have, or only images with boxes, are refused with the other kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunCli

from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import load_config, to_toml
from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.errors import InputError


def test_a_detectors_normalisation_is_its_weights(detector_config: Path) -> None:
    transform = resolve(load_config(str(detector_config))).transform
    assert transform.mean == (0.485, 0.456, 0.406)
    assert transform.std == (0.229, 0.224, 0.225)
    own = resolve(load_config(str(detector_config), ["transform.mean=[0.5, 0.5, 0.5]"])).transform
    assert own.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stage1.mixup=0.2", "stage1.mixup is for images of one label, and data.kind = 'lvis' has boxes"),
        ("stage1.label_smoothing=0.1", "stage1.label_smoothing is for images of one label"),
        ("stage1.sampler=class_balanced", "stage1.sampler = 'class_balanced' needs images of one label"),
        ("transform.size=64", "transform.size is for images of one label"),
        ("transform.auto_augment=imagenet", "transform.auto_augment is for images of one label"),
        ("features.views=2", "features.views is for images of one label"),
        ("data.imbalance_factor=10", "data.imbalance_factor is not for annotations in LVIS's format"),
        ("data.lists.train=a.txt", "data.lists is not for annotations in LVIS's format"),
        ("data.skip=bad.txt", "data.skip is not for annotations in LVIS's format"),
    ],
)
def test_what_a_detector_would_leave_aside_is_refused(detector_config: Path, setting: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve(load_config(str(detector_config), [setting]))
    assert error.value.message.startswith(message)
    assert error.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["detector.nms=0.3"], "there is a section [detector], but data.kind = 'npz' has no boxes"),
        (["stage1.sampler=repeat_factor"], "stage1.sampler = 'repeat_factor' is for images with boxes, but"),
        (["data.limit=5"], "data.limit is set, but data.kind = 'npz' has no annotations"),
        (["data.annotations.train=a.json"], "data.annotations is set, but data.kind = 'npz' has no annotations"),
    ],
)
def test_what_only_a_detector_has_is_refused_elsewhere(
    tmp_path: Path, small_config: Path, run_cli: RunCli, settings: list[str], message: str
) -> None:
    changes = [part for setting in settings for part in ("--set", setting)]
    outcome = run_cli("stage1", small_config, "--runs-dir", tmp_path / "runs", *changes)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {message}" in outcome.err
    assert "hint: --set " in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_detector_has_settings_of_its_own_without_a_section(tmp_path: Path) -> None:
    text = '[data]\nkind = "lvis"\n[backbone]\nname = "torchvision:resnet50"\n[stage1]\nepochs = 1\n'
    (tmp_path / "plain.toml").write_text(text)
    config = load_config(str(tmp_path / "plain.toml"))
    assert config.detector == DetectorConfig()
    changed = load_config(str(tmp_path / "plain.toml"), ["detector.mask_predictor=normalized", "detector.nms=0.3"])
    assert changed.detector == DetectorConfig(mask_predictor="normalized", nms=0.3)
    (tmp_path / "again.toml").write_text(to_toml(changed))
    assert load_config(str(tmp_path / "again.toml")) == changed
    with pytest.raises(InputError, match=r"unknown key 'detector.nmss'") as error:
        load_config(str(tmp_path / "plain.toml"), ["detector.nmss=0.3"])
    assert error.value.hint == "did you mean 'nms'?" or "nms" in (error.value.hint or "")
