"""Run folders: where a run lies, whether it may be reused, and the manifests that make it readable.

A manifest is written last, so a folder that has one is finished:

    RUNS_DIR/<name>/               config.toml, last.pt, previous.pt, log.csv, model.safetensors, features.h5,
                                   per_class.csv, predictions.npz, manifest.json
    RUNS_DIR/<name>/stage2/<key>/  classifier.safetensors, per_class.csv, predictions.npz, manifest.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol_decouple.config import Config, Stage2Config, differing_fields, load_config, to_toml
from gol_decouple.errors import InputError
from gol_decouple.files import disk_errors, read_json, write_json, write_text
from gol_decouple.methods import Method
from gol_decouple.progress import Progress

MANIFEST = "manifest.json"
CONFIG = "config.toml"
FEATURES = "features.h5"


def open_run(config: Config, runs_dir: Path, overwrite: bool, progress: Progress) -> tuple[Path, bool]:
    """The folder of a config's run, and whether the run is finished; a new folder is not created yet.

    Raises:
        InputError: the name belongs to a run with another config.
    """
    folder = runs_dir / config.name
    if not (folder / CONFIG).is_file():
        if folder.is_dir() and any(entry.name != "stage2" for entry in folder.iterdir()):
            raise InputError(f"{folder} exists and is not a run", "choose another --name or --runs-dir")
        return folder, False
    if overwrite:
        progress.say(f"removing the run in {folder} (--overwrite)")
        shutil.rmtree(folder)
        return folder, False
    differences = differing_fields(load_config(str(folder / CONFIG)), config)
    if differences:
        raise InputError(
            f"run {folder} exists with another config: {'; '.join(differences)}",
            "choose another name with --name, or replace the run and everything in it with --overwrite",
        )
    return folder, is_finished(folder)


def create_run(folder: Path, config: Config) -> None:
    """Make the run's folder and write its resolved config."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, to_toml(config))


def is_finished(folder: Path) -> bool:
    """Whether everything in a run folder, or in the folder of a retrained classifier, is there."""
    return (folder / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Declare `folder` finished."""
    write_json(folder / MANIFEST, manifest)


@dataclass(frozen=True)
class Target:
    """What stage two works on: a features file, the folder its results go to, and the run's config if it has one."""

    features: Path
    folder: Path
    config: Config | None


def find_target(run: Path, runs_dir: Path) -> Target:
    """The features file and folder that `run`, a run folder or a features file, stands for.

    Raises:
        InputError: there is no such run or file, or its stage one is not finished.
    """
    if run.is_dir():
        if not (run / CONFIG).is_file():
            raise InputError(f"{run} is no run: it has no {CONFIG}", "gol-decouple stage1 CONFIG makes one")
        if not is_finished(run) or not (run / FEATURES).is_file():
            hint = f"continue it: gol-decouple stage1 {run / CONFIG} --runs-dir {run.parent}"
            raise InputError(f"stage one of {run} is not finished", hint)
        return Target(run / FEATURES, run, load_config(str(run / CONFIG)))
    if not run.is_file():
        there = ", ".join(sorted(str(path.parent) for path in runs_dir.glob(f"*/{CONFIG}"))) or "none"
        raise InputError(f"{run} is neither a run folder nor a features file", f"runs in {runs_dir}: {there}")
    if run.name == FEATURES and (run.parent / CONFIG).is_file():
        return find_target(run.parent, runs_dir)
    return Target(run, runs_dir / run.stem, None)


def stage2_settings(target: Target) -> Stage2Config:
    """What the run's config says of stage two; nothing for a features file outside a run."""
    return target.config.stage2 if target.config else Stage2Config()


def classifier_folder(target: Target, method: Method, seed: int, fingerprint: str) -> Path:
    """The folder of one retrained classifier: method, readable differences from its defaults, seed, short hash.

    The hash covers every setting and the features, so results of other features are never taken for these.
    """
    changes = [f"{name}{_short(value)}" for name, value in sorted(method.changes_from_default().items())]
    identity = json.dumps([method.as_dict(), seed, fingerprint], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return target.folder / "stage2" / "-".join([method.name, *changes, f"seed{seed}", digest])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder."""
    return read_json(folder / MANIFEST)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
