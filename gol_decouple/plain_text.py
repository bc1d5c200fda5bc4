"""Texts from files, as they are shown: nothing in a name moves the cursor, colours the terminal or begins a line."""

from __future__ import annotations

import re

MOST_CHARACTERS = 20_000  # of a message; a class name can be as long as its file
# Control characters of 7 and 8 bits but line feed and tab, separators of lines, what turns the direction of writing,
# halves of characters, which cannot be written at all, and what no XML may hold.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text with what is not seen written out (a backslash and x1b), cut off where it is long."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], cut)


def plain_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The same on one line."""
    return plain(text, most).replace("\n", "\\n")
