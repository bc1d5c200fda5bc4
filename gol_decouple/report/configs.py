"""The configs that come with the package, as text: what each is for, from the comment that its file begins with."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from gol_decouple.config import load_config
from gol_decouple.config_files import config_text

# What a sentence on figures begins with.
_FIGURES = ("Paper", "Measured", "No paper", "Not measured", "There are no figures")


class Described(NamedTuple):
    """A config: its data and backbone, what its file says of itself, and the commands that it begins with."""

    name: str
    dataset: str
    imbalance_factor: float | None
    backbone: str
    about: str
    figures: str
    commands: list[str]


def describe(name: str) -> Described:
    """A config, by name.

    Raises:
        InputError: there is none of that name.
    """
    config = load_config(name)
    head = [line[1:].rstrip() for line in takewhile(lambda line: line.startswith("#"), config_text(name).splitlines())]
    commands = [line.strip() for line in head if line.startswith("   ")]
    told = [line.strip() for line in head if not line.startswith("   ")]
    data = config.data
    return Described(
        config.name,
        data.name or data.kind,
        data.imbalance_factor,
        config.backbone.name,
        " ".join(takewhile(bool, told)),
        _figures(" ".join(told)),
        commands,
    )


def _figures(text: str) -> str:
    """What is said of figures, to the end: it comes last."""
    places = [at for start in _FIGURES if (at := text.find(f" {start}")) >= 0]
    return text[min(places) :].strip() if places else ""


def to_text(configs: Sequence[Described], width: int = 80) -> str:
    """A paragraph for each: name, purpose, data and backbone, figures, and the first command."""
    return "\n\n".join(_paragraph(one, width) for one in configs)


def to_lines(configs: Sequence[Described], width: int = 80) -> str:
    """A line for each, cut off at the width."""
    pad = max(len(one.name) for one in configs)
    return "\n".join(f"{one.name:{pad}}  {_recipe(one, width - pad - 2)}" for one in configs)


def _paragraph(one: Described, width: int) -> str:
    lines = (one.about, f"{_data(one)}, {one.backbone}", one.figures)
    wrapped = [textwrap.fill(line, width, initial_indent="    ", subsequent_indent="    ") for line in lines if line]
    return "\n".join([one.name, *wrapped, f"    $ {one.commands[0]}"])


def _data(one: Described) -> str:
    return one.dataset + ("" if one.imbalance_factor is None else f" (imbalance factor {one.imbalance_factor:g})")


def _recipe(one: Described, width: int) -> str:
    return textwrap.shorten(f"{_data(one)}, {one.backbone}", width, placeholder=" ...")
