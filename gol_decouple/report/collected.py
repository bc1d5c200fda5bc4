"""All that a report is of: the rows that were asked for, in their order, with their gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.report import gains, selection, stale
from gol_decouple.report.rows import Row, collect_rows
from gol_decouple.report.selection import Selection


@dataclass(frozen=True)
class Collected:
    """The rows of a report, and what else there is.

    Attributes:
        rows: those that were asked for, with their gains.
        of_runs: all of the same datasets, among them the baselines of the rows.
        left_out: why results are missing that cannot be read.
    """

    rows: list[Row]
    of_runs: list[Row]
    left_out: list[InputError] = field(default_factory=list)


def collect(
    paths: Sequence[Path],
    runs_dir: Path,
    progress: Progress,
    selected: Selection | None = None,
    baseline: str | None = None,
    needs_gains: bool = True,
) -> Collected:
    """The rows of finished runs and classifiers at or below some paths.

    Args:
        baseline: what gains are over.
        needs_gains: whether there has to be a gain over it (see `gains.add_gains`).

    Raises:
        InputError: there are none, none that can be read, or nothing of what is selected.
    """
    selected = selected or Selection()
    left_out: list[InputError] = []
    every = stale.without_stale(collect_rows(paths, runs_dir, left_out.append), paths, runs_dir, progress)
    of_runs = gains.add_gains(selection.of_datasets(every, selected.datasets), baseline, needs_gains)
    rows = selection.in_order(selection.of_methods(of_runs, selected.methods), selected.sort)
    return Collected(rows, of_runs, left_out)
