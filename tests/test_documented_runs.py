"""Every command of README, documents and configs runs, on tiny data under the names that they use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RunCli
from documented import Command, all_commands
from documented_world import CIFARS, World, is_of_detector
from typer.testing import CliRunner

from benchmarks.__main__ import app as benchmarks
from gol_decouple.data import cifar

# What is not run here, and why.
NOT_HERE = {
    r": make ": "runs all tests, or installs; .ci/run runs each target",
    r": gol-decouple demo": "takes half a minute on its own data; .ci/run runs it",
    r": gol-decouple reproduce": "trains a whole table; tests/reproduction has a column of tiny images",
    r": gol-decouple merge": "needs the shards of several processes; tests/test_distributed.py makes and merges them",
    r": (torchrun|srun) ": "needs several processes, which tests/test_distributed.py has; without them it is run below",
    r"benchmarks (?!defaults show)": "measures, or trains a study, for minutes or hours and on a machine by itself",
    r": gol-decouple stage1 .*--checkpoint (mask_rcnn|model_final|my_maskrcnn)": "needs the file of another program; "
    "tests/backbones/test_foreign_road.py makes such files, and goes this way",
    r"--format checkpoint": "needs a run that was loaded from such a file; tests/export/test_export_checkpoint.py and "
    "tests/backbones/test_foreign_export.py have it",
}


SLOW = re.compile(r"--method all|^gol-decouple (rerun|tune)|--what norms|onnx")


def told_of(command: Command) -> str:
    return f"{command.where}: {command.text}"


def reason(command: Command) -> str | None:
    return next((why for pattern, why in NOT_HERE.items() if re.search(pattern, told_of(command))), None)


def form(command: Command) -> tuple[str, ...]:
    """The command and its options."""
    return (command.words[0], *sorted({word for word in command.words if word.startswith("--")}))


def distinct(commands: Iterable[Command]) -> list[Command]:
    first: dict[str, Command] = {}
    for one in commands:
        first.setdefault(one.text, one)
    return list(first.values())


COMMANDS = all_commands()
ALONE = [replace(one, launcher=()) for one in COMMANDS]
RUN = [one for one in ALONE if reason(one) is None]
OF_DETECTORS = distinct(one for one in RUN if is_of_detector(one))
OF_IMAGES = distinct(one for one in RUN if not is_of_detector(one))
# The first of each form runs with every test, the others with the slow ones.
FIRST = list({form(one): one for one in reversed(OF_IMAGES) if not SLOW.search(one.text)}.values())[::-1]
OTHERS = [one for one in OF_IMAGES if one not in FIRST]


def named(command: Command) -> str:
    return f"{command.where} {command.text}"[:120]


@pytest.fixture
def world(
    tmp_path: Path, retrained_run: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar, "_CLASSES", CIFARS)
    return World(tmp_path, retrained_run, lambda: request.getfixturevalue("retrained_detector"))


def follow(command: Command, world: World, run_cli: RunCli) -> None:
    words = world.prepare(command)
    if command.program == "benchmarks":
        told = CliRunner().invoke(benchmarks, words)
        assert (told.exit_code, bool(told.output)) == (0, True), told.output
        return
    outcome = run_cli(*words)
    assert outcome.code == 0, outcome.err
    if command.output is not None:
        assert outcome.out.strip() or command.output == "bad.txt"


@pytest.mark.parametrize("command", FIRST, ids=named)
def test_it_runs(command: Command, world: World, run_cli: RunCli) -> None:
    follow(command, world, run_cli)


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS, ids=named)
def test_the_others_run(command: Command, world: World, run_cli: RunCli) -> None:
    follow(command, world, run_cli)


@pytest.mark.slow
@pytest.mark.parametrize("command", OF_DETECTORS, ids=named)
def test_it_runs_of_a_detector(command: Command, world: World, run_cli: RunCli, narrow_detectors: None) -> None:
    follow(command, world, run_cli)


@pytest.mark.parametrize("pattern", NOT_HERE)
def test_every_reason_is_of_a_command(pattern: str) -> None:
    assert any(re.search(pattern, told_of(one)) for one in COMMANDS)


def test_a_command_that_fails_would_be_found(world: World, run_cli: RunCli) -> None:
    with pytest.raises(AssertionError, match="no classifier|unknown method"):
        follow(
            Command("README.md:1", "gol-decouple", ("export", "runs/mine", "--method", "gumbe", "--out", "x")),
            world,
            run_cli,
        )
