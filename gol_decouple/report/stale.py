"""Results of other features than those that a run has now: left out of reports, and told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gol_decouple import belonging, runs
from gol_decouple.errors import InputError, few
from gol_decouple.progress import Progress
from gol_decouple.report.rows import Row, run_folder
from gol_decouple.targets import find_target

_LISTED = 3


def without_stale(rows: Sequence[Row], paths: Sequence[Path], runs_dir: Path, progress: Progress) -> list[Row]:
    """The rows that are of the features that their run has, or that a folder without a run has results of last.

    Args:
        paths: what the rows are of; of a features file among them, rows are of what it holds now.

    Raises:
        InputError: a features file that is not its run's, or none is left.
    """
    own = _of_files(paths, runs_dir)
    told = cache(_own_features)
    stale: dict[Path, list[Row]] = {}
    for row in rows:
        folder = run_folder(Path(row["path"]))
        if row["features"] != own.get(folder, told(folder)).get("fingerprint", row["features"]):
            stale.setdefault(folder, []).append(row)
    for folder, others in stale.items():
        progress.warn(
            f"left out, since they are of other features than {folder} has now: {_named(folder, others, own)}"
        )
    left_out = {row["path"] for others in stale.values() for row in others}
    kept = [row for row in rows if row["path"] not in left_out]
    if not kept:
        hint = "gol-decouple stage2 trains classifiers on the features as they are now"
        raise InputError(f"no result in {few(list(map(str, stale)))} is of the features that are there now", hint)
    _warn_of_several(kept, told, progress)
    return kept


def _own_features(folder: Path) -> dict[str, Any]:
    """Of a damaged manifest none: that it is damaged others say, and classifiers are not to blame for it."""
    try:
        return belonging.own_features(folder)
    except InputError:
        return {}


def _named(folder: Path, rows: Sequence[Row], own: dict[Path, dict[str, Any]]) -> str:
    """The classifiers of a folder, and what differs of the first."""
    facts = own.get(folder) or belonging.own_features(folder)
    theirs = runs.read_manifest(Path(rows[0]["path"])).get("features", {})
    names = few([Path(row["path"]).name for row in rows], _LISTED)
    return f"{names} ({belonging.told(theirs, facts)})"


def _of_files(paths: Sequence[Path], runs_dir: Path) -> dict[Path, dict[str, Any]]:
    """What the features files among some paths hold now, by the folder of their results."""
    own = {}
    for path in paths:
        if path.is_file():
            from gol_decouple.stages.belonging import facts_of, open_own  # with HDF5, which other reports do without

            target = find_target(path, runs_dir)
            own[target.folder] = facts_of(open_own(target))
    return own


def _warn_of_several(rows: Sequence[Row], told: Any, progress: Progress) -> None:
    """Older results do not tell of which features they are the last."""
    prints: dict[Path, set[str]] = {}
    for row in rows:
        prints.setdefault(run_folder(Path(row["path"])), set()).add(row["features"])
    for folder, found in prints.items():
        if len(found) > 1 and not told(folder):
            progress.warn(f"{folder} has results of {len(found)} features files, which are not comparable")
