"""The results of a column: its rows of a report, and beside them what was run, on what and for how long, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gol_decouple import methods, runs
from gol_decouple.config import differing_fields, load_config
from gol_decouple.errors import InputError
from gol_decouple.files import make_folder, read_json, write_json, write_text
from gol_decouple.progress import Progress
from gol_decouple.report import gains, stale
from gol_decouple.report.rows import Row, collect_rows
from gol_decouple.report.study_rows import read_study
from gol_decouple.report.tables import to_json
from gol_decouple.reproduction.plan import METHODS, Column, Wanted, config_of
from gol_decouple.reproduction.records import Record, differing, gains_over, made_of, record_of

# With Softmax: what else a gain may be over than stage one's classifier.
RETRAINED = ("softmax", "crt")
_HINT = "gol-decouple reproduce ... --out DIR writes both files of a column"


@dataclass(frozen=True)
class Results:
    """A column, its rows of a report, and the record of what was run.

    Attributes:
        folders: the runs that are here; of what was read from files there are none.
    """

    column: Column
    rows: list[Row]
    record: Record
    folders: Sequence[Path] = ()


def collect_results(
    wanted: Wanted, column: Column, folders: Sequence[Path], runs_dir: Path, progress: Progress
) -> Results:
    """Those of a column's finished runs.

    Raises:
        InputError: nothing is finished, or a result is damaged.
    """
    rows = _planned(wanted, column, folders, runs_dir, progress)
    made = {row["method"] for row in rows if row["stage"] == 2}
    over = {name: gains.add_gains(rows, name, needed=False) for name in RETRAINED if name in made}
    return Results(column, gains.add_gains(rows), record_of(column, rows, over), folders)


def _planned(wanted: Wanted, column: Column, folders: Sequence[Path], runs_dir: Path, progress: Progress) -> list[Row]:
    """The rows of stage one, and of the methods and seeds of the table as they are; what else a run has is left out."""
    settings = runs.method_settings(load_config(column.config))
    planned = {name: methods.changed_settings(methods.configured(name, settings)) for name in METHODS}

    def is_planned(row: Row) -> bool:
        if row["stage"] == 1:
            return True
        has_seed = row["seed"] is None or row["seed"] < wanted.seeds
        as_is: bool = row["trained_on"] == "train" and planned.get(row["method"]) == row["changed_settings"]
        return has_seed and as_is

    every = stale.without_stale(collect_rows(folders, runs_dir), folders, runs_dir, progress)
    return [row for row in every if is_planned(row)]


def finished(wanted: Wanted, column: Column, runs_dir: Path, progress: Progress) -> list[Path]:
    """The column's finished runs; one of another config, which has the name of one, is left out with a warning."""
    found = []
    for seed, folder in enumerate(wanted.runs(column, runs_dir)):
        if runs.is_finished(folder):
            if differs := differing_fields(runs.read_config(folder), config_of(wanted, column, seed)):
                progress.warn(f"{folder} is not in the table: it has another config: {'; '.join(differs)}")
            else:
                found.append(folder)
    return found


def paths_of(prefix: str, column: Column, folder: Path) -> tuple[Path, Path]:
    """The files of a column: the report's JSON, and the record of what was run."""
    return folder / f"{prefix}_{column.name}.json", folder / f"{prefix}_{column.name}_runs.json"


def write(prefix: str, results: Results, folder: Path) -> None:
    """Write a column's rows as `report --format json` does, its record, and in bfloat16 its models that are here."""
    from gol_decouple.reproduction.models import write_model  # with torch, which reading does without

    make_folder(folder)
    report, what = paths_of(prefix, results.column, folder)
    write_json(what, results.record)
    write_text(report, to_json(results.rows) + "\n")  # the last: there is none without the other
    for run in results.folders:
        write_model(run, folder / f"{run.name}.safetensors")


def read(prefix: str, columns: Sequence[Column], folder: Path, progress: Progress) -> list[Results]:
    """What `write` wrote of some columns; those that have no files there are left out.

    Raises:
        InputError: none has any, or a file is none of these.
    """
    found = []
    for column in columns:
        report, _ = paths_of(prefix, column, folder)
        if report.exists():
            found.append(read_column(prefix, column, folder, progress))
        else:
            progress.warn(f"no results of {column.title}: {report} is not there")
    if not found:
        raise InputError(f"no results of this table in {folder}", _HINT)
    return found


def read_column(
    prefix: str,
    column: Column,
    folder: Path,
    progress: Progress,
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> Results:
    """What `write` wrote of a column.

    Args:
        is_wanted: which runs; what is told of others is left out, and need not be whole.

    Raises:
        InputError: a file is missing, or is none of these.
    """
    report, what = paths_of(prefix, column, folder)
    rows, record = read_study(report, folder, progress), read_json(what, _HINT)
    try:
        made_of(record), differing(record)
        for run in record["runs"]:  # which more models are put beside
            int(run["seed"]), run["stage1"]["dataset_sha256"]
        found = only(Results(column, rows, record), is_wanted)
        is_one = _belong_together(found)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{what} does not tell what was run: {told}", _HINT) from None
    if not is_one:
        raise InputError(f"{report} and {what} are not of the same runs, each with its stage one", _HINT)
    return found


def only(every: Results, is_wanted: Callable[[str], bool]) -> Results:
    """What is told of some runs."""
    rows = [row for row in every.rows if is_wanted(str(row["run"]))]
    runs_of = [run for run in every.record["runs"] if is_wanted(run["run"])]
    over = {
        baseline: {run: gains for run, gains in of_runs.items() if is_wanted(run)}
        for baseline, of_runs in every.record["gains_over"].items()
    }
    return Results(every.column, rows, every.record | {"runs": runs_of, "gains_over": over})


def _belong_together(results: Results) -> bool:
    """Whether rows and a record are of the same results of a column: names can be given to any file."""
    rows, record = results.rows, results.record
    models = sorted(str(row["run"]) for row in rows if row["stage"] == 1 and row["epochs"] is not None)
    told = {run["run"]: sum(one["classifiers"] for one in run["stage2"]) for run in record["runs"]}
    made = {name: sum(row["run"] == name and row["stage"] == 2 for row in rows) for name in models}
    compared = {run for of_runs in gains_over(record).values() for run in of_runs}
    others = {str(row["run"]) for row in rows} | compared
    return (
        bool(record["column"] == results.column.name)
        and told == made
        and len(models) == len(made)
        and others <= made.keys()
    )
