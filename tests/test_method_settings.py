"""What a config says of single methods: their settings on its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCli

SECTION = "\n[methods.gumbel]\nlr = 0.002\nepochs = 2\n\n[methods.crt]\nbatch_size = 7\n"


@pytest.fixture
def config(tmp_path: Path, small_config: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(small_config.read_text(encoding="utf-8") + SECTION, encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path, config: Path, run_cli: RunCli) -> Path:
    assert run_cli("stage1", config, "--runs-dir", tmp_path, "--set", "stage1.epochs=1").code == 0
    return tmp_path / "own"


def settings(run: Path) -> dict[str, dict[str, object]]:
    found = [json.loads(path.read_text()) for path in run.glob("stage2/*/manifest.json")]
    return {manifest["method"]: manifest["settings"] for manifest in found}


def test_a_method_has_the_configs_settings_and_the_others_their_own(run: Path, run_cli: RunCli) -> None:
    chosen = ["--method", "gumbel", "--method", "sigmoid", "--method", "crt"]
    assert run_cli("stage2", run, *chosen).code == 0
    found = settings(run)
    assert (found["gumbel"]["lr"], found["gumbel"]["epochs"], found["gumbel"]["batch_size"]) == (0.002, 2, 64)
    assert (found["sigmoid"]["lr"], found["sigmoid"]["epochs"]) == (3e-4, 15)
    assert (found["crt"]["lr"], found["crt"]["batch_size"]) == (0.1, 7)


def test_set_comes_on_top(run: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", run, "--activation", "gumbel", "--set", "stage2.lr=0.5").code == 0
    assert settings(run)["gumbel"]["lr"] == 0.5
    assert settings(run)["gumbel"]["epochs"] == 2


def test_the_run_keeps_them(run: Path, run_cli: RunCli) -> None:
    again = run_cli("stage1", run / "config.toml", "--runs-dir", run.parent, "--name", "own")
    assert again.code == 0, again.err
    assert "is finished and kept" in again.err


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[methods.gumble]\nlr = 0.1", "error: unknown method 'gumble'"),
        ("[methods.gumbel]\ntau = 0.1", "tau"),
        ("[methods.gumbel]\nlrr = 0.1", "unknown key 'methods.gumbel.lrr'"),
        ("[methods.gumbel]\nlr = -1", "methods.gumbel.lr = -1"),
        ("[methods]\ngumbel = 1", "methods.gumbel"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    tmp_path: Path, small_config: Path, run_cli: RunCli, section: str, message: str
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f"{small_config.read_text(encoding='utf-8')}\n{section}\n", encoding="utf-8")
    outcome = run_cli("stage1", path, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()
