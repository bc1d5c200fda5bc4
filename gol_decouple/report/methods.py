"""The methods of stage two, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from gol_decouple.methods import Method
from gol_decouple.runs import setting_text


def to_text(methods: Sequence[Method], width: int = 80) -> str:
    """A paragraph for each: its name and paper, its parts, and the settings that `--set stage2.KEY=VALUE` changes."""
    return "\n\n".join(_paragraph(method, width) for method in methods)


def to_lines(methods: Sequence[Method], width: int = 80) -> str:
    """A line for each, cut off at the width: its name, the parts that are not the usual ones, and how it is trained."""
    pad = max(len(method.name) for method in methods)
    parts = (textwrap.shorten(_brief(method), width - pad - 2, placeholder=" ...") for method in methods)
    return "\n".join(f"{method.name:{pad}}  {told}" for method, told in zip(methods, parts, strict=True))


def to_json(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Plain values for each: its name, paper, parts and settings."""
    parts = ("name", "paper", "activation", "loss", "sampler", "classifier", "background")
    return [{**{part: getattr(one, part) for part in parts}, "settings": dict(one.settings)} for one in methods]


def _paragraph(method: Method, width: int) -> str:
    settings = [
        f"{name}={'unset' if value is None else setting_text(value)}" for name, value in method.settings.items()
    ]
    lines = (method.paper, _parts(method), " ".join(settings))
    wrapped = (textwrap.fill(line, width, initial_indent="    ", subsequent_indent="    ") for line in lines)
    return "\n".join([method.name, *wrapped])


def _brief(method: Method) -> str:
    usual = {"loss": "cross_entropy", "sampler": "random", "classifier": "linear"}
    own = [f"{getattr(method, part)} {part}" for part, value in usual.items() if getattr(method, part) != value]
    own += [f"{method.posthoc} of the logits"] if method.posthoc else []
    trained = f"lr {method.lr:g}, {method.epochs} epochs" if method.is_trained else "not trained"
    return ", ".join([method.activation, *own, trained])


def _parts(method: Method) -> str:
    parts = [f"{method.activation} activation", f"{method.loss} loss", f"{method.sampler} sampler"]
    return ", ".join([*parts, f"{method.classifier} classifier", *["needs background samples"] * method.background])
