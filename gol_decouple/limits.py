"""Limits on what files from elsewhere may ask of the machine.

Each can be raised by a variable of the environment, which worker processes have too; errors name the variable and the
value that would do.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from gol_decouple.errors import InputError, unknown

PREFIX = "GOL_DECOUPLE_MAX_"
_WHOLE = re.compile(r"[1-9][0-9]{0,17}")


class Limit(NamedTuple):
    """A limit: `name`, behind `PREFIX` that of its variable; its `default`; and what it is `of`."""

    name: str
    default: int
    of: str

    @property
    def variable(self) -> str:
        return f"{PREFIX}{self.name}"

    def value(self) -> int:
        """What holds now.

        Raises:
            InputError: the variable is no whole number above 0.
        """
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not _WHOLE.fullmatch(text):
            raise InputError(
                f"{self.variable} = {text[:50]!r} is no limit: a whole number from 1, of 18 digits at most",
                f"unset it, or set it to {self.default}, as without it",
            )
        return int(text)

    def way_out(self, needed: int) -> str:
        """The hint for what needs more."""
        return f"if you trust it: {self.variable}={needed} allows it"

    def check(self, needed: int, what: str) -> None:
        """Refuse what needs more.

        Args:
            what: needs it: "cat.png has 2,500,000,000 pixels".

        Raises:
            InputError: it is more than the limit.
        """
        if needed > (most := self.value()):
            raise InputError(f"{what}, more than {most:,}", self.way_out(needed))


PIXELS = Limit("PIXELS", 178_956_970, "pixels of an image")
UNPACKED_BYTES = Limit("UNPACKED_BYTES", 2**31, "bytes that what is compressed in a file unpacks to")
# Deflate cannot expand more than this; a dataset that claims to is a decompression bomb.
HDF5_EXPANSION = Limit("HDF5_EXPANSION", 1100, "bytes of a compressed dataset for each that is stored")
CLASSES = Limit("CLASSES", 2**20, "classes that only the largest label tells of")
TEXT_BYTES = Limit("TEXT_BYTES", 2**31, "bytes of a list of images, class names, or files to skip")
JSON_BYTES = Limit("JSON_BYTES", 2**33, "bytes of a file of annotations or results")
SETTINGS_BYTES = Limit("SETTINGS_BYTES", 2**26, "bytes of a config, or of a JSON file in a run folder")
DEPTH = Limit("DEPTH", 64, "levels of objects in objects, in configs and in JSON files of a run folder")
OBJECTS = Limit("OBJECTS", 2_000_000, "parts of a checkpoint: tensors, numbers, texts and what holds them")
LIMITS = (PIXELS, UNPACKED_BYTES, HDF5_EXPANSION, CLASSES, TEXT_BYTES, JSON_BYTES, SETTINGS_BYTES, DEPTH, OBJECTS)


def check_environment() -> None:
    """Refuse variables that are no limits before anything is read.

    Raises:
        InputError: a variable with the prefix that is none of them, or whose value is no whole number.
    """
    known = [limit.variable for limit in LIMITS]
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            raise unknown("limit", variable, known)
    for limit in LIMITS:
        limit.value()
