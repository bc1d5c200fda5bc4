"""Backbones of libraries through the command line, from the config to the report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli
from PIL import Image
from safetensors.torch import load_file, save_file

from gol_decouple import features
from gol_decouple.backbones import build_model
from gol_decouple.config import load_config

SMALL = ("--set", "transform.size=32", "--set", "stage1.epochs=1")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def stage1(run_cli: RunCli, config: Path, runs_dir: Path, *arguments: object) -> tuple[int, str]:
    outcome = run_cli("stage1", config, "--runs-dir", runs_dir, *arguments)
    return outcome.code, outcome.err


def test_a_run_keeps_the_backbones_input_and_is_found_again(
    tmp_path: Path, small_config: Path, runs_dir: Path, run_cli: RunCli
) -> None:
    arguments = ("--set", "backbone.name=timm:resnet10t", "--set", "stage1.epochs=0")
    code, err = stage1(run_cli, small_config, runs_dir, *arguments)
    assert code == 0, err
    run = runs_dir / "colours"
    kept = load_config(str(run / "config.toml")).transform
    assert (kept.size, kept.resize, kept.interpolation) == (176, 201, "bicubic")
    assert kept.mean == (0.485, 0.456, 0.406)
    origin = features.open(run / "features.h5").origin
    assert origin["transform"] == kept.model_dump(mode="json", exclude_none=True) | {"image_size": [176, 176]}
    assert origin["backbone"]["name"] == "timm:resnet10t"
    for config, more in ((small_config, arguments), (run / "config.toml", ())):
        code, err = stage1(run_cli, config, runs_dir, "--name", "colours", *more)
        assert (code, "is finished and kept as it is" in err) == (0, True), err
    code, err = stage1(run_cli, small_config, runs_dir, *arguments, "--set", "transform.interpolation=bilinear")
    assert code == 2
    assert "transform.interpolation: bicubic -> bilinear" in err


def test_a_run_of_before_there_were_such_settings_is_kept(
    tmp_path: Path, small_config: Path, runs_dir: Path, run_cli: RunCli
) -> None:
    assert stage1(run_cli, small_config, runs_dir, "--set", "stage1.epochs=0")[0] == 0
    path = runs_dir / "colours" / "config.toml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(("pretrained", "interpolation"))))
    code, err = stage1(run_cli, small_config, runs_dir, "--set", "stage1.epochs=0")
    assert (code, "is finished and kept as it is" in err) == (0, True), err


def test_only_the_trainable_parts_of_a_loaded_model_are_trained(
    tmp_path: Path, small_config: Path, runs_dir: Path, run_cli: RunCli
) -> None:
    source = build_model("torchvision:resnet18", 10, seed=4, size=32)
    state = {f"module.{name}": tensor for name, tensor in source.backbone.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "places.pth")
    settings = ("--set", "backbone.name=torchvision:resnet18", "--set", 'backbone.trainable=["layer4"]')
    code, err = stage1(run_cli, small_config, runs_dir, "--checkpoint", tmp_path / "places.pth", *settings, *SMALL)
    assert code == 0, err
    run = runs_dir / "colours"
    weights = load_file(run / "model.safetensors")
    same = {
        name
        for name, tensor in source.backbone.state_dict().items()
        if torch.equal(tensor, weights[f"backbone.{name}"])
    }
    assert same == {name for name in source.backbone.state_dict() if not name.startswith("layer4.")}
    told = json.loads((run / "checkpoint.json").read_text())
    assert (told["path"], told["format"]) == (str(tmp_path / "places.pth"), "torch")
    assert told["tensors"]["backbone.layer4.1.bn2.bias"] == ["state_dict", "module.layer4.1.bn2.bias"]
    assert told["tensors"].keys() == {f"backbone.{name}" for name in source.backbone.state_dict()}


def test_without_a_checkpoint_none_is_told(finished_run: Path) -> None:
    assert not (finished_run / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (("backbone.name=timm:resnet5",), "unknown backbone 'timm:resnet5'", "timm:resnet50"),
        (("backbone.pretrained=true",), "there are no published weights of resnet32", "--checkpoint"),
        (('backbone.trainable=["layer4"]',), "the backbone has no part 'layer4'", "conv1, bn1, layer1, layer2, layer3"),
        (("backbone.trainable=layer3",), "--set backbone.trainable=layer3", ""),
        (("transform.random_resized_crop=true",), "needs transform.size", "transform.size=64"),
        (
            ("backbone.name=torchvision:vit_b_32", "transform.size=40"),
            "does not take images of 40x40",
            "transform.size",
        ),
        (("backbone.pretrained=true", "stage1.checkpoint=a.pth"), "backbone.pretrained = true, but stage1.ch", "false"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    small_config: Path, runs_dir: Path, run_cli: RunCli, settings: tuple[str, ...], message: str, hint: str
) -> None:
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, err = stage1(run_cli, small_config, runs_dir, *arguments)
    assert code == 2
    assert message in err
    assert hint in err
    assert "Traceback" not in err
    assert not runs_dir.exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder for weights, and no network."""
    import huggingface_hub

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("epochs", [0, 1])
def test_stage_one_starts_from_published_weights(
    hub: Path, small_config: Path, runs_dir: Path, run_cli: RunCli, epochs: int
) -> None:
    import timm

    arguments = ["--set", "backbone.name=timm:resnet10t", "--set", "backbone.pretrained=true"]
    arguments += ["--set", "transform.size=32", "--set", f"stage1.epochs={epochs}", "--set", "stage1.lr=1e-9"]
    code, err = stage1(run_cli, small_config, runs_dir, *arguments)
    place = hub / "resnet10t.c3_in1k.safetensors"
    assert code == 3
    assert f"the weights of timm:resnet10t are not at {place}" in err
    assert f"put it at {place}" in err
    assert not runs_dir.exists()
    published = timm.create_model("resnet10t").state_dict()
    hub.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in published.items()}, place)
    code, err = stage1(run_cli, small_config, runs_dir, *arguments)
    assert code == 0, err
    weights = load_file(runs_dir / "colours" / "model.safetensors")
    torch.testing.assert_close(weights["backbone.conv1.0.weight"], published["conv1.0.weight"])
    assert (features.open(runs_dir / "colours" / "features.h5").classifier is not None) is (epochs > 0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """Three classes of 12, 6 and 3 real photographs for training and 3 each for the test, 64x64."""
    lists = real_data / "tiny_imagenet_lt"
    arrays: dict[str, np.ndarray] = {}
    for split, counts in (("train", (12, 6, 3)), ("test", (3, 3, 3))):
        lines = [line.split() for line in (lists / f"TinyImageNet_LT_{split}.txt").read_text().splitlines()]
        chosen = []
        for label, count in enumerate(counts):
            chosen += [(path, label) for path, other in lines if int(other) == label][:count]
        images = [np.asarray(Image.open(lists / path).convert("RGB")) for path, _ in chosen]
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = np.stack(images), np.array([at for _, at in chosen])
    path = tmp_path_factory.mktemp("photographs") / "photographs.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("name", "epochs"), [("timm:resnet50", 1), ("timm:seresnet50", 1), ("timm:resnet152", 0)])
def test_the_papers_backbones_go_the_whole_road_on_photographs(
    photographs: Path, small_config: Path, runs_dir: Path, run_cli: RunCli, name: str, epochs: int
) -> None:
    settings = [
        f"backbone.name={name}",
        "transform.size=64",
        f"stage1.epochs={epochs}",
        "transform.auto_augment=imagenet",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, err = stage1(run_cli, small_config, runs_dir, "--data-root", photographs, *arguments, "--name", "photos")
    assert code == 0, err
    file = features.open(runs_dir / "photos" / "features.h5")
    assert file["train"].features.shape == (1, 21, 2048)
    assert np.isfinite(file["test"].features[:]).all()
    outcome = run_cli("stage2", runs_dir / "photos", "--activation", "gumbel", "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    rows = json.loads(run_cli("report", runs_dir, "--format", "json").out)
    assert {(row["method"], row["backbone"]) for row in rows} == {("softmax", name), ("gumbel", name)}
    assert all(0 <= row["top1"] <= 100 for row in rows if row["method"] == "gumbel")
    assert os.path.getsize(runs_dir / "photos" / "model.safetensors") > 4 * 23_000_000
