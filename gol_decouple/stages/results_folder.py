"""The folder that results of stage two go to: for one process at a time, and one features file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gol_decouple import runs
from gol_decouple.errors import InputError, few
from gol_decouple.stages.saved import Work

_WAIT = "wait until it is done, and repeat the command: what is finished is kept"


@contextmanager
def results_of(work: Work) -> Iterator[None]:
    """Keeps other processes from the folder that results on `work`'s features go to.

    Raises:
        EnvironmentFailure: another process works on it.
        InputError: it has become a run, or has results of another features file.
    """
    target, features = work.target, work.features
    with runs.working_on(target.folder, _WAIT if target.config else f"{_WAIT}; or choose another --runs-dir"):
        if target.config is None and (target.folder / runs.CONFIG).is_file():
            raise runs.own_run(target.features, target.folder)
        if others := _of_others(target.folder, features.fingerprint):
            told = f"{target.folder} has results of other features than those in {features.path}: {few(others)}"
            if target.config is not None or not features.checked:
                # Features that a run extracts anew may differ in rounding, those without checksums in the file's time.
                work.progress.warn(f"{told}; rows of both are in its report")
            else:
                hint = "choose another --runs-dir, or rename the file; or remove"
                raise InputError(told, f"{hint} {target.folder / runs.STAGE2} if its results are of no use any more")
        yield


@contextmanager
def means_of(folder: Path) -> Iterator[None]:
    """Keeps other processes from the folder of a cascade's means.

    Raises:
        EnvironmentFailure: another process works on it.
    """
    with runs.working_on(folder, f"{_WAIT}; or choose another --name"):
        yield


def _of_others(folder: Path, fingerprint: str) -> list[str]:
    """Names of classifiers that were trained on other features."""
    found = []
    for classifier in sorted((folder / runs.STAGE2).glob("*")):
        if not runs.is_finished(classifier):
            continue
        try:
            features = runs.read_manifest(classifier).get("features")
        except InputError:
            continue  # it is told where that classifier is needed
        if isinstance(features, dict) and features.get("fingerprint") != fingerprint:
            found.append(classifier.name)
    return found
