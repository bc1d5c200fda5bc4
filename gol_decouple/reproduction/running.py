"""Both stages of every column of a table: what is finished is kept, and what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gol_decouple.config import load_config
from gol_decouple.determinism import deterministic
from gol_decouple.errors import InputError, SomeFailed
from gol_decouple.progress import Progress
from gol_decouple.reproduction.plan import METHODS, Column, Wanted
from gol_decouple.settings import Config, Stage2Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.targets import find_target

# What the command sets itself, and what is there instead.
_OWN = {"seed": "--stage1-seeds says how many models are trained", "name": "--runs-dir says where its runs lie"}


def config_of(wanted: Wanted, column: Column, seed: int) -> Config:
    """What one run of stage one is.

    Raises:
        InputError: a change that does not fit, or that changes what the table is about.
    """
    for key in (change.partition("=")[0].strip() for change in wanted.changes):
        if key in _OWN:
            raise InputError(f"--set {key} is the table's own", _OWN[key])
    name = wanted.run_name(column, seed)
    config = load_config(column.config, [*column.changes, *wanted.changes], seed=seed, device=wanted.device, name=name)
    plain = load_config(column.config, column.changes, seed=seed, name=name)
    if config.data.imbalance_factor != plain.data.imbalance_factor or config.backbone.name != plain.backbone.name:
        raise InputError("the imbalance factor and the backbone are the column's", "choose columns with --only")
    if _of_results(config) != _of_results(plain) or config.methods != plain.methods:
        hint = f"gol-decouple stage2 {name} --set ... adds other settings to a run of the table"
        raise InputError("settings of stage two and of methods are the table's", hint)
    return config


def _of_results(config: Config) -> Stage2Config:
    """The settings of stage two that results depend on."""
    return config.stage2.model_copy(update={"memory_gb": None, "gradients": False, "tensorboard": False})


def reproduce(wanted: Wanted, runs_dir: Path, progress: Progress) -> Iterator[Column]:
    """Train every column's models and classifiers: all columns with one model each, then with the next.

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
