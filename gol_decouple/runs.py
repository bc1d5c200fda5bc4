"""Run folders: where a run lies, whether it may be reused, and the manifests that make it readable.

A manifest is written last, so a folder that has one is finished:

    RUNS_DIR/<name>/               config.toml, sessions.json, last.pt, previous.pt, log.csv, model.safetensors,
                                   features.h5, per_class.csv, predictions.npz, manifest.json; checkpoint.json of a
                                   model loaded
    RUNS_DIR/<name>/stage2/<key>/  classifier.safetensors, per_class.csv, predictions.npz, manifest.json; log.csv of one
                                   that was trained; choice.json of one that was chosen; gradients.csv of one trained
                                   with stage2.gradients
                                   (of a cascade, manifest.json and per_class_ap.csv: classifiers are its members')
    RUNS_DIR/<name>/features.json  where there is no run: which features the results are of (see `belonging`)
    RUNS_DIR/<name>/analyses/      what `analyze` made
    RUNS_DIR/<name>/tuning.json    what `tune` tried and found
    RUNS_DIR/<name>/candidates/    the same of what there was to choose from, evaluated on what was held out
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.files import disk_errors, no_file, read_json, remove_leftovers, write_json, write_text
from gol_decouple.locks import locked
from gol_decouple.progress import Progress

if TYPE_CHECKING:  # pydantic takes as long to import as a report takes to be made
    from gol_decouple.settings import Config

MANIFEST = "manifest.json"
CONFIG = "config.toml"
LOCK = ".lock"
STAGE2 = "stage2"
CANDIDATES = "candidates"
CHOICE = "choice.json"
TUNING = "tuning.json"
CHECKPOINT = "checkpoint.json"
PREDICTIONS = "predictions.npz"
FEATURES = "features.h5"
MODEL = "model.safetensors"
PER_CLASS = "per_class.csv"
WEIGHT_NORM = "weight_norm"  # a column of it, and of what it is of detection
LOG = "log.csv"
SESSIONS = "sessions.json"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
RENAME = "choose another --name or --runs-dir"


def open_run(config: Config, runs_dir: Path, overwrite: bool, progress: Progress) -> tuple[Path, bool]:
    """The folder of a config's run, and whether the run is finished and to be kept; nothing is created yet.

    Raises:
        InputError: the name belongs to a run with another config, or to something else.
    """
    from gol_decouple.config import differing_fields

    check_runs_dir(runs_dir)
    folder = runs_dir / config.name
    if not (folder / CONFIG).is_file():
        if folder.exists() and (not folder.is_dir() or any(not _is_trace(entry) for entry in folder.iterdir())):
            raise InputError(f"{folder} exists and is not a run", RENAME)
        return folder, False
    if overwrite:
        progress.say(f"replacing the run in {folder} (--overwrite)")
        return folder, False
    replace = f"{RENAME}, or replace the run and everything in it with --overwrite"
    try:
        differences = differing_fields(read_config(folder), config)
    except InputError as error:
        raise InputError(error.message, replace) from None
    if differences:
        raise InputError(f"run {folder} exists with another config: {'; '.join(differences)}", replace)
    if is_finished(folder) and not (folder / FEATURES).is_file():
        progress.say(f"{folder} has no {FEATURES} any more: making it again")
        return folder, False
    return folder, is_finished(folder)


def create_run(folder: Path, config: Config, overwrite: bool = False) -> None:
    """Make the run's folder and write its resolved config.

    What is to be overwritten goes only now, after everything that can be wrong with the new run was found.
    """
    from gol_decouple.config import to_toml

    if overwrite and folder.is_dir():
        _remove(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
    write_text(folder / CONFIG, to_toml(config))


@contextmanager
def working_on(folder: Path, hint: str = "wait until it is done, or choose another --name") -> Iterator[None]:
    """Makes the run's folder and keeps other processes from working on it; those that only read are not kept out.

    Folders that were made here, and that nothing was written into, are removed.

    Raises:
        EnvironmentFailure: another process does, or the folder cannot be written.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with ExitStack() as stack:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(locked(folder / LOCK))
        if not is_ours:
            raise EnvironmentFailure(f"another process is working on {folder}", hint)
        remove_leftovers(folder)
        try:
            yield
        finally:
            if made and [entry.name for entry in folder.iterdir()] == [LOCK]:
                with suppress(OSError):
                    (folder / LOCK).unlink()
                    for one in made:
                        one.rmdir()


