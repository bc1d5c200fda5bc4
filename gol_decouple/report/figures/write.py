"""The figures of a report, drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gol_decouple import runs
from gol_decouple.files import make_folder
from gol_decouple.progress import Progress
from gol_decouple.report.figures.activations import activation_curves
from gol_decouple.report.figures.by_class import by_class
from gol_decouple.report.figures.confusion import confusion
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.files import write_drawn
from gol_decouple.report.figures.objects import distributions, divergences
from gol_decouple.report.figures.reliability import reliability
from gol_decouple.report.figures.studies import Study, studies
from gol_decouple.report.figures.trade_off import trade_off
from gol_decouple.report.figures.training import training
from gol_decouple.report.figures.weight_norms import weight_norms
from gol_decouple.report.rows import Row

__all__ = ["Drawn", "figures", "write_figures"]

# In the order in which they are shown; each gives None where there is nothing to draw, and says what is missing.
_FIGURES: tuple[Callable[[Study, Progress], Drawn | None], ...] = (
    by_class,
    trade_off,
    confusion,
    reliability,
    weight_norms,
    training,
    divergences,
    distributions,
)


def figures(found: Sequence[Row], progress: Progress) -> list[Drawn]:
    """Every figure that the runs have what is needed for; what is missing is told."""
    drawn = [draw(study, progress) for study in studies(found) for draw in _FIGURES]
    return [one for one in (*drawn, activation_curves(found)) if one is not None]


def write_figures(drawn: Sequence[Drawn], folder: Path, progress: Progress) -> list[Path]:
    """Write each as PNG, SVG and PDF, with its numbers as csv; the files.

    Raises:
        InputError: the folder is a run, or there is a file of its name.
    """
    runs.check_output(folder, "--figures")
    make_folder(folder)
    paths = [path for one in drawn for path in write_drawn(one, folder)]
    progress.say(f"{len(paths)} files of figures are in {folder}")
    return paths
