"""What was run for a column: commands, times of training, machines, versions and commits, as a tree of plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.bootstrap import Gain
from gol_decouple.config import differing_fields, load_config
from gol_decouple.report.rows import Row
from gol_decouple.reproduction.plan import Column
from gol_decouple.settings import Config
from gol_decouple.stages.training_log import read_log

Record = dict[str, Any]
UNTOLD = "…"

# What of a config says where images lie and how they are called; what they are is known by `dataset_sha256`.
_OF_IMAGES = ("data.kind:", "data.path:", "data.name:", "data.lists.", "data.annotations.", "data.class_names:")
_TOLD_BESIDE = ("seed:", "stage1.epochs:")


def record_of(column: Column, rows: Sequence[Row], over: Mapping[str, Sequence[Row]]) -> Record:
    """What was run for the rows of a column: commands, seconds of training, machines, versions and commits.

    Of stage one the epochs after which it was evaluated, with loss and accuracy (%); of stage two, for each command,
    how many classifiers it made, and the time of the one that took longest. Besides, `gains_over`: what methods gain in
    top-1 over others than stage one, by baseline, run and method, the mean with the bounds of its 95 % interval.

    Args:
        over: the same rows with their gains over other baselines.
    """
    of_runs: dict[str, list[Row]] = {}
    for row in rows:
        of_runs.setdefault(row["run"], []).append(row)
    return {
        "column": column.name,
        "title": column.title,
        "runs": [_run(members, column) for members in of_runs.values()],
        "gains_over": {baseline: _gains(members) for baseline, members in over.items()},
    }


def _gains(rows: Sequence[Row]) -> Record:
    found: Record = {}
    for row in rows:
        if row["gain_top1"] is not None:
            gain = [row[f"gain_top1{part}"] for part in ("", "_low", "_high")]
            found.setdefault(row["run"], {})[row["method"]] = gain
    return found


def _run(rows: Sequence[Row], column: Column) -> Record:
    (stage1,) = (Path(row["path"]) for row in rows if row["stage"] == 1)
    manifest = runs.read_manifest(stage1)
    differs = differing_configs(load_config(column.config, column.changes), Config.model_validate(manifest["config"]))
    commands: dict[str, Record] = {}
    for row in rows:
        if row["stage"] == 2:
            own = runs.read_manifest(Path(row["path"]))
            told = {name: own.get(name) for name in ("command", "environment")}
            one = commands.setdefault(str(told), told | {"classifiers": 0, "seconds": 0.0})
            one["classifiers"] += 1
            one["seconds"] = max(one["seconds"], round(own["seconds"], 1))  # all train in the same passes
    return {
        "run": stage1.name,
        "seed": manifest["seed"],
        "differs": [told for told in differs if not told.startswith(_TOLD_BESIDE)],
        "stage1": stage1_of(stage1),
        "stage2": list(commands.values()),
    }


def stage1_of(run: Path) -> Record:
    """What a record tells of one run's stage one."""
    manifest = runs.read_manifest(run)
    return {
        **{name: manifest.get(name) for name in ("command", "environment", "sessions", "config", "samples")},
        "seconds": round(manifest["seconds"], 1),
        "dataset_sha256": manifest["inputs"]["dataset_sha256"],
        "images": manifest["features"]["images"],
        "log": _log(run),
    }


def differing_configs(plain: Config, config: Config) -> list[str]:
    """In what a run is another than `plain`, `key: plain's -> run's`, but for where its images lie.

    What is unset there of the network's input is the backbone's own, as it is filled in.
    """
    return [
        told
        for told in differing_fields(plain, config)
        if not told.startswith(_OF_IMAGES) and not (told.startswith("transform.") and ": None -> " in told)
    ]


def _log(run: Path) -> list[Record]:
    """The epochs of which the log tells an accuracy."""
    if not (run / runs.LOG).is_file():
        return []
    read = read_log(run / runs.LOG)
    names = ("epoch", "lr", "train_loss", "accuracy")
    lines = [dict(zip(names, values, strict=True)) for values in zip(*(read[name] for name in names), strict=True)]
    return [line | {"epoch": int(line["epoch"])} for line in lines if not math.isnan(line["accuracy"])]


@dataclass(frozen=True)
class Made:
    """What one command trained, as a record tells it.

    Attributes:
        what: epochs and images, or how many classifiers.
        seconds: wall time of the training; of classifiers that of the one that took longest.
        machine, torch, commit: where, and with what; of a training that was interrupted every one, in the order of its
            sessions, UNTOLD first where those of its beginning were not told. The commit is of the checkout that ran.
    """

    run: str
    stage: str
    what: str
    seconds: float
    machine: str
    torch: str
    commit: str


def made_of(record: Record) -> list[Made]:
    """What a record tells of the commands, stage one of each run first."""
    found = []
    for run in record["runs"]:
        found.append(made_stage1(run["run"], run["stage1"]))
        for one in run["stage2"]:
            found.append(made(run["run"], "stage two", f"{one['classifiers']:,} classifiers", one))
    return found


def made_stage1(run: str, told: Record) -> Made:
    """What `stage1_of` tells of a run."""
    epochs, images = told["config"]["stage1"]["epochs"], told["images"]["train"]
    sessions = told.get("sessions") or []
    whole = bool(sessions) and not sessions[0]["epochs_done"] and not sessions[0]["steps_done"]
    environments = [one["environment"] for one in sessions] or [told["environment"]]
    what = f"{f'{epochs} epochs' if epochs else 'loaded'}, {images:,} images"
    return _made(run, "stage one", what, told["seconds"], environments, whole or not epochs)


def made(run: str, stage: str, what: str, told: Record) -> Made:
    """What one command made, of its `environment` and `seconds`."""
    return _made(run, stage, what, told["seconds"], [told["environment"]])


def _made(run: str, stage: str, what: str, seconds: float, environments: Sequence[Record], whole: bool = True) -> Made:
    """The same of sessions with these environments, which `whole` says are all."""
    told = [map(of, environments) for of in (_machine, _torch, _commit)]
    machine, torch, commit = (", ".join(dict.fromkeys([*([] if whole else [UNTOLD]), *names])) for names in told)
    return Made(run, stage, what, float(seconds), machine, torch, commit)


def _machine(environment: Record) -> str:
    threads = environment.get("threads")  # which a GPU has none of
    name = str(environment["device_name"])
    return name if threads is None else f"{name}, {threads} thread{'s' * (threads > 1)}"


def _torch(environment: Record) -> str:
    return str(environment["versions"]["torch"])


def _commit(environment: Record) -> str:
    checkout = environment["checkout"]
    if checkout is None:
        return "installed"
    return str(checkout["commit"])[:10] + (" (edited)" if checkout["dirty"] else "")


def differing(record: Record) -> list[str]:
    """In what runs are others than their column's config, `key: config's -> run's`."""
    return list(dict.fromkeys(str(told) for run in record["runs"] for told in run["differs"]))


def gains_over(record: Record) -> dict[str, dict[str, dict[str, Gain]]]:
    """What a record tells of gains in top-1 over retrained classifiers: by baseline, run and method."""
    return {
        baseline: {
            run: {method: Gain(*map(float, gain)) for method, gain in of_run.items()} for run, of_run in of_runs.items()
        }
        for baseline, of_runs in record["gains_over"].items()
    }
