"""The tables of docs/reproduction.md are those that the result files in results/ print."""

from __future__ import annotations

import re

import pytest
from conftest import RunCli
from documented import ROOT, Command
from documented_tables import PAGE, printed_anew, printing, tables
from typer.testing import CliRunner

from benchmarks.__main__ import app as benchmarks


def printed(command: Command, run_cli: RunCli) -> str:
    if command.program == "benchmarks":
        outcome = CliRunner().invoke(benchmarks, list(command.words))
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout
    told = run_cli(*command.words)
    assert told.code == 0, told.err
    return told.out


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_table_of_the_page_is_printed_by_its_commands_and_the_page_has_all_of_them(run_cli: RunCli) -> None:
    page, told = PAGE.read_text(encoding="utf-8"), {}
    assert printed_anew(page, lambda command: told.setdefault(command, printed(command, run_cli))) == page
    wanted = [table for one in told.values() for table in tables(one)]
    assert len(wanted) >= len(told) > 1
    assert tables(page) == wanted
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines == [line for text in told.values() for line in text.splitlines() if line.startswith("|")]


def test_tables_of_other_files_take_the_place_of_those_below_their_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    new = "#### Another\n\n| a |\n| --- |\n| 1 |\n\na note\n"
    changed = printed_anew(page, lambda command: new + "\n" + new)
    assert tables(changed) == [new.strip()] * 2 * len(printing())
    prose = [line for line in page.splitlines() if line.startswith(("## ", "```", "- **"))]
    assert prose == [line for line in changed.splitlines() if line.startswith(("## ", "```", "- **"))]


def test_every_result_file_is_named_on_the_page_or_is_of_a_column_that_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for path in (ROOT / "results" / "reproduction").iterdir():
        column = re.match(r"table4_cifar100_lt_if(\d+)", path.name)
        assert f"imbalance factor {column[1]}, ResNet-32: top-1" in page if column else path.name in page, path.name


def test_result_files_name_no_folder_of_the_machine_that_made_them() -> None:
    for path in (ROOT / "results").rglob("*.json"):
        assert not re.search(r'["=]~?/[a-z]|\.\./', path.read_text(encoding="utf-8")), path.name


def test_the_rows_in_readme_are_those_of_the_page() -> None:
    measured = (ROOT / "README.md").read_text(encoding="utf-8").split("## What was measured")[1].split("\n## ")[0]
    rows = [line for line in measured.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert set(rows) <= set(PAGE.read_text(encoding="utf-8").splitlines())
