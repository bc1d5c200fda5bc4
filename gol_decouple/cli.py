"""The command line: decodes arguments, calls one library function, prints what it returns.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 the user can mend it, 3 the environment failed,
130 and 143 stopped by SIGINT and SIGTERM, 1 a bug of ours.
"""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

import gol_decouple
from gol_decouple import runs
from gol_decouple.config import config_names, load_config, override_section
from gol_decouple.errors import GolDecoupleError, InputError
from gol_decouple.progress import to_stderr

app = typer.Typer(
    help="Decoupled training for long-tailed recognition: keep the Softmax backbone, retrain only the classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")]
RunsDir = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is finished instead of keeping it.")]

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
    config: Annotated[str, typer.Argument(help=f"{', '.join(config_names())}, or a path to a TOML file.")],
    set_: Set = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the data lies; the same as data.path.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    device: Device = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the config's unless given.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
) -> None:
    """Train a Softmax model and cache its features."""
    overrides = [*(set_ or []), *([f"data.path={data_root}"] if data_root else [])]
    resolved = load_config(config, overrides, seed=seed, device=device, name=name)
    from gol_decouple.stages.backbone import run_stage1

    folder = run_stage1(resolved, runs_dir, overwrite, to_stderr())
    to_stderr().say(f"next: gol-decouple stage2 {folder} --activation gumbel")
    _print_report([folder], runs_dir, Format.table)


@app.command()
def stage2(
    run: Annotated[Path, typer.Argument(help="A run folder, or a features file.")],
    activation: Annotated[list[str] | None, typer.Option(help="softmax, sigmoid or gumbel; repeatable.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="A named method, such as gumbel_paper; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from --seed.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    set_: Set = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    overwrite: Overwrite = False,
) -> None:
    """Retrain the classifier on cached features."""
    names = [*_activations(activation or []), *(method or [])]
    if not names:
        raise InputError("stage2 needs something to train", "--activation gumbel, or --method gumbel_paper")
    target = runs.find_target(run, runs_dir)
    settings = override_section(runs.stage2_settings(target), set_ or [], "stage2")
    from gol_decouple.stages.classifier import run_stage2

    used_device = device or (target.config.device if target.config else "auto")
    run_stage2(target, names, range(seed, seed + seeds), settings, used_device, overwrite, to_stderr())
    to_stderr().say(f"next: gol-decouple report {target.folder} --format markdown")
    _print_report([target.folder], runs_dir, Format.table)


@app.command()
def report(
    run: Annotated[list[Path] | None, typer.Argument(help="Run folders, features files or any folders above.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print the accuracies of every finished run and classifier: all, many, medium and few classes."""
    _print_report(run or [runs_dir], runs_dir, format_)


@app.command()
def demo(device: Device = None, runs_dir: RunsDir = RUNS_DIR, overwrite: Overwrite = False) -> None:
    """Both stages and the report on bundled handwritten digits, made long-tailed; minutes on a CPU, offline."""
    resolved = load_config(DEMO_CONFIG, device=device)
    from gol_decouple.stages.backbone import run_stage1
    from gol_decouple.stages.classifier import run_stage2

    progress = to_stderr()
    folder = run_stage1(resolved, runs_dir, overwrite, progress)
    target = runs.find_target(folder, runs_dir)
    run_stage2(target, ["softmax", "gumbel"], [0], resolved.stage2, resolved.device, progress=progress)
    _print_report([folder], runs_dir, Format.table)
    progress.say(
        f"Everything lies in {folder}: model.safetensors, features.h5, stage2/. Next:\n"
        f"  gol-decouple stage2 {folder} --activation sigmoid --seeds 5\n"
        "  gol-decouple stage1 cifar100_lt    (downloads CIFAR-100; hours on a CPU, minutes on a GPU)"
    )


def main() -> int:
    """Run the program; returns its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except GolDecoupleError as error:
        _print_error(error.message, error.hint)
        return error.exit_code
    except MemoryError:
        _print_error("out of memory", "lower the batch size, or use a machine with more memory")
        return 3
    except (KeyboardInterrupt, _Terminated) as stop:
        _print_error("stopped", "run the same command again: it continues where it was")
        return 143 if isinstance(stop, _Terminated) else 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough; there is nobody left to tell.
        sys.stdout = None
        return 0
    return 0


class _Terminated(BaseException):
    """SIGTERM, as an exception that unwinds like KeyboardInterrupt."""


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _activations(names: list[str]) -> list[str]:
    """`--activation A` is the method called A: a method that is no activation is refused here, not silently taken."""
    from gol_decouple import activations, methods
    from gol_decouple.errors import unknown

    for name in names:
        if name not in activations.names():
            hint = f"{name} is a method: --method {name}" if name in methods.METHODS else None
            raise unknown("activation", name, activations.names(), hint)
    return names


def _print_report(paths: list[Path], runs_dir: Path, format_: Format) -> None:
    from gol_decouple.report import rows, tables

    found = rows.collect_rows(paths, runs_dir)
    if format_ is Format.table:
        tables.print_tables(found, Console())
    else:
        write = {Format.markdown: tables.to_markdown, Format.csv: tables.to_csv, Format.json: tables.to_json}[format_]
        typer.echo(write(found))


def _print_error(message: str, hint: str | None) -> None:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
