"""Both stages of every column of a table: what is finished is kept, and what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gol_decouple.config import load_config
from gol_decouple.determinism import deterministic
from gol_decouple.errors import InputError, SomeFailed
from gol_decouple.progress import Progress
from gol_decouple.reproduction.plan import METHODS, Column, Wanted
from gol_decouple.settings import Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.targets import find_target


def config_of(wanted: Wanted, column: Column, seed: int) -> Config:
    """What one run of stage one is.

    Raises:
        InputError: a change that does not fit, or that changes what the table is about.
    """
    name = wanted.run_name(column, seed)
    config = load_config(column.config, [*column.changes, *wanted.changes], seed=seed, device=wanted.device, name=name)
    plain = load_config(column.config, column.changes, seed=seed, name=name)
    if config.data.imbalance_factor != plain.data.imbalance_factor or config.backbone.name != plain.backbone.name:
        raise InputError("the imbalance factor and the backbone are the column's", "choose columns with --only")
    if config.stage2.changes or config.methods != plain.methods:
        hint = f"gol-decouple stage2 {name} --set ... adds other settings to a run of the table"
        raise InputError("settings of stage two and of methods are the table's", hint)
    return config


def reproduce(wanted: Wanted, runs_dir: Path, progress: Progress) -> Iterator[Column]:
    """Train every column's models and classifiers: all columns with one model each, then with the next.

    Yields:
        each column whenever one more of its models has all its classifiers.

    Raises:
        InputError: a config, data or run that cannot be used; of all columns, before the first is trained.
        SomeFailed: classifiers that diverged, when all else is done.
        EnvironmentFailure: the disk is full, data or weights cannot be downloaded.
    """
    planned = [
        (column, config_of(wanted, column, seed)) for seed in range(wanted.stage1_seeds) for column in wanted.columns
    ]
    failed = []
    for column, config in planned:
        folder = run_stage1(config, runs_dir, progress=progress)
        target = find_target(folder, runs_dir)
        try:
            with deterministic(config.deterministic):
                run_stage2(target, METHODS, range(wanted.seeds), [config.stage2], config.device, progress=progress)
        except SomeFailed as error:
            failed.append(error)
        yield column
    if failed:
        raise SomeFailed("; ".join(error.message for error in failed), failed[0].hint)