def is_finished(folder: Path) -> bool:
    """Whether everything in a run folder, or in the folder of a retrained classifier, is there."""
    return (folder / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Declare `folder` finished."""
    write_json(folder / MANIFEST, manifest)


def read_config(folder: Path) -> Config:
    """The config of a run, finished or not.

    Raises:
        InputError: the folder is no run, or its config cannot be read.
    """
    from gol_decouple.config import load_config

    if not (folder / CONFIG).is_file():
        if os.path.lexists(path := folder / CONFIG):
            raise InputError(f"{path} {no_file(path)}", "put a copy of it back: it has the settings of the run")
        if (folder / STAGE2).is_dir():
            told = f"{folder} has results of features that were made elsewhere, and no {CONFIG}"
            raise InputError(told, f"name the features file instead, such as {folder.name}.h5")
        raise InputError(f"{folder} is no run: it has no {CONFIG}", runs_in(folder))
    config = load_config(str(path := folder / CONFIG))
    if "methods" not in config.model_fields_set:
        # Every run's is written with it; what is cut off between two lines is valid TOML.
        hint = "put a copy of it back; if it is whole, of an older version, add [methods] as its last line"
        raise InputError(f"{path} ends before its last section, [methods]: the file was cut off", hint)
    return config


def method_settings(config: Config | None) -> dict[str, dict[str, Any]]:
    """What a config says of single methods: their changed settings by name."""
    return {name: own.changes for name, own in config.methods.items()} if config else {}


class Method(Protocol):
    """What a folder's name takes from a `methods.Method`."""

    @property
    def name(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


def classifier_key(
    method: Method, changed_settings: Mapping[str, Any], seed: int, fingerprint: str, trained_on: str = ""
) -> str:
    """The name of one retrained classifier's folder: method, differences from its defaults, seed, short hash.

    The hash covers every setting and the features, so results of other features are never taken for these.

    Args:
        trained_on: tells which samples, if not all of train.
    """
    changes = [f"{name}{setting_text(value)}" for name, value in sorted(changed_settings.items())]
    told = [method.as_dict() | {"paper": ""}, seed, fingerprint, *([trained_on] if trained_on else [])]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    changes += [trained_on.replace(" ", "")] if trained_on else []
    return "-".join([method.name, *changes, f"seed{seed}", digest])


def check_output(folder: Path, option: str) -> None:
    """Raise an InputError unless other files than a run's may be written into a folder, which need not be there.

    Args:
        option: what names it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option} {folder} is not a folder", "name a folder; it is made if it is not there")
    if (folder / CONFIG).is_file() or (folder / MANIFEST).is_file():
        raise InputError(f"{option} {folder} is a run", "name a folder outside of it, or a new one in it")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder."""
    path = folder / MANIFEST
    return read_json(path, make_again(path))


def make_again(path: Path) -> str:
    """A hint for what is wrong with a manifest, or with what one says is finished."""
    return f"remove {path} and repeat the command that made it: it continues where it was"


def not_finished(run: Path) -> InputError:
    """What to tell of a run whose stage one was interrupted, or that lacks something of it."""
    if any(run.glob(f"{FEATURES}.shard.*")):
        hint = f"gol-decouple merge {shlex.quote(str(run))}, once every process has written its own"
        return InputError(f"the features of {run} are in shards", hint)
    again = stage1_command(run)
    for path in (run / MANIFEST, run / FEATURES):
        if os.path.lexists(path) and (wrong := no_file(path)) is not None:
            return InputError(f"{path} {wrong}", f"remove that, and continue: {again}")
    return InputError(f"stage one of {run} is not finished", f"continue it: {again}")


def stage1_command(run: Path) -> str:
    """The command that continues a run, or makes again what is missing of it."""
    command = ["gol-decouple", "stage1", run / CONFIG, "--runs-dir", run.parent, "--name", run.name]
    return shlex.join(str(part) for part in command)


def runs_in(folder: Path) -> str:
    """A hint that names the runs in a folder."""
    found = sorted(str(path.parent) for path in folder.glob(f"*/{CONFIG}"))
    return f"runs in {folder}: {', '.join(found)}" if found else "gol-decouple stage1 CONFIG makes a run"


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def check_runs_dir(runs_dir: Path) -> None:
    """Raise an InputError if something else than a folder is in the place of the runs."""
    if runs_dir.exists() and not runs_dir.is_dir():
        raise InputError(f"--runs-dir {runs_dir} is not a folder", "name a folder; it is made if it is not there")


def _is_trace(entry: Path) -> bool:
    """What a process leaves that was killed before it wrote its config."""
    return entry.name == LOCK or ".tmp." in entry.name


def _remove(folder: Path) -> None:
    """Empty a run's folder, its config last, so that being killed in between leaves a run that is not finished."""
    with disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == CONFIG):
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def setting_text(value: Any) -> str:
    """A setting's value, as folders and lists show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
