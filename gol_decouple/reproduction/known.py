"""What result files tell already: it stays there, unless the runs here tell it anew."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from pydantic import ValidationError

from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.reproduction import results
from gol_decouple.reproduction.plan import Column, Wanted, config_of
from gol_decouple.reproduction.records import Record, differing_configs
from gol_decouple.reproduction.results import Results
from gol_decouple.settings import Config

_HINT = "choose another --out for others"


def read_known(wanted: Wanted, folder: Path, runs_dir: Path, progress: Progress) -> dict[str, Results]:
    """What the files in a folder tell of the wanted columns, by column.

    Raises:
        InputError: a file is damaged, or has what the runs that are wanted here would not go with or would replace:
            models of another config or other images, more seeds of stage two.
    """
    found = {}
    for column in wanted.columns:
        report, _ = results.paths_of(wanted.prefix, column, folder)
        if report.exists() and (known := _read_column(wanted, column, folder, runs_dir, progress)).rows:
            told = f"{report} has results of"
            for run in known.record["runs"]:
                if differs := _differing(wanted, column, run):
                    raise InputError(f"{told} {run['run']} of another config: {'; '.join(differs)}", _HINT)
            _refuse_fewer_seeds(wanted, known, runs_dir, told)
            _refuse_other_images(wanted, column, known, runs_dir, told)
            found[column.name] = known
    for name in elsewhere(found, runs_dir):
        progress.say(f"{name}: its results in {folder} stay, it is not trained here")
    return found


def elsewhere(known: dict[str, Results], runs_dir: Path) -> list[str]:
    """The runs of known results which are not here: made on another machine, or removed."""
    return [run["run"] for one in known.values() for run in one.record["runs"] if not (runs_dir / run["run"]).exists()]


def collect(wanted: Wanted, column: Column, runs_dir: Path, known: Results | None, progress: Progress) -> Results:
    """The results of all of a column's models, in the order of their seeds.

    Raises:
        InputError: nothing is finished, a result is damaged, or models are not of the same images.
    """
    folders = results.finished(wanted, column, runs_dir, progress)
    if known is None:
        return results.collect_results(wanted, column, folders, runs_dir, progress)
    kept = results.only(known, lambda run: runs_dir / run not in folders)
    for path in wanted.runs(column, runs_dir):
        if path.exists() and path.name in _names(kept):
            progress.warn(f"{path.name}: its results in the files stay")
    if not folders:
        return kept
    return _join(kept, results.collect_results(wanted, column, folders, runs_dir, progress))


def _names(of: Results) -> Container[str]:
    return {run["run"] for run in of.record["runs"]}


def _read_column(wanted: Wanted, column: Column, folder: Path, runs_dir: Path, progress: Progress) -> Results:
    try:
        return results.read_column(wanted.prefix, column, folder, progress)
    except InputError:
        # Killed between its two files: the runs here will tell theirs again, of others all must be whole.
        return results.read_column(wanted.prefix, column, folder, progress, lambda run: not (runs_dir / run).exists())


def _differing(wanted: Wanted, column: Column, run: Record) -> list[str]:
    """In what the model of a record is another than the one that would be trained in its place, theirs -> ours."""
    try:
        config = Config.model_validate(run["stage1"]["config"])
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return differing_configs(config, config_of(wanted, column, run["seed"]))


def _refuse_fewer_seeds(wanted: Wanted, known: Results, runs_dir: Path, told: str) -> None:
    for row in known.rows:
        if row["stage"] == 2 and (row["seed"] or 0) >= wanted.seeds and (runs_dir / row["run"]).exists():
            what = f"{told} {row['run']} with seed {row['seed']} of stage two, which fewer seeds would replace"
            raise InputError(what, f"--seeds {row['seed'] + 1}, or another --out")


def _refuse_other_images(wanted: Wanted, column: Column, known: Results, runs_dir: Path, told: str) -> None:
    """Before a model is trained on them for hours."""
    names = _names(known)
    if all(path.exists() or path.name in names for path in wanted.runs(column, runs_dir)):
        return
    try:
        images = load_data(config_of(wanted, column, 0).data).sha256
    except InputError:  # which the training tells
        return
    if images not in map(_images, known.record["runs"]):
        raise InputError(f"{told} {known.record['runs'][0]['run']}, which is of other images", _HINT)


def _images(run: Record) -> str | None:
    """The sha256 of the images of a record's run."""
    sha256: str | None = run["stage1"]["dataset_sha256"]
    return sha256


def _join(known: Results, here: Results) -> Results:
    theirs, ours = known.record, here.record
    runs = sorted([*theirs["runs"], *ours["runs"]], key=lambda run: run["seed"])
    for run in runs:
        if _images(run) != _images(runs[0]):
            told = f"{here.column.title}: {runs[0]['run']} and {run['run']} are not of the same images"
            raise InputError(told, _HINT)
    place = {run["run"]: number for number, run in enumerate(runs)}
    rows = sorted([*known.rows, *here.rows], key=lambda row: place[row["run"]])
    gains = {}
    for name in dict.fromkeys([*ours["gains_over"], *theirs["gains_over"]]):
        of_runs = {**theirs["gains_over"].get(name, {}), **ours["gains_over"].get(name, {})}
        gains[name] = {run: of_runs[run] for run in place if run in of_runs}
    return Results(here.column, rows, ours | {"runs": runs, "gains_over": gains}, here.folders)
