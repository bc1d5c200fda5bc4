"""The user's road through the command line, on real files."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import RunCli


def test_stage1_stage2_and_report(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    runs_dir = tmp_path / "runs"
    first = run_cli("stage1", small_config, "--runs-dir", runs_dir)
    assert first.code == 0, first.err
    run = runs_dir / "colours"
    for name in ("config.toml", "manifest.json", "model.safetensors", "last.pt", "previous.pt", "log.csv"):
        assert (run / name).is_file(), name

    second = run_cli("stage2", run, "--activation", "softmax", "--activation", "gumbel", "--seeds", 2)
    assert second.code == 0, second.err
    assert len(list((run / "stage2").iterdir())) == 4

    report = run_cli("report", runs_dir, "--format", "json")
    rows = json.loads(report.out)
    assert [(row["stage"], row["method"], row["seed"]) for row in rows] == [
        (1, "softmax", 0),
        (2, "gumbel", 0),
        (2, "gumbel", 1),
        (2, "softmax", 0),
        (2, "softmax", 1),
    ]
    assert rows[0]["num_many"] == 0
    assert rows[0]["top1_many"] is None
    assert rows[0]["num_medium"] == 2
    assert rows[0]["num_few"] == 1
