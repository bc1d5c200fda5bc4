"""Models whose results lie in files and whose runs are not here, made on another machine or removed: they stay."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.reproduction import results
from gol_decouple.reproduction.plan import Column, Wanted, config_of
from gol_decouple.reproduction.records import Record, differing_configs
from gol_decouple.reproduction.results import Results
from gol_decouple.runs import is_finished
from gol_decouple.settings import Config


def made_elsewhere(wanted: Wanted, folder: Path, runs_dir: Path, progress: Progress) -> dict[str, Results]:
    """What the files in a folder tell of such models, by column.

    Raises:
        InputError: a file is damaged, or such a model is of another config, whose results new ones would replace.
    """

    def is_elsewhere(run: str) -> bool:
        return not (runs_dir / run).exists()

    found = {}
    for column in wanted.columns:
        report, _ = results.paths_of(wanted.prefix, column, folder)
        if not report.exists():
            continue
        known = results.read_column(wanted.prefix, column, folder, progress, is_elsewhere)
        for run in known.record["runs"]:
            if differs := _differing(wanted, column, run):
                told = f"{report} has results of {run['run']}, which is not in {runs_dir}, of another config"
                raise InputError(f"{told}: {'; '.join(differs)}", "choose another --out for others")
            progress.say(f"{run['run']}: its results in {folder} stay, it is not trained here")
        if known.rows:
            found[column.name] = known
    return found


def _differing(wanted: Wanted, column: Column, run: Record) -> list[str]:
    """In what the model of a record is another than the one that would be trained in its place, theirs -> ours."""
    try:
        config = Config.model_validate(run["stage1"]["config"])
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return differing_configs(config, config_of(wanted, column, run["seed"]))


def collect(wanted: Wanted, column: Column, runs_dir: Path, elsewhere: Results | None, progress: Progress) -> Results:
    """The results of all of a column's models, in the order of their seeds.

    Raises:
        InputError: nothing is finished, a result is damaged, or models are not of the same images.
    """
    if elsewhere is None:
        return results.collect_results(wanted, column, runs_dir, progress)
    if not any(map(is_finished, wanted.runs(column, runs_dir))):
        return elsewhere
    return _join(elsewhere, results.collect_results(wanted, column, runs_dir, progress))


def _join(elsewhere: Results, here: Results) -> Results:
    theirs, ours = elsewhere.record, here.record
    runs = sorted([*theirs["runs"], *ours["runs"]], key=lambda run: run["seed"])
    for run in runs:
        if run["stage1"]["dataset_sha256"] != runs[0]["stage1"]["dataset_sha256"]:
            told = f"{here.column.title}: {runs[0]['run']} and {run['run']} are not of the same images"
            raise InputError(told, "choose another --out for others")
    place = {run["run"]: number for number, run in enumerate(runs)}
    rows = sorted([*elsewhere.rows, *here.rows], key=lambda row: place[row["run"]])
    baselines = [*dict.fromkeys([*ours["gains_over"], *theirs["gains_over"]])]
    gains = {name: {**theirs["gains_over"].get(name, {}), **ours["gains_over"].get(name, {})} for name in baselines}
    return Results(here.column, rows, ours | {"runs": runs, "gains_over": gains})
