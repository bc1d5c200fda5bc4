"""The commands that train: stage one, stage two, the search, the demo."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gol_decouple import methods, runs
from gol_decouple.cli.app import (
    RUNS_DIR,
    ConfigName,
    DataRoot,
    Deterministic,
    Device,
    Overwrite,
    RunsDir,
    Set,
    app,
    overrides,
)
from gol_decouple.cli.report import print_report
from gol_decouple.errors import FailedElsewhere, InputError, SomeFailed, unknown
from gol_decouple.launch import find_place
from gol_decouple.progress import to_stderr
from gol_decouple.targets import Target, cascade_folder, find_target, stage2_settings

DEMO_CONFIG = "digits_lt"


@app.command()
def stage1(
    config: ConfigName,
    set_: Set = None,
    data_root: DataRoot = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A trained model to load instead of training; stage1.epochs trains it further.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the training.")] = None,
    device: Device = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the config's unless given.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
    shards: Annotated[
        bool, typer.Option("--shards", help="Each process writes its features to its own file; merge joins them.")
    ] = False,
    deterministic: Deterministic = False,
) -> None:
    """Train a Softmax model, or load one, and cache its features; under torchrun or srun, in several processes."""
    from gol_decouple.config import load_config

    changes = overrides(set_, data_root) + ([f"stage1.checkpoint={checkpoint}"] if checkpoint else [])
    resolved = load_config(config, changes, seed=seed, device=device, name=name, deterministic=deterministic or None)
    from gol_decouple.stages.backbone import run_stage1

    folder = run_stage1(resolved, runs_dir, overwrite, to_stderr(), shards)
    if find_place().rank:
        return
    if not runs.is_finished(folder):
        if shards:
            to_stderr().say(f"next: gol-decouple merge {shlex.quote(str(folder))}")
        return
    _tell_stage1(folder, runs_dir)


@app.command()
def merge(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run whose features are in shards.")],
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Join the shards that `stage1 --shards` wrote, and finish the run."""
    from gol_decouple.stages.backbone import merge_run

    merge_run(run, device or "auto", to_stderr())
    _tell_stage1(run, runs_dir)


def _tell_stage1(folder: Path, runs_dir: Path) -> None:
    to_stderr().say(f"next: gol-decouple stage2 {shlex.quote(str(folder))} --activation gumbel")
    print_report([folder], runs_dir)


