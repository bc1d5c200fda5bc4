"""Folders: runs with all that lies in them, the classifiers of stage two, and folders of runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from gol_decouple import runs
from gol_decouple.doctor.features import features_file, lost_logs, unfinished_file
from gol_decouple.doctor.files import MEMBERS, examine_file, is_unfinished, lacking, next_command
from gol_decouple.doctor.findings import Finding, State
from gol_decouple.errors import InputError
from gol_decouple.features.shards import find_shards
from gol_decouple.files import temporaries, writer_of
from gol_decouple.progress import Progress
from gol_decouple.stages.states import STATE

_OF_CLASSIFIERS = (runs.STAGE2, runs.CANDIDATES)


def examine(paths: list[Path], progress: Progress) -> Iterator[Finding]:
    """All that is at `paths`: features files, checkpoints, runs, classifiers, and folders of these.

    Nothing is written, and nothing in a file is executed.

    Raises:
        InputError: there is nothing at a path, or nothing to examine in a folder.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"{path} does not exist", runs.runs_in(path.parent))
    for path in paths:
        if not path.is_dir() or path.name in (*MEMBERS, runs.FEATURES):  # one in the place of a file is damage
            yield examine_file(path, progress)
            continue
        number = 0
        for number, found in enumerate(examine_folder(path, progress), 1):  # noqa: B007
            yield found
        if not number:
            raise InputError(f"there is nothing to examine in {path}", runs.runs_in(path))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, finished or not, or has what stage two made of features from elsewhere."""
    if os.path.lexists(folder / runs.CONFIG) or _has_stage_one(folder):
        return True
    return any((folder / section).is_dir() for section in _OF_CLASSIFIERS)


def _has_stage_one(folder: Path) -> bool:
    return os.path.lexists(folder / runs.MANIFEST) and os.path.lexists(folder / runs.FEATURES)


def is_classifier(folder: Path) -> bool:
    """Whether a folder is one of those that stage two makes."""
    return folder.absolute().parent.name in _OF_CLASSIFIERS


def examine_folder(folder: Path, progress: Progress) -> Iterator[Finding]:
    """A run, a classifier, or all runs and features files at or below a folder."""
    if is_classifier(folder):
        yield from _classifier(folder)
    elif is_run(folder):
        yield from _run(folder, progress)
    else:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                yield from examine_folder(entry, progress)
            elif entry.suffix == ".h5" or is_unfinished(entry):
                yield examine_file(entry, progress)
        yield from _left_behind(folder)


def _run(folder: Path, progress: Progress) -> Iterator[Finding]:
    if os.path.lexists(folder / runs.CONFIG):
        yield from _how_far(folder)
    elif _has_stage_one(folder):
        told = f"{folder} has no {runs.CONFIG} any more"
        yield Finding(folder, "run", State.damaged, told, "put a copy of it back: it has the settings of the run")
    for name in MEMBERS:
        path = folder / name
        if os.path.lexists(path):
            yield examine_file(path, progress)
    if os.path.lexists(folder / runs.FEATURES):
        yield features_file(folder / runs.FEATURES, progress)
    partial = folder / f"{runs.FEATURES}.partial"
    for path in [*([partial] if partial.exists() else []), *find_shards(folder / runs.FEATURES)]:
        yield unfinished_file(path, next_command(folder))
    yield from lost_logs(folder)
    yield from _left_behind(folder)
    for section in _OF_CLASSIFIERS:
        for entry in sorted((folder / section).glob("*")):
            if entry.is_dir():
                yield from _classifier(entry)


def _how_far(folder: Path) -> Iterator[Finding]:
    """Whether stage one of a run is finished, as stage two sees it."""
    if not (folder / runs.CONFIG).is_file():
        return  # what is in its place is told as damage
    if runs.is_finished(folder) and (folder / runs.FEATURES).is_file():
        yield Finding(folder, "run", State.in_order, "stage one is finished")
    elif not os.path.lexists(folder / runs.MANIFEST) or not os.path.lexists(folder / runs.FEATURES):
        error = runs.not_finished(folder)
        yield Finding(folder, "run", State.unfinished, error.message, error.hint)


def _classifier(folder: Path) -> Iterator[Finding]:
    """One finding of a classifier that is in order; else one of each of its files that is not."""
    found = [examine_file(folder / name, Progress()) for name in MEMBERS if os.path.lexists(folder / name)]
    wrong = [one for one in found if one.state is not State.in_order]
    if runs.is_finished(folder) and not wrong:
        wrong = lacking(folder)
    yield from wrong
    yield from _left_behind(folder)
    again = "repeat the command that was making it: it continues"
    state = next((one.told for one in found if one.path.name == STATE and one.state is State.in_order), None)
    if not os.path.lexists(folder / runs.MANIFEST):
        told = f"the training of {folder} was stopped {state or 'before its first state was saved'}"
        yield Finding(folder, "classifier", State.unfinished, told, again)
    elif state is not None:
        told = f"{folder} is finished, and was being trained anew (--overwrite) when that was stopped {state}"
        yield Finding(folder, "classifier", State.unfinished, told, again)
    elif not wrong:
        told = next(one.told for one in found if one.path.name == runs.MANIFEST)
        yield Finding(folder, "classifier", State.in_order, told)


def _left_behind(folder: Path) -> Iterator[Finding]:
    """Temporary files of processes that were killed as they wrote them."""
    for path in temporaries(folder):
        if (writer := writer_of(path)) is not None:
            told = f"{path} is being written by process {writer}"
            yield Finding(path, "temporary file", State.unfinished, told, "wait until it is done")
        else:
            told = f"{path} is of a process that was killed as it wrote it, unless that is on another machine"
            yield Finding(path, "temporary file", State.left_over, told, f"remove it: rm {shlex.quote(str(path))}")
