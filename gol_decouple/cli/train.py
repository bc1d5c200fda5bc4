"""The commands that train: stage one, stage two, the search, the demo."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from gol_decouple import methods, runs
from gol_decouple.cli import completion
from gol_decouple.cli.app import (
    RUNS_DIR,
    AsJson,
    ConfigName,
    DataRoot,
    Deterministic,
    Device,
    Overwrite,
    Quiet,
    RunsDir,
    Set,
    app,
    echo_json,
    overrides,
    result_console,
    talk,
)
from gol_decouple.cli.report import Wanted, print_report
from gol_decouple.errors import FailedElsewhere, InputError, SomeFailed, unknown
from gol_decouple.launch import find_place
from gol_decouple.progress import Progress
from gol_decouple.report.formats import Format
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a Softmax model, or load one, and cache its features; under torchrun or srun, in several processes."""
    from gol_decouple.config import load_config

    progress = talk(quiet, as_json)
    changes = overrides(set_, data_root) + ([f"stage1.checkpoint={checkpoint}"] if checkpoint else [])
    resolved = load_config(config, changes, seed=seed, device=device, name=name, deterministic=deterministic or None)
    from gol_decouple.stages.backbone import run_stage1

    folder = run_stage1(resolved, runs_dir, overwrite, progress, shards)
    if find_place().rank:
        return
    if runs.is_finished(folder):
        _tell_stage1(folder, runs_dir, as_json, progress)
        return
    if shards:
        progress.say(f"next: gol-decouple merge {shlex.quote(str(folder))}")
    if as_json:
        echo_json([])  # nothing to report yet


@app.command()
def merge(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run whose features are in shards.", autocompletion=completion.run_folders
        ),
    ],
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Join the shards that `stage1 --shards` wrote, and finish the run."""
    from gol_decouple.stages.backbone import merge_run

    progress = talk(quiet, as_json)
    merge_run(run, device or "auto", progress)
    _tell_stage1(run, runs_dir, as_json, progress)


def _tell_stage1(folder: Path, runs_dir: Path, as_json: bool, progress: Progress) -> None:
    progress.say(f"next: gol-decouple stage2 {shlex.quote(str(folder))} --activation gumbel")
    print_report([folder], runs_dir, _wanted(as_json))


@app.command()
def stage2(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="A run folder, or a features file; several files: stages of a cascade.",
            autocompletion=completion.run_folders,
        ),
    ],
    activation: Annotated[
        list[str] | None,
        typer.Option(help="softmax, sigmoid or gumbel; repeatable.", autocompletion=completion.activations),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method of `gol-decouple methods`, 'balanced_*', or all; repeatable.",
            autocompletion=completion.method_names,
        ),
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Retrain classifiers on cached features, all in one pass; of a list in --set, the best on val is chosen.

    Of the features files of a cascade's stages, the scores are averaged then.
    """
    from gol_decouple.config import override_section

    progress = talk(quiet, as_json)
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
    given = (names, range(seed, seed + seeds), grid, used_device, overwrite, progress, keep_grid, annotations)
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
    reported = [*dict.fromkeys(each.folder for each in targets), *([folder] if folder else [])]
    _tell_stage2(reported, runs_dir, _wanted(as_json), failed, progress)


def _tell_stage2(
    folders: list[Path], runs_dir: Path, wanted: Wanted, failed: SomeFailed | None, progress: Progress
) -> None:
    """The report on what is finished, and then what failed."""
    report = shlex.join(["gol-decouple", "report", *map(str, folders), "--format", "markdown"])
    if failed is None:
        progress.say(f"next: {report}")
        print_report(folders, runs_dir, wanted)
        return
    try:
        print_report([each for each in folders if each.is_dir()], runs_dir, wanted)
    except InputError as error:
        progress.warn(error.message)
    raise failed


@app.command("tune")
def tune_methods(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run folder, or a features file.", autocompletion=completion.run_folders),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method or pattern; repeatable; all unless given.", autocompletion=completion.method_names),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.0, max=1e6, help="How long to search; more minutes go on.")] = 10.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds of each setting, counted up from --seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    set_: Set = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    deterministic: Deterministic = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search methods and their settings on val, say which to ship and why, then evaluate each method's best on test."""
    from gol_decouple.config import override_section

    progress = talk(quiet, as_json)
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
        told = tune(target, names, range(seed, seed + seeds), grid, minutes, used_device, progress)
    if as_json:
        echo_json(told)
        return
    console = result_console()
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
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Both stages and the report on bundled handwritten digits, made long-tailed; minutes on a CPU, offline."""
    from gol_decouple.config import load_config

    progress = talk(quiet, as_json)
    resolved = load_config(DEMO_CONFIG, device=device, deterministic=deterministic or None)
    from gol_decouple.stages.backbone import run_stage1
    from gol_decouple.stages.classifier import run_stage2

    folder = run_stage1(resolved, runs_dir, overwrite, progress)
    target = find_target(folder, runs_dir)
    with _as_the_run(target, deterministic):
        run_stage2(target, ["softmax", "gumbel"], [0], [resolved.stage2], resolved.device, progress=progress)
    print_report([folder], runs_dir, _wanted(as_json))
    progress.say(
        f"everything lies in {folder}: model.safetensors, features.h5, stage2/\nnext:\n"
        f"  gol-decouple stage2 {folder} --activation sigmoid --seeds 5\n"
        "  gol-decouple stage1 cifar100_lt    (downloads CIFAR-100; hours on a CPU)"
    )


def _wanted(as_json: bool) -> Wanted:
    return Wanted(Format.json if as_json else Format.table)


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
