"""docs/own-data.md, as a user follows it: its commands and its program, on tiny images and without a network."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import RunCli, colour_images
from PIL import Image
from torch import nn

from gol_decouple import features

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
NAMES = ("blue", "green", "red")


@pytest.fixture
def my_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`my_images` in the working folder: three classes of 14, 10 and 6 train images, 4 of test each."""
    monkeypatch.chdir(tmp_path)
    for split, counts in (("train", (14, 10, 6)), ("test", (4, 4, 4))):
        for number, (pixels, label) in enumerate(zip(*colour_images(counts, 0), strict=True)):
            path = tmp_path / "my_images" / split / NAMES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((20 + number % 3, 24)).save(path)
    return tmp_path


def commands(section: str) -> list[list[str]]:
    """The program's commands in a section's blocks, without its name."""
    text = PAGE[PAGE.index(f"## {section}") :]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line) for line in next(block for kind, block in blocks if not kind).splitlines()]
    return [words[1:] for words in lines if words[0] == "gol-decouple"]


def test_from_images_in_three_commands(my_images: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the page says, but for the published weights, which are not at hand, and a small model on small images.
    small = ["--set", "backbone.pretrained=false", "--set", "backbone.name=timm:resnet10t"]
    small += ["--set", "transform.size=32", "--set", "features.views=2"]
    check, stage1, stage2 = commands("From a folder of images")
    assert [command[0] for command in (check, stage1, stage2)] == ["check", "stage1", "stage2"]
    outcome = run_cli(*check, *small)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    outcome = run_cli(*stage1, *small, "--set", "stage1.num_workers=0")
    assert outcome.code == 0, outcome.err
    outcome = run_cli(*stage2, "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    rows = json.loads(run_cli("report", "runs/mine", "--format", "json").out)
    assert [(row["stage"], row["method"], row["top1"] is None) for row in rows] == [
        (1, "softmax", True),
        (2, "gumbel", False),
        (2, "softmax", False),
    ]


def test_the_first_command_looks_at_images_as_the_backbone_takes_them(my_images: Path, run_cli: RunCli) -> None:
    # Without transform.size images of several sizes are refused, but timm's backbones have a size of their own.
    outcome = run_cli("check", "folder_timm", "--data-root", "my_images")
    assert (outcome.code, outcome.out) == (0, "")
    assert "all 42 images of my_images decode" in outcome.err


def test_from_features_in_two_commands(my_images: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert program is not None
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    monkeypatch.setattr(torch.hub, "load", lambda repository, name: network)
    exec(compile(program[1], "embed.py", "exec"), {"__name__": "__main__"})  # the program that the page shows
    file = features.open("my_features.h5")
    assert file.classes.names == list(NAMES)
    assert file.classes.train_counts.tolist() == [14, 10, 6]
    assert file["test"].features.shape == (1, 12, 12)
    (stage2,) = commands("From features made elsewhere")
    outcome = run_cli(*stage2, "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "gumbel" in outcome.out
    assert "dinov2_vits14" in outcome.out
