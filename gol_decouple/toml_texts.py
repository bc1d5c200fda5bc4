"""TOML from files and from arguments, which anyone may have written: what cannot be read is told before it is tried.

The standard library's reader takes a function call for each list in a list, and for a key of n parts time and memory
for n^2 of them.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from gol_decouple.errors import InputError
from gol_decouple.limits import DEPTH

# Every token is taken whole, closed or not, so that none is looked at again from within.
_TOKENS = re.compile(
    r"""
    (?P<skipped> \#[^\n]* | [\ \t]+ )
    | (?P<long> "{3} (?s:.*?) (?:"{3}|\Z) | '{3} (?s:.*?) (?:'{3}|\Z) )
    | (?P<part> [A-Za-z0-9_-]+ | "(?:[^"\\\n]|\\[^\n])*"? | '[^'\n]*'? )
    | (?P<dot> \. )
    | (?P<opens> [\[{] )
    | (?P<closes> [\]}] )
    | (?P<other> . | \n )
    """,
    re.VERBOSE,
)


def parse_toml(text: str) -> dict[str, Any]:
    """What a text of TOML says.

    Raises:
        InputError: lists or tables in one another, or keys of parts, more than `limits.DEPTH`.
        ValueError: it is no TOML.
    """
    _refuse_depth(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it has lists in lists without an end") from None


def _refuse_depth(text: str) -> None:
    depth = parts = 0
    follows_dot = False
    most = DEPTH.value()
    for found in _TOKENS.finditer(text):
        kind = found.lastgroup
        if kind == "skipped":
            continue
        if kind == "part":
            parts = parts + 1 if follows_dot else 1
        elif kind == "opens":
            depth += 1
        elif kind == "closes":
            depth -= 1
        follows_dot = kind == "dot"
        if parts > most or depth > most:
            what = f"a key of {parts} parts" if parts > most else f"{depth} lists or tables in one another"
            raise InputError(f"it has {what}, more than {most}", DEPTH.way_out(max(parts, depth)))
