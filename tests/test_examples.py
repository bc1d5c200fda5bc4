"""The help of every command: a line among all, and examples that can be copied and that the program takes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import RunCli

from gol_decouple import methods
from gol_decouple.cli.examples import COMMANDS, START, text_of
from gol_decouple.cli.program import app
from gol_decouple.config import config_names, load_config, override_section
from gol_decouple.settings import Stage2Config

GROUP: Any = typer.main.get_command(app)
EVERY = sorted(GROUP.commands)
LINES = [(command, what, line) for command, shown in COMMANDS.items() for what, line in shown.examples]
LINES += [(line.split()[1], "start", line.strip()) for line in START.splitlines() if line.startswith("  ")]


def parsed(line: str) -> dict[str, Any]:
    """The arguments that the real parser makes of a command line."""
    program, command, *arguments = shlex.split(line.partition(">")[0])
    assert program == "gol-decouple"
    context = GROUP.commands[command].make_context(command, arguments)
    return dict(context.params)


def test_every_command_has_a_place_a_line_and_two_examples() -> None:
    assert set(COMMANDS) == set(EVERY)
    for name, shown in COMMANDS.items():
        assert len(shown.examples) >= 2, name
        assert len(shown.line) <= 62, f"{name}: {shown.line} takes a second line at 80 columns"
        assert shown.line.endswith((".", "?"))
        assert all(line.startswith(f"gol-decouple {name}") for _, line in shown.examples), name


@pytest.mark.parametrize("command", EVERY)
def test_the_help_ends_with_the_examples_unbroken(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run_cli(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.rstrip().endswith(text_of(command))
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    for _, line in COMMANDS[command].examples:
        assert f"  {line}" in lines, "to copy, on one line"


@pytest.mark.parametrize(("command", "what", "line"), LINES, ids=[line for *_, line in LINES])
def test_the_program_takes_every_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, what: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not what.endswith(".")
    assert what[0].isupper() or what == "start"
    given = parsed(line)
    assert not list(tmp_path.iterdir())
    config = given.get("config")
    if command in ("stage1", "check", "configs") and config is not None and not config.endswith(".json"):
        assert config in config_names()
        load_config(config, given.get("set_") or [])
    elif given.get("set_"):
        override_section(Stage2Config(), given["set_"], "stage2")
    named = given.get("method") or []
    methods.select([named] if isinstance(named, str) else named, background=None)
    for name in given.get("activation") or []:
        assert methods.get(name).activation == name
    if (baseline := given.get("baseline")) is not None:
        methods.get(baseline)


def test_a_mistake_in_an_example_is_found() -> None:
    with pytest.raises(Exception, match="(?i)no such option"):
        parsed("gol-decouple report --formt json")


def test_all_commands_stand_in_panels_a_line_each(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run_cli("--help")
    lines = outcome.out.splitlines()
    places = [next(at for at, line in enumerate(lines) if f" {name} " in line[:14]) for name in COMMANDS]
    assert places == sorted(places), "in the order of a study"
    for name, shown in COMMANDS.items():
        assert any(line.startswith(f"│ {name} ") and shown.line in line for line in lines), name
        assert any(line.startswith(f"╭─ {shown.panel} ─") for line in lines)
    assert "╭─ Commands" not in outcome.out, "a command has no panel"
    assert outcome.out.rstrip().endswith(START)
