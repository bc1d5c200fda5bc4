"""Figures as files, and as SVG inside of a page; the same bytes for the same figure."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.figure import Figure

from gol_decouple.files import atomic_path, write_text
from gol_decouple.plain_text import plain_line
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.style import INK, style

_DOTS_PER_INCH = 200
# Without the date and the program, by which files of the same figure would differ.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'((?:xlink:href="|url\()#)([^")]*)')
# What begins and ends an SVG of its own, and is nothing in a page.
_AROUND = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_ROOT = re.compile(r"<svg[^>]*viewBox=(\"[^\"]*\")[^>]*>")


def save(figure: Figure, path: Path, salt: str = "") -> None:
    """Write a PNG, SVG or PDF, by the ending of `path`.

    Args:
        salt: what ids in an SVG are made of, besides what they are of.
    """
    kind = path.suffix[1:]
    with _salted(salt), atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DOTS_PER_INCH, metadata=_METADATA[kind], transparent=kind == "svg")


def to_svg(drawn: Drawn) -> str:
    """A figure as an `svg` element for a page: of any width, with ids that no other figure of a report has.

    It has no background; texts and axes are `currentColor`, the colour of the texts around it.
    """
    buffer = io.StringIO()
    with _salted(drawn.name):
        drawn.figure.savefig(buffer, format="svg", dpi=_DOTS_PER_INCH, metadata=_METADATA["svg"], transparent=True)
    content = _AROUND.sub("", buffer.getvalue())
    used = {found[2] for found in _REFERENCE.finditer(content)}
    content = _ID.sub(lambda found: f' id="{drawn.name}-{found[1]}"' if found[1] in used else "", content)
    content = _REFERENCE.sub(lambda found: f"{found[1]}{drawn.name}-{found[2]}", content)
    own = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'
    lines = 'stroke-linejoin="round" stroke-linecap="butt"'
    root = f'<svg {own} aria-label={quoteattr(plain_line(drawn.alt))} fill="currentColor" {lines}'
    # In elements alone, and before one has `alt`: a name can hold the same letters.
    content = _TAG.sub(lambda found: found[0].replace(INK, "currentColor"), content)
    return _ROOT.sub(lambda found: f"{root} viewBox={found[1]}>", content, count=1).strip()


def write_drawn(drawn: Drawn, folder: Path) -> list[Path]:
    """Write NAME.png, NAME.svg and NAME.pdf, and NAME.csv with the numbers; the files."""
    paths = [folder / f"{drawn.name}.{kind}" for kind in _METADATA]
    for path in paths:
        save(drawn.figure, path, drawn.name)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(drawn.columns)
    table.writerows([_cell(value) for value in row] for row in drawn.rows)
    write_text(folder / f"{drawn.name}.csv", text.getvalue())
    return [*paths, folder / f"{drawn.name}.csv"]


@contextmanager
def _salted(salt: str) -> Iterator[None]:
    with style():
        matplotlib.rcParams["svg.hashsalt"] = salt
        yield


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
