"""The rows of a study, yours or a colleague's: from a report's JSON, of any version, or from runs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.files import read_json_tree
from gol_decouple.progress import Progress
from gol_decouple.report import copies, rows, stale, steady
from gol_decouple.report.kinds import check_kinds
from gol_decouple.report.rows import FIELDS, Row

# What reports of older versions do not say, and was so then; what else is missing is None.
_FORMERLY = {"views": 1, "trained_on": "train", "changed_settings": {}, "features": ""}
_HINT = "gol-decouple report RUN --format json -o FILE writes one; a run or a folder of runs does too"


def read_study(path: Path, runs_dir: Path, progress: Progress) -> list[Row]:
    """The rows of a report's JSON file, or of the runs at or below a path.

    Keys that this version does not know are left out.

    Raises:
        InputError: no report, a damaged one, one without rows, or no finished run.
    """
    if _is_report(path):
        return _from_report(path)

    def read() -> list[Row]:
        found = stale.without_stale(rows.collect_rows([path], runs_dir), [path], runs_dir, progress)
        return copies.without_copies(found, progress)

    return steady.steadily(lambda: rows.finished_folders([path], runs_dir), read)


def _is_report(path: Path) -> bool:
    """A file that is none of features."""
    try:
        return path.is_file() and not runs.is_hdf5(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _from_report(path: Path) -> list[Row]:
    tree = read_json_tree(path, _HINT)
    if not isinstance(tree, list):
        raise InputError(f"{path} is not a report: it does not hold a list of rows", _HINT)
    if not tree:
        raise InputError(f"{path} is a report without rows", _HINT)
    return [_row(path, place, told) for place, told in enumerate(tree, start=1)]


def _row(path: Path, place: int, told: Any) -> Row:
    if not isinstance(told, dict):
        raise InputError(f"{path} is not a report: row {place} is {told!r:.50}, expected an object", _HINT)
    row = {name: told.get(name, _FORMERLY.get(name)) for name in FIELDS}
    try:
        check_kinds(row)
    except TypeError as error:
        raise InputError(f"{path} is not a report: of row {place}, {error}", _HINT) from None
    return row
