"""The folder that results of stage two go to: for one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gol_decouple import runs
from gol_decouple.stages.saved import Work
from gol_decouple.targets import own_run

_WAIT = "wait until it is done, and repeat the command: what is finished is kept"


@contextmanager
def results_of(work: Work) -> Iterator[None]:
    """Keeps other processes from the folder that results on `work`'s features go to.

    Raises:
        EnvironmentFailure: another process works on it.
        InputError: it has become a run.
    """
    target = work.target
    with runs.working_on(target.folder, _WAIT if target.config else f"{_WAIT}; or choose another --runs-dir"):
        if target.config is None and (target.folder / runs.CONFIG).is_file():
            raise own_run(target.features, target.folder)
        yield


@contextmanager
def means_of(folder: Path) -> Iterator[None]:
    """Keeps other processes from the folder of a cascade's means.

    Raises:
        EnvironmentFailure: another process works on it.
    """
    with runs.working_on(folder, f"{_WAIT}; or choose another --name"):
        yield
