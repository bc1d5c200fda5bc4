"""The commands that README, the documents and the configs show, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))

# What a reader fills in, and what the tests fill in.
PLACEHOLDERS = {"CONFIG": "digits_lt", "...": "imagenet_lt_resnet50"}
# Variables that the machine of the reader has.
VARIABLES = {"SCRATCH": "scratch", "SLURM_CPUS_PER_TASK": "8"}
PROGRAMS = {"gol-decouple": "gol-decouple", "gol_decouple": "gol-decouple", "benchmarks": "benchmarks", "make": "make"}
# What a command looks like, however it is written: of these, none may be missed.
LOOKS_LIKE = re.compile(r"(?:(?<![\w/.-])gol-decouple|-m gol_decouple|-m benchmarks|^\s*(?:\$ )?make) +[a-z]")
_FENCED = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^ *\2 *$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`(gol-decouple [^`]+)`(?!`)")


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        where: file and line.
        program: gol-decouple, benchmarks or make.
        words: its arguments.
        launcher: the words before the program, as of torchrun.
        output: where `>` sends what it prints.
    """

    where: str
    program: str
    words: tuple[str, ...]
    launcher: tuple[str, ...] = ()
    output: str | None = None

    @property
    def text(self) -> str:
        return shlex.join([*self.launcher, self.program, *self.words])


def all_commands() -> list[Command]:
    """Those of all pages and configs, in their order."""
    return [one for path in (*PAGES, *CONFIGS) for one in commands_of(path)]


def commands_of(path: Path) -> list[Command]:
    """The commands in the blocks of a page, or in the comments that begin a config."""
    name = str(path.relative_to(ROOT))
    variables = dict(VARIABLES)
    return [one for first, text in blocks(path) for one in _commands(name, first, text, variables)]


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """The blocks that can hold commands, with the number of their first line: fenced, but of Python, and indented."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        comments = "\n".join(re.sub(r"^# ?", "", line) if line.startswith("#") else "" for line in text.splitlines())
        yield from _indented(re.sub(r"^ {2,}(?=\S)", "    ", comments, flags=re.MULTILINE))
        return
    without = text
    for found in _FENCED.finditer(text):
        without = without.replace(found[0], "\n" * found[0].count("\n"))
        if found[3] in ("", "sh", "bash", "console"):
            yield text[: found.start(4)].count("\n") + 1, found[4]
    yield from _indented(without)


def spans(path: Path) -> list[Command]:
    """Whole commands within a sentence: `gol-decouple doctor runs/mine`, but not one that is only named."""
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    prose = _FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)
    return [
        one
        for found in _SPAN.finditer(prose)
        for one in _commands(name, prose[: found.start()].count("\n") + 1, " ".join(found[1].split()), {})
    ]


def _indented(text: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"(?:^(?: {4,}\S[^\n]*)\n?)+", text, re.MULTILINE):
        yield text[: found.start()].count("\n") + 1, found[0]


def _commands(name: str, first: int, text: str, variables: dict[str, str]) -> Iterator[Command]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line, start = lines[number], number
        while line.rstrip().endswith("\\") and number + 1 < len(lines):
            number += 1
            line = line.rstrip()[:-1] + " " + lines[number].strip()
        number += 1
        if assigned := re.fullmatch(r"\s*([A-Z_]+)=(.*)", line):
            variables[assigned[1]] = " ".join(shlex.split(assigned[2]))
        elif LOOKS_LIKE.search(line):
            line = re.sub(r"\s{2,}\(.*\)$", "", line)  # what the demo says beside its advice
            line = re.sub(r"\$([A-Z_]+)", lambda found: variables[found[1]], line)
            for part in re.split(r"\s&&\s", line):
                yield _command(f"{name}:{first + start}", part)


def _command(where: str, line: str) -> Command:
    words = shlex.split(re.sub(r"^\s*\$ ", "", line), comments=True)
    place = next(place for place, word in enumerate(words) if word in PROGRAMS)
    launcher, arguments, output = words[:place], [PLACEHOLDERS.get(word, word) for word in words[place + 1 :]], None
    if ">" in arguments:
        cut = arguments.index(">")
        (output,), arguments = arguments[cut + 1 :], arguments[:cut]
    return Command(where, PROGRAMS[words[place]], tuple(arguments), tuple(launcher), output)
