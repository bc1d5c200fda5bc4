"""The road on real CIFAR100-LT images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCli


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
    assert rows[0]["top1"] > 2.0, "better than chance, 1 %"
