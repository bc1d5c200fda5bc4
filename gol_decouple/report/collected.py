"""All that a report is of: the rows that were asked for, in their order, with their gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.report import copies, gains, selection, stale
from gol_decouple.report.rows import Row, collect_rows, read_row, run_folder
from gol_decouple.report.selection import Selection


@dataclass(frozen=True)
class Collected:
    """The rows of a report, and what else there is.

    Attributes:
        rows: those that were asked for, with their gains.
        of_runs: all of the same datasets, among them the baselines of the rows; also stage one of a run of which
            paths to retrained classifiers alone were given.
        left_out: why results, their gains or their classes are missing that cannot be read.
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
    every = selection.of_datasets(copies.without_copies(every, progress), selected.datasets)
    beginnings = _stage_one_of(every, left_out)
    of_runs = gains.add_gains([*beginnings, *every], baseline, needs_gains, left_out.append)
    rows = selection.of_methods(of_runs[len(beginnings) :], selected.methods)
    rows = selection.in_order(rows, selected.sort)
    return Collected(rows, of_runs, left_out)


def _stage_one_of(rows: Sequence[Row], left_out: list[InputError]) -> list[Row]:
    """That of the runs of which rows of stage two are here alone."""
    present = {Path(row["path"]).resolve() for row in rows}
    told = {error.message for error in left_out}
    found = []
    for folder in dict.fromkeys(run_folder(Path(row["path"])) for row in rows):
        if folder.resolve() in present or not all((folder / name).is_file() for name in (runs.CONFIG, runs.MANIFEST)):
            continue
        try:
            found.append(read_row(folder))
        except InputError as error:
            if error.message not in told:
                left_out.append(error)
    return found
