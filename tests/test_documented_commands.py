"""Every command of README, documents and configs is one that the program takes: options, config, settings, methods."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from documented import CONFIGS, LOOKS_LIKE, PAGES, ROOT, Command, all_commands, commands_of, spans

from benchmarks.__main__ import app as benchmarks
from gol_decouple import methods
from gol_decouple.cli.app import app, overrides
from gol_decouple.cli.train import _activation
from gol_decouple.config import config_names, load_config, override_section
from gol_decouple.errors import InputError
from gol_decouple.reproduction.plan import Wanted, columns_of
from gol_decouple.reproduction.running import config_of
from gol_decouple.settings import Stage2Config

# In backticks and no command: an attribute's value that begins as one does.
NOT_COMMANDS = {"gol-decouple features"}
COMMANDS = all_commands()
IN_SENTENCES = [one for path in PAGES for one in spans(path) if one.text not in NOT_COMMANDS]
UsageError = typer.BadParameter.__base__
assert UsageError is not None


def check(command: Command) -> None:
    """Raise for a command that would be refused before it has looked at any data."""
    if command.launcher[:1] == ("torchrun",):
        from torch.distributed.run import get_args_parser

        get_args_parser().parse_args([*command.launcher[1:], "gol_decouple", *command.words])
    if command.program == "make":
        assert re.search(rf"^{command.words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), "no such target"
        return
    group = typer.main.get_command(benchmarks if command.program == "benchmarks" else app)
    words = list(command.words)
    while hasattr(group, "commands"):
        name = words.pop(0)
        assert name in group.commands, f"no command {name}"
        group = group.commands[name]
    given = group.make_context(command.words[0], words).params
    if command.program == "gol-decouple":
        check_settings(given)


def check_settings(given: dict) -> None:
    set_, data_root, config = given.get("set_"), given.get("data_root"), given.get("config")
    if given.get("table"):
        columns = columns_of(given["table"], given["dataset"], given["only"] or ())
        wanted = Wanted("x", columns, changes=overrides(set_, data_root))
        for column in columns:
            config_of(wanted, column, 0)
    elif config is not None and Path(config).suffix != ".json":
        load_config(config, overrides(set_, data_root))
    elif set_:
        override_section(Stage2Config(), set_, "stage2")
    of = given.get("method") or []
    methods.select([name for name in ([of] if isinstance(of, str) else of) if name != "stage_one"], background=None)
    for name in given.get("activation") or []:
        _activation(name)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: f"{one.where} {one.text}"[:100])
def test_the_program_takes_it(command: Command) -> None:
    check(command)


@pytest.mark.parametrize("command", IN_SENTENCES, ids=lambda one: f"{one.where} {one.text}"[:100])
def test_the_program_takes_what_is_in_a_sentence(command: Command) -> None:
    if len(command.words) == 1:  # a command that is named
        assert command.words[0] in typer.main.get_command(app).commands
    elif command.words[1:] != ("[RUN]...",):
        check(command)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_begins_with_its_commands(path: Path) -> None:
    found = commands_of(path)
    named = [word for one in found for word in one.words]
    assert path.stem in named or "demo" in named
    assert any(one.words[0] == "stage2" for one in found)


def test_every_command_and_every_config_is_shown() -> None:
    shown = {one.words[0] for one in (*COMMANDS, *IN_SENTENCES) if one.program == "gol-decouple"}
    assert shown >= set(typer.main.get_command(app).commands)
    assert {word for one in COMMANDS for word in one.words} >= set(config_names())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_command_hides_in_a_block_of_another_language(path: Path) -> None:
    for kind, block in re.findall(
        r"^ *```(\w*)\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        if kind not in ("", "sh", "bash", "console", "python"):
            assert not any(LOOKS_LIKE.search(line) for line in block.splitlines()), kind
    assert "~~~" not in path.read_text(encoding="utf-8")


WRONG = {
    "stage1 cifar100_lt --set stage1.epoch=1": "did you mean",
    "stage1 cifar100": "unknown config",
    "stage1 cifar100_lt --set stage1.epochs=many": "integer",
    "stage1 cifar100_lt --sets x=1": "No such option",
    "stage2 runs/x --method gumbl": "unknown method",
    "stage2 runs/x --activation crt": "unknown activation",
    "stage2 runs/x --activation gumbel --set stage2.rate=1": "rate",
    "stage2 --activation gumbel": "run",
    "report --format pdf": "pdf",
    "reports": "no command",
    "reproduce table4 --dataset cifar10_lt": "unknown dataset",
    "reproduce table4 --dataset cifar100_lt --only if10": "unknown column",
    "reproduce table4 --dataset cifar100_lt --set stage2.lr=0.1": "settings of stage two",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((InputError, AssertionError, UsageError)) as raised:
        check(Command("", "gol-decouple", tuple(shlex.split(line))))
    told = raised.value
    assert WRONG[line] in f"{getattr(told, 'message', told)} {getattr(told, 'hint', '')} {told}"


def test_what_a_block_can_hold_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("documented.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        '`gol-decouple doctor\nruns/mine` and\n\n```\n$ make demo   # first\nWHERE="--data-root a"\n'
        "gol-decouple stage1 digits_lt $WHERE \\\n    --name x && gol-decouple report > out.txt\n"
        "  gol-decouple methods    (prints them)\n```\n\n    python -m gol_decouple demo\n\n"
        "```python\ngol-decouple no\n```\n"
    )
    found = commands_of(page)
    assert [(one.where, one.text, one.output) for one in found] == [
        ("page.md:5", "make demo", None),
        ("page.md:7", "gol-decouple stage1 digits_lt --data-root a --name x", None),
        ("page.md:7", "gol-decouple report", "out.txt"),
        ("page.md:9", "gol-decouple methods", None),
        ("page.md:12", "python -m gol-decouple demo", None),
    ]
    assert [(one.where, one.words) for one in spans(page)] == [("page.md:1", ("doctor", "runs/mine"))]
