"""The figures of a report, drawn and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gol_decouple.progress import Progress
from gol_decouple.report.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure.

    Attributes:
        name: of its files, without an ending; in a report no other one is.
        title: what it shows, in a few words.
        caption: how to read it, and how it was computed, in a sentence or two.
        alt: what it shows, with its main numbers, for those who do not see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


def figures(found: Sequence[Row], progress: Progress) -> list[Drawn]:
    """Every figure that the runs have what is needed for."""
    raise NotImplementedError(found, progress)


def write_figures(found: Sequence[Row], folder: Path, progress: Progress) -> list[Path]:
    """Write each as PNG, SVG and PDF; the files."""
    raise NotImplementedError(found, folder, progress)
