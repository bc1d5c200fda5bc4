"""The road on real images, and with a real model of another program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import RunCli

from gol_decouple import features


@pytest.mark.slow
def test_cifar100_lt_from_images_to_the_papers_column(tmp_path: Path, real_data: Path, run_cli: RunCli) -> None:
    images = real_data / "cifar100_lt" / "cifar100_if50.npz"
    arguments = ["--data-root", images, "--name", "lt", "--runs-dir", tmp_path]
    arguments += ["--set", "data.kind=npz", "--set", "data.imbalance_factor=200", "--set", "stage1.epochs=1"]
    assert run_cli("stage1", "cifar100_lt", *arguments).code == 0
    assert run_cli("stage2", tmp_path / "lt", "--method", "gumbel_paper", "--set", "stage2.epochs=1").code == 0
    rows = json.loads(run_cli("report", tmp_path, "--format", "json").out)
    assert [(row["num_many"], row["num_medium"], row["num_few"]) for row in rows] == [(30, 31, 39)] * 2
    assert [row["paper_top1"] for row in rows] == [38.3, 41.5]
    # Chance is 1 % of 10,000 images, with a deviation of 0.1.
    assert rows[0]["top1"] > 1.0 + 5 * 0.1, "better than chance"


@pytest.fixture
def photographs(tmp_path: Path, real_data: Path) -> Path:
    """Five classes of Tiny-ImageNet-LT as folders, grey photographs among them: train and test, no val."""
    source = real_data / "tiny_imagenet_lt"
    for split in ("train", "test"):
        for line in (source / f"TinyImageNet_LT_{split}.txt").read_text().splitlines():
            name, label = line.rsplit(" ", 1)
            if int(label) % 40 == 0:
                folder = tmp_path / "photographs" / split / f"class_{label}"
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, folder)
    return tmp_path / "photographs"


def test_photographs_in_folders_through_a_foreign_model(
    tmp_path: Path, real_data: Path, photographs: Path, run_cli: RunCli
) -> None:
    weights = real_data / "weights" / "akamaster_cifar10_resnet32-d509ac18.th"
    settings = ["--set", "transform.size=32", "--set", "features.views=2", "--set", "stage1.num_workers=1"]
    arguments = ["--data-root", photographs, "--checkpoint", weights, "--runs-dir", tmp_path / "runs", *settings]
    outcome = run_cli("stage1", "folder", *arguments)
    assert outcome.code == 0, outcome.err
    assert "module.linear.weight is [10, 64], not [5, 64]: left out" in outcome.err
    assert "there is no val split" in outcome.err
    run = tmp_path / "runs" / "folder"
    file = features.open(run / "features.h5")
    images = {split: len(list((photographs / split).rglob("*.JPEG"))) for split in ("train", "test")}
    assert len(file["train"]) + len(file["val"]) == images["train"]
    assert file["train"].features.shape == (2, len(file["train"]), 64)
    assert file["test"].features.shape == (1, images["test"], 64)
    assert run_cli("stage2", run, "--method", "crt", "--set", "stage2.views=random").code == 0
    rows = json.loads(run_cli("report", run, "--format", "json").out)
    assert [(row["method"], row["views"], row["top1"] is None) for row in rows] == [
        ("softmax", 1, True),
        ("crt", 2, False),
    ]
    assert rows[1]["top1"] > 25, "better than chance, 20 %"
