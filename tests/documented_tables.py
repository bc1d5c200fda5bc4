"""The tables of docs/reproduction.md, each below the command that prints it; run as a program, it prints them anew.

python tests/documented_tables.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

from documented import ROOT, Command, commands_of

PAGE = ROOT / "docs" / "reproduction.md"
# What a printed table is: its heading, its lines, and the notes below it.
_TABLE = re.compile(r"^#### [^\n]+\n\n(?:\|[^\n]*\n)+\n(?:[^#|\n][^\n]*\n)+", re.MULTILINE)


def printing() -> list[Command]:
    """The commands of the page that print tables from files."""
    return [
        one
        for one in commands_of(PAGE)
        if "--from" in one.words or (one.program == "benchmarks" and one.words[1:2] == ("show",))
    ]


def tables(text: str) -> list[str]:
    """The tables in a text, with their notes."""
    return [found[0].strip() for found in _TABLE.finditer(text.rstrip() + "\n")]


def printed_anew(page: str, run: Callable[[Command], str]) -> str:
    """The page with the tables that its commands print, in place of those below each of them."""
    lines = page.splitlines(keepends=True)
    return "".join(_printed_anew(lines, run))


def _printed_anew(lines: list[str], run: Callable[[Command], str]) -> Iterator[str]:
    done = 0
    for command in printing():
        below = next(
            number for number in range(int(command.where.partition(":")[2]), len(lines)) if lines[number] == "```\n"
        )
        yield from lines[done : below + 1]
        rest = "".join(lines[below + 1 :])
        end = 0
        while found := _TABLE.match(rest, re.compile(r"\n*").match(rest, end).end()):
            end = found.end()
        yield "".join(f"\n{table}\n" for table in tables(run(command)))
        done = below + 1 + rest[:end].count("\n")
    yield from lines[done:]


def _run(command: Command) -> str:
    module = {"gol-decouple": "gol_decouple", "benchmarks": "benchmarks"}[command.program]
    words = [sys.executable, "-m", module, *command.words]
    return subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    PAGE.write_text(printed_anew(PAGE.read_text(encoding="utf-8"), _run), encoding="utf-8")
