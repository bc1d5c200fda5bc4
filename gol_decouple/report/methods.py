"""The methods of stage two, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from gol_decouple.methods import Method
from gol_decouple.runs import setting_text


def to_text(methods: Sequence[Method], width: int = 80) -> str:
    """A paragraph for each: its name and paper, its parts, and the settings that `--set stage2.KEY=VALUE` changes."""
    return "\n\n".join(_paragraph(method, width) for method in methods)


def _paragraph(method: Method, width: int) -> str:
    parts = [f"{method.activation} activation", f"{method.loss} loss", f"{method.sampler} sampler"]
    parts += [f"{method.classifier} classifier", *["needs background samples"] * method.background]
    settings = [
        f"{name}={'unset' if value is None else setting_text(value)}" for name, value in method.settings.items()
    ]
    lines = (method.paper, ", ".join(parts), " ".join(settings))
    wrapped = (textwrap.fill(line, width, initial_indent="    ", subsequent_indent="    ") for line in lines)
    return "\n".join([method.name, *wrapped])
