"""The command line: decodes arguments, calls one library function, prints what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 the user can mend it, 3 the environment failed,
130 and 143 stopped by SIGINT and SIGTERM, 1 a bug of ours.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, cast

import typer
from rich.console import Console

import gol_decouple
from gol_decouple import methods, runs
from gol_decouple.config import config_names, load_config, override_section
from gol_decouple.errors import GolDecoupleError, InputError, machine_failure, unknown
from gol_decouple.progress import to_stderr

app = typer.Typer(
    help="Decoupled training for long-tailed recognition: keep the Softmax backbone, retrain only the classifier.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")]
RunsDir = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is finished instead of keeping it.")]

# The class of all errors in how arguments are written, of which Typer exports only this subclass.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
PROGRAM = "gol-decouple"
DEMO_CONFIG = "digits_lt"
RUNS_DIR = Path("runs")


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(gol_decouple.__version__)
        raise typer.Exit


@app.command()
def stage1(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help=f"{', '.join(config_names())}, or a path to a TOML file.")
    ],
    set_: Set = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the data lies; the same as data.path.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A trained model to load instead of training; stage1.epochs trains it further.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the training.")] = None,
    device: Device = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the config's unless given.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
) -> None:
    """Train a Softmax model, or load one, and cache its features."""
    overrides = [*(set_ or []), *([f"data.path={data_root}"] if data_root else [])]
    overrides += [f"stage1.checkpoint={checkpoint}"] if checkpoint else []
    resolved = load_config(config, overrides, seed=seed, device=device, name=name)
    from gol_decouple.stages.backbone import run_stage1

    folder = run_stage1(resolved, runs_dir, overwrite, to_stderr())
    to_stderr().say(f"next: gol-decouple stage2 {shlex.quote(str(folder))} --activation gumbel")
    _print_report([folder], runs_dir, Format.table)


@app.command()
def stage2(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a features file.")],
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
) -> None:
    """Retrain classifiers on cached features, all in one pass; of a list in --set, the best on val is chosen."""
    names = [*map(_activation, activation or []), *methods.select(method or [])]
    if not names:
        raise InputError("stage2 needs something to train", "--activation gumbel, or --method gumbel_paper")
    target = runs.find_target(run, runs_dir)
    grid = override_section(runs.stage2_settings(target), set_ or [], "stage2")
    from gol_decouple.stages.classifier import run_stage2

    used_device = device or (target.config.device if target.config else "auto")
    run_stage2(target, names, range(seed, seed + seeds), grid, used_device, overwrite, to_stderr(), keep_grid)
    to_stderr().say(f"next: gol-decouple report {shlex.quote(str(target.folder))} --format markdown")
    _print_report([target.folder], runs_dir, Format.table)


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
) -> None:
    """Search methods and their settings on val, say which to ship and why, then evaluate each method's best on test."""
    names = methods.select(method or ["all"])
    target = runs.find_target(run, runs_dir)
    grid = override_section(runs.stage2_settings(target), set_ or [], "stage2")
    from gol_decouple.report.layout import print_table
    from gol_decouple.report.tuning import table
    from gol_decouple.stages.tuning import tune

    used_device = device or (target.config.device if target.config else "auto")
    told = tune(target, names, range(seed, seed + seeds), grid, minutes, used_device, to_stderr())
    console = Console()
    print_table(table(told), console)
    console.print(f"In {', '.join(told['classifiers'])}", soft_wrap=True, markup=False, highlight=False)
    console.print()
    _print_report([target.folder], runs_dir, Format.table)


@app.command()
def report(
    run: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Run folders, features files or any folders above.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What gains are over: stage_one (unless given), or a method of stage two."),
    ] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print the accuracies of every finished run and classifier, and what is gained: all, many, medium, few classes."""
    _print_report(run or [runs_dir], runs_dir, format_, baseline)


@app.command("methods")
def list_methods(
    method: Annotated[list[str] | None, typer.Argument(metavar="[METHOD]...", help="Names or patterns.")] = None,
) -> None:
    """List the methods of stage two: paper, parts and settings."""
    from gol_decouple.report.methods import to_text

    typer.echo(to_text([methods.get(name) for name in methods.select(method or ["all"], background=True)]))


@app.command()
def demo(device: Device = None, runs_dir: RunsDir = RUNS_DIR, overwrite: Overwrite = False) -> None:
    """Both stages and the report on bundled handwritten digits, made long-tailed; minutes on a CPU, offline."""
    resolved = load_config(DEMO_CONFIG, device=device)
    from gol_decouple.stages.backbone import run_stage1
    from gol_decouple.stages.classifier import run_stage2

    progress = to_stderr()
    folder = run_stage1(resolved, runs_dir, overwrite, progress)
    target = runs.find_target(folder, runs_dir)
    run_stage2(target, ["softmax", "gumbel"], [0], [resolved.stage2], resolved.device, progress=progress)
    _print_report([folder], runs_dir, Format.table)
    progress.say(
        f"Everything lies in {folder}: model.safetensors, features.h5, stage2/. Next:\n"
        f"  gol-decouple stage2 {folder} --activation sigmoid --seeds 5\n"
        "  gol-decouple stage1 cifar100_lt    (downloads CIFAR-100; hours on a CPU)"
    )


def main() -> int:
    """Run the program; returns its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(sys.argv[1:] or ["--help"])
    except UsageError as error:
        where = error.ctx.command_path if error.ctx else PROGRAM
        message = error.format_message().rstrip(".")
        return _fail(InputError(message[0].lower() + message[1:], f"{where} --help"))
    except (KeyboardInterrupt, _Terminated) as stop:
        again = "run the same command again" + (" without --overwrite" if "--overwrite" in sys.argv else "")
        _print_error("stopped", f"{again}: it continues where it was")
        return 143 if isinstance(stop, _Terminated) else 130
    except Exception as error:
        failure = error if isinstance(error, GolDecoupleError) else machine_failure(error)
        if failure is None:
            raise
        return _fail(failure)


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except SystemExit as leaving:
        # Typer and rich leave so when the reader of our output (head, less) has seen enough.
        return 0 if isinstance(leaving.__context__, BrokenPipeError) else 1
    if code == 130:  # what Typer makes of a KeyboardInterrupt
        raise KeyboardInterrupt
    return code or 0


class _Terminated(BaseException):
    """SIGTERM, as an exception that unwinds like KeyboardInterrupt."""


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    # Worker processes that got the signal too are no longer news; torch would raise that they died.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    raise _Terminated


def _activation(name: str) -> str:
    """`--activation A` is the method called A: a method that is no activation is refused here, not silently taken."""
    known = [method.name for method in methods.METHODS.values() if method.name == method.activation]
    if name not in known:
        hint = f"{name} is a method: --method {name}" if name in methods.METHODS else None
        raise unknown("activation", name, known, hint)
    return name


def _print_report(paths: list[Path], runs_dir: Path, format_: Format, baseline: str | None = None) -> None:
    from gol_decouple.report import gains, rows, tables

    found = gains.add_gains(rows.collect_rows(paths, runs_dir), baseline)
    if format_ is Format.table:
        tables.print_tables(found, Console())
    else:
        write = {Format.markdown: tables.to_markdown, Format.csv: tables.to_csv, Format.json: tables.to_json}[format_]
        typer.echo(write(found))


def _fail(error: GolDecoupleError) -> int:
    _print_error(error.message, error.hint)
    return error.exit_code


def _print_error(message: str, hint: str | None) -> None:
    with contextlib.suppress(OSError):  # stderr can be closed, or full
        print(f"error: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
