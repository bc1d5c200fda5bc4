"""The command that makes a published table again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gol_decouple.cli import completion
from gol_decouple.cli.app import (
    RUNS_DIR,
    AsJson,
    DataRoot,
    Device,
    Quiet,
    RunsDir,
    Set,
    app,
    echo,
    echo_json,
    overrides,
    result_console,
    talk,
)
from gol_decouple.cli.train import refuse_several_processes
from gol_decouple.errors import GolDecoupleError, InputError
from gol_decouple.files import make_folder

if TYPE_CHECKING:
    from gol_decouple.reproduction.results import Results


class Format(StrEnum):
    """How the tables are printed."""

    table = "table"
    markdown = "markdown"


@app.command()
def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="table4: classification, of the GOL paper.", autocompletion=completion.published
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(help="cifar100_lt, imagenet_lt or places_lt.", autocompletion=completion.datasets_of_tables),
    ],
    only: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Only this column, such as if100; repeatable.")
    ] = None,
    stage1_seeds: Annotated[
        int | None, typer.Option(min=1, help="How many models of stage one for each column; 1 unless given.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds of stage two on each; 5 unless given.")
    ] = None,
    set_: Set = None,
    data_root: DataRoot = None,
    device: Device = None,
    runs_dir: RunsDir = RUNS_DIR,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write rows and what was run as JSON there, and models.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Run nothing: print what --out wrote there.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", metavar="FORMAT", help="table or markdown.")] = Format.table,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a published table again: both stages of every column, the paper's figures beside ours; it continues."""
    from gol_decouple.reproduction import plan

    progress = talk(quiet, as_json)
    refuse_several_processes("reproduce")
    columns = plan.columns_of(table, dataset, only or [])
    prefix = f"{table}_{dataset}"
    from gol_decouple.reproduction import results

    if from_ is not None:
        given: dict[str, object] = {"--out": out, "--set": set_, "--data-root": data_root, "--device": device}
        given |= {"--stage1-seeds": stage1_seeds, "--seeds": seeds, "--runs-dir": runs_dir != RUNS_DIR}
        if named := [name for name, value in given.items() if value]:
            raise InputError(f"--from runs nothing that {', '.join(named)} could change", "leave it out, or --from")
        _print(results.read(prefix, columns, from_, progress), format_, as_json)
        return
    from gol_decouple.reproduction.known import collect, elsewhere, read_known
    from gol_decouple.reproduction.running import reproduce

    wanted = plan.Wanted(prefix, columns, stage1_seeds or 1, seeds or 5, overrides(set_, data_root), device)
    known: dict[str, Results] = {}
    if out is not None:  # hours before something is written there
        make_folder(out)
        known = read_known(wanted, out, runs_dir, progress)
    made: dict[str, Results] = {}
    failed: GolDecoupleError | None = None
    try:
        for column in reproduce(wanted, runs_dir, progress, elsewhere(known, runs_dir)):
            try:
                made[column.name] = collect(wanted, column, runs_dir, known.get(column.name), progress)
                if out is not None:
                    results.write(prefix, made[column.name], out)
            except InputError as error:  # one damaged result, and there may be hours of others to come
                progress.warn(f"{column.title}: {error.message}")
                failed = error
    except GolDecoupleError as error:
        failed = error
    if made or failed is None:
        _print([made[column.name] for column in columns if column.name in made], format_, as_json)
    if failed is not None:
        raise failed


def _print(found: list[Results], format_: Format, as_json: bool) -> None:
    from gol_decouple.reproduction.tables import tables

    if as_json:
        echo_json([one.record | {"rows": one.rows} for one in found])
        return
    every = tables(found)
    if format_ is Format.markdown:
        from gol_decouple.report.markdown import markdown

        echo("\n\n".join(markdown(table, 4) for table in every))
        return
    from gol_decouple.report.tables import print_leveled

    print_leveled([(4, table) for table in every], result_console())
