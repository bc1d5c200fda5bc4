"""Results that are there twice, as in a copy of a run: they are no further seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gol_decouple.errors import few
from gol_decouple.progress import Progress
from gol_decouple.report.rows import Row, by_setting, run_folder

_LISTED = 3


def without_copies(rows: Sequence[Row], progress: Progress) -> list[Row]:
    """The rows without those of another folder that have the run's name, features, setting and seed of one before.

    Args:
        progress: is told which folders they are in.
    """
    copies: dict[tuple[Path, Path], list[Row]] = {}
    for setting in by_setting(rows):
        first: dict[int | None, Path] = {}
        for row in setting:
            folder = run_folder(Path(row["path"]))
            kept = first.setdefault(row["seed"], folder)
            if folder.resolve() != kept.resolve():
                copies.setdefault((kept, folder), []).append(row)
    for (kept, folder), some in copies.items():
        names = few([Path(row["path"]).name for row in some], _LISTED)
        progress.warn(f"left out, since {kept} has the same of the same run, features and seed: {names} in {folder}")
    left_out = {row["path"] for some in copies.values() for row in some}
    return [row for row in rows if row["path"] not in left_out]
