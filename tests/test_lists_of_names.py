"""`configs` and `methods`: what there is, for people in full or a line each, and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCli

from gol_decouple.config import config_names, load_config
from gol_decouple.methods import METHODS


@pytest.fixture(autouse=True)
def columns(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_config_is_told_with_its_first_command(run_cli: RunCli) -> None:
    outcome = run_cli("configs")
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= 80
    paragraphs = outcome.out.rstrip().split("\n\n")
    assert [paragraph.splitlines()[0] for paragraph in paragraphs] == config_names()
    for paragraph in paragraphs:
        assert paragraph.splitlines()[-1].startswith("    $ gol-decouple ")
    cifar = " ".join(paragraphs[config_names().index("cifar100_lt")].split())
    assert "CIFAR100-LT with ResNet-32: the first dataset of GOL's Table 4" in cifar
    assert "cifar100 (imbalance factor 100), resnet32" in cifar
    assert "Paper, imbalance factor 50 / 100 / 200: Softmax 46.2 / 42.4 / 38.3" in cifar
    assert cifar.endswith("$ gol-decouple stage1 cifar100_lt")


@pytest.mark.parametrize(("command", "names"), [("configs", config_names()), ("methods", list(METHODS))])
def test_a_line_each(run_cli: RunCli, command: str, names: list[str]) -> None:
    outcome = run_cli(command, "--short")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert max(map(len, lines)) <= 80
    assert all(len(line.split()) > 1 for line in lines)


def test_json_has_everything(run_cli: RunCli) -> None:
    configs = json.loads(run_cli("configs", "--format", "json").out)
    assert [one["name"] for one in configs] == config_names()
    by_name = {one["name"]: one for one in configs}
    assert by_name["digits_lt"]["backbone"] == "resnet32"
    assert by_name["digits_lt"]["imbalance_factor"] == 20
    assert "gol-decouple demo" in by_name["digits_lt"]["commands"]
    assert all(one["commands"] and one["about"] for one in configs)
    methods = json.loads(run_cli("methods", "gumbel*", "--format", "json").out)
    assert {one["name"] for one in methods} == {name for name in METHODS if name.startswith("gumbel")}
    assert {one["name"]: one for one in methods}["gumbel"]["settings"]["lr"] == 1e-5


def test_a_config_is_printed_as_a_file_that_can_be_used(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("configs", "folder")
    own = tmp_path / "folder.toml"
    own.write_text(outcome.out, encoding="utf-8")
    assert load_config(str(own)) == load_config("folder")


@pytest.mark.parametrize("more", [(), ("--short",), ("--format", "json")])
def test_a_config_that_is_not_there(run_cli: RunCli, more: tuple[str, ...]) -> None:
    outcome = run_cli("configs", "cifar10_tl", *more)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: unknown config 'cifar10_tl'\nhint: did you mean 'cifar10_lt'? ")


def test_short_lines_tell_methods_apart(run_cli: RunCli) -> None:
    lines = run_cli("methods", "--short").out.splitlines()
    parts = [line.split(maxsplit=1)[1] for line in lines]
    assert not {part for part in parts if parts.count(part) > 1}