@app.command()
def stage2(
    run: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="A run folder, or a features file; several files: stages of a cascade."),
    ],
    activation: Annotated[list[str] | None, typer.Option(help="softmax, sigmoid or gumbel; repeatable.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method of `gol-decouple methods`, 'balanced_*', or all; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from --seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    set_: Set = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
    keep_grid: Annotated[bool, typer.Option("--keep-grid", help="Report every point of a grid; choose none.")] = False,
    annotations: Annotated[
        Path | None, typer.Option(help="Of RoIs: val annotations in LVIS's format; unset: the run's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of a cascade, the folder of its results below --runs-dir.")] = None,
    deterministic: Deterministic = False,
) -> None:
    """Retrain classifiers on cached features, all in one pass; of a list in --set, the best on val is chosen.

    Of the features files of a cascade's stages, the scores are averaged then.
    """
    from gol_decouple.config import override_section

    refuse_several_processes("stage2")
    activations = list(map(_activation, activation or []))
    methods.select(method or [], background=None)  # what is not there is told first
    if not activations and not method:
        raise InputError("stage2 needs something to train", "--activation gumbel, or --method gumbel_paper")
    targets = [find_target(each, runs_dir) for each in run]
    folder = cascade_folder(targets, runs_dir, name) if len(targets) > 1 else None
    if name is not None and folder is None:
        raise InputError(f"--name {name} is for the results of a cascade", "name the features files of all its stages")
    target = targets[0]
    names = [*activations, *_fitting(target, method or [])]
    grid = override_section(stage2_settings(target), set_ or [], "stage2")
    used_device = device or (target.config.device if target.config else "auto")
    given = (names, range(seed, seed + seeds), grid, used_device, overwrite, to_stderr(), keep_grid, annotations)
    failed: SomeFailed | None = None
    try:
        with _as_the_run(target, deterministic):
            if folder is None:
                from gol_decouple.stages.classifier import run_stage2

                run_stage2(target, *given)
            else:
                from gol_decouple.stages.cascade import run_cascade

                run_cascade(targets, folder, *given)
    except SomeFailed as error:
        failed = error
    _tell_stage2([*dict.fromkeys(each.folder for each in targets), *([folder] if folder else [])], runs_dir, failed)


def _tell_stage2(folders: list[Path], runs_dir: Path, failed: SomeFailed | None) -> None:
    """The report on what is finished, and then what failed."""
    report = shlex.join(["gol-decouple", "report", *map(str, folders), "--format", "markdown"])
    if failed is None:
        to_stderr().say(f"next: {report}")
        print_report(folders, runs_dir)
        return
    try:
        print_report([each for each in folders if each.is_dir()], runs_dir)
    except InputError as error:
        to_stderr().warn(error.message)
    raise failed


@app.command("tune")
def tune_methods(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a features file.")],
    method: Annotated[list[str] | None, typer.Option(help="A method or pattern; repeatable; all unless given.")] = None,
    minutes: Annotated[float, typer.Option(min=0.0, max=1e6, help="How long to search; more minutes go on.")] = 10.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds of each setting, counted up from --seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    set_: Set = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    deterministic: Deterministic = False,
) -> None:
    """Search methods and their settings on val, say which to ship and why, then evaluate each method's best on test."""
    from gol_decouple.config import override_section

    refuse_several_processes("tune")
    methods.select(method or [], background=None)  # what is not there is told first
    target = find_target(run, runs_dir)
    names = _fitting(target, method or ["all"])
    grid = override_section(stage2_settings(target), set_ or [], "stage2")
    from gol_decouple.report.layout import print_table
    from gol_decouple.report.tuning import table
    from gol_decouple.stages.tuning import tune

    used_device = device or (target.config.device if target.config else "auto")
    with _as_the_run(target, deterministic):
        told = tune(target, names, range(seed, seed + seeds), grid, minutes, used_device, to_stderr())
    console = Console()
    print_table(table(told), console)
    console.print(f"In {', '.join(told['classifiers'])}", soft_wrap=True, markup=False, highlight=False)
    console.print()
    print_report([target.folder], runs_dir)


@app.command()
def demo(
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
    deterministic: Deterministic = False,
) -> None:
    """Both stages and the report on bundled handwritten digits, made long-tailed; minutes on a CPU, offline."""
    from gol_decouple.config import load_config

    resolved = load_config(DEMO_CONFIG, device=device, deterministic=deterministic or None)
    from gol_decouple.stages.backbone import run_stage1
    from gol_decouple.stages.classifier import run_stage2

    progress = to_stderr()
    folder = run_stage1(resolved, runs_dir, overwrite, progress)
    target = find_target(folder, runs_dir)
    with _as_the_run(target, deterministic):
        run_stage2(target, ["softmax", "gumbel"], [0], [resolved.stage2], resolved.device, progress=progress)
    print_report([folder], runs_dir)
    progress.say(
        f"Everything lies in {folder}: model.safetensors, features.h5, stage2/. Next:\n"
        f"  gol-decouple stage2 {folder} --activation sigmoid --seeds 5\n"
        "  gol-decouple stage1 cifar100_lt    (downloads CIFAR-100; hours on a CPU)"
    )


def _as_the_run(target: Target, deterministic: bool) -> AbstractContextManager[None]:
    """Deterministic operations, if they are asked for or the run's stage one used them."""
    from gol_decouple import determinism

    return determinism.deterministic(deterministic or (target.config is not None and target.config.deterministic))


def refuse_several_processes(command: str) -> None:
    place = find_place()
    if place.size > 1:
        error = InputError(f"{command} is work for one process, and {place.size} were started", "leave torchrun out")
        raise FailedElsewhere(error) if place.rank else error


def _fitting(target: Target, patterns: list[str]) -> list[str]:
    """The methods that match, of those that fit the features."""
    from gol_decouple.features import is_detection

    return methods.select(patterns, background=is_detection(target.features))


def _activation(name: str) -> str:
    """`--activation A` is the method called A: a method that is no activation is refused here, not silently taken."""
    known = [method.name for method in methods.METHODS.values() if method.name == method.activation]
    if name not in known:
        hint = f"{name} is a method: --method {name}" if name in methods.METHODS else None
        raise unknown("activation", name, known, hint)
    return name
