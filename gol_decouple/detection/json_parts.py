"""A long JSON list, a part at a time: results of a whole validation set are several gigabytes of Python objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gol_decouple.errors import InputError
from gol_decouple.limits import JSON_BYTES

PART_CHARACTERS = 2**20  # larger ones are slower: their objects leave the processor's cache
_TAIL = 2**16  # where a part is cut; few detections are longer, and those are read with the next part
_HINT = "results are a JSON list of objects with image_id, category_id, score, and bbox or segmentation"
_START = re.compile(r"\s*\[")
# Where one object of the list ends and the next begins; or the same deeper inside, when the part does not parse.
_BETWEEN = re.compile(r"\}\s*,\s*\{")


def read_parts(path: str | Path) -> Iterator[list[Any]]:
    """The elements of the list in a file, in order.

    Raises:
        InputError: the file is not readable JSON, or not a list.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(PART_CHARACTERS)
            while text.isspace():
                text = file.read(PART_CHARACTERS)
            start = _START.match(text)
            if start is None:
                kind = type(json.loads(text + file.read())).__name__
                raise InputError(f"{path} holds a {kind}, not a list", _HINT)
            text = text[start.end() :]
            least = 0
            while more := file.read(PART_CHARACTERS):
                if len(text) >= least:
                    part, text = _complete(text)
                    # What has no whole element is looked at again when it is twice as long: else the time would grow
                    # with the square of an element's length.
                    least = 0 if part else 2 * len(text)
                    yield part
                text += more
                JSON_BYTES.check(len(text), f"{path} has an element of {len(text):,} characters")
            yield json.loads(f"[{text}")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}", _HINT) from None


def _complete(text: str) -> tuple[list[Any], str]:
    """The elements that are whole in the text, and the rest of it."""
    cuts = list(_BETWEEN.finditer(text, max(0, len(text) - _TAIL)))
    if not cuts:
        return [], text
    try:
        return json.loads(f"[{text[: cuts[-1].start() + 1]}]"), text[cuts[-1].end() - 1 :]
    except (ValueError, RecursionError):
        return [], text
