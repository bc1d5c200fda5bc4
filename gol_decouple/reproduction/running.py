"""Both stages of every column of a table: what is finished is kept, and what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from gol_decouple.determinism import deterministic
from gol_decouple.errors import InputError, SomeFailed
from gol_decouple.progress import Progress
from gol_decouple.reproduction.plan import METHODS, Column, Wanted, config_of
from gol_decouple.settings import Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.targets import find_target


def reproduce(wanted: Wanted, runs_dir: Path, progress: Progress, elsewhere: Container[str] = ()) -> Iterator[Column]:
    """Train every column's models and classifiers: all columns with one model each, then with the next.

    Args:
        elsewhere: runs whose results are known, which are not trained.

    Yields:
        each column whenever one more of its models has all its classifiers.

    Raises:
        InputError: a config that cannot be used, before anything is trained; or data, a run or a training, of every
            column.
        SomeFailed: the same of some columns, or classifiers that diverged, when all else is done.
        EnvironmentFailure: the disk is full, data or weights cannot be downloaded.
    """
    planned = [
        (column, config_of(wanted, column, seed)) for seed in range(wanted.stage1_seeds) for column in wanted.columns
    ]
    failed: dict[str, InputError] = {}
    is_any_done = False
    for column, config in planned:
        try:
            if config.name not in elsewhere:
                _run(config, wanted, runs_dir, progress)
        except InputError as error:
            failed.setdefault(error.message, error)
            if not isinstance(error, SomeFailed):
                progress.warn(f"{column.title}: {error.message}")
                continue
        is_any_done = True
        yield column
    if failed:
        kind = SomeFailed if is_any_done else InputError
        raise kind("; ".join(failed), next(iter(failed.values())).hint)


def _run(config: Config, wanted: Wanted, runs_dir: Path, progress: Progress) -> None:
    """Both stages of one run."""
    try:
        folder = run_stage1(config, runs_dir, progress=progress)
        with deterministic(config.deterministic):
            target = find_target(folder, runs_dir)
            run_stage2(target, METHODS, range(wanted.seeds), [config.stage2], config.device, progress=progress)
    except InputError as error:
        if "--name" in (error.hint or ""):  # which stage1 has, and this command has not
            error.hint = f"choose another --runs-dir, or remove {runs_dir / config.name}"
        raise
