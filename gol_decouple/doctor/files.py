"""Single files: what each is by its name or content, and what the reader that the stages use makes of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from gol_decouple import belonging, predictions, runs
from gol_decouple.backbones.tensor_files import read_contents
from gol_decouple.config import load_config
from gol_decouple.detection.figures import CLASS_AP
from gol_decouple.doctor.features import features_file, unfinished_file
from gol_decouple.doctor.findings import Finding, State, examined
from gol_decouple.errors import InputError
from gol_decouple.features.logs import is_shard
from gol_decouple.files import no_file, read_json
from gol_decouple.progress import Progress
from gol_decouple.report.rows import read_choice, read_row, train_counts
from gol_decouple.stages.belonging import load_tensors
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.finding import find_retrained
from gol_decouple.stages.gradients import GRADIENTS, read_gradients
from gol_decouple.stages.rerun import RERUN
from gol_decouple.stages.restored import read_classes, retrained
from gol_decouple.stages.sessions import sessions_of
from gol_decouple.stages.states import STATE, read_state
from gol_decouple.stages.training_log import read_log, seconds_of
from gol_decouple.stages.training_state import LAST, PREVIOUS, read_checkpoint

_TENSORS = (".safetensors", ".pth", ".pt", ".pkl", ".tar", ".bin", ".ckpt")


def _config(path: Path) -> str:
    return f"of {load_config(str(path)).name}"


def _manifest(path: Path) -> str:
    row = read_row(path.parent)
    return f"of {row['method']}, seed {row['seed']}"


def _tensors(path: Path) -> str:
    return _counted(read_contents(path).tensors.values())


def _model(path: Path) -> str:
    """By its manifest, as `_classifier`."""
    try:
        facts = belonging.own_features(path.parent)
    except InputError:
        facts = {}
    return _counted(load_tensors(path.parent, facts).values())


def _counted(tensors: Collection[torch.Tensor]) -> str:
    return f"{len(tensors):,} tensors, {sum(tensor.numel() for tensor in tensors):,} values"


def _training(path: Path) -> str:
    """A run goes on from the other checkpoint, and a finished one needs neither."""
    try:
        return f"after {read_checkpoint(path)['epochs_done']} epochs"
    except InputError as error:
        other = path.with_name(PREVIOUS if path.name == LAST else LAST)
        hint = f"stage one goes on from {other.name}, if that is in order; else --overwrite trains from the start"
        if runs.is_finished(path.parent):
            hint = f"the run is finished and does not need it: rm {shlex.quote(str(path))}"
        raise InputError(error.message, hint) from None


def _log(path: Path) -> str:
    """That of stage one, beside its config, tells times too."""
    if (path.parent / runs.CONFIG).is_file():
        return f"{seconds_of(path.parent):,.0f} seconds"
    return f"{len(read_log(path)['epoch'])} epochs"


def _state(path: Path) -> str:
    try:
        state, _ = read_state(path.parent)
    except ValueError as error:
        told = f"{path} cannot be read: {error}"
        raise InputError(told, f"remove {path}: the classifier is then trained from its start") from None
    return f"after {len(state.history)} epochs"


def _classifier(path: Path) -> str:
    """By its manifest, if that can be read; what is wrong with the manifest is not told again."""
    folder = path.parent
    try:
        row = read_row(folder)
    except InputError:
        return _tensors(path)
    size = runs.read_manifest(folder)["features"].get("size")
    if not isinstance(size, int):
        return _tensors(path)
    found = find_retrained(folder.parent.parent, folder)
    classifier, _ = retrained(found, (len(train_counts(row)), size))
    return f"{list(classifier.weight.shape)}"


def _num_classes(folder: Path) -> int | None:
    try:
        return len(train_counts(read_row(folder)))
    except InputError:
        return None


def _classes(path: Path) -> str:
    count = _num_classes(path.parent)
    if count is None:
        return "not compared with its manifest"
    columns = ["name", "category_id"] if path.name == CLASS_AP else ["name"]
    return f"{len(read_classes(path, columns, count)):,} classes"


def _gradients(path: Path) -> str:
    count = _num_classes(path.parent)
    if count is None:
        return "not compared with its manifest"
    return f"{len(read_gradients(path.parent, count))} epochs"


def _predictions(path: Path) -> str:
    return f"of {len(predictions.read(path).ids):,} samples"


def _choice(path: Path) -> str:
    return f"of {len(read_choice(path)['tried'])} settings"


def _sessions(path: Path) -> str:
    return f"{len(sessions_of(path.parent)):,} in all"


def _json(path: Path) -> str:
    return f"{len(read_json(path, f'remove {path} to go without')):,} entries"


# By name, in the folder of a run or of a classifier.
MEMBERS: dict[str, tuple[str, Callable[[Path], str]]] = {
    runs.CONFIG: ("config", lambda path: f"of {runs.read_config(path.parent).name}"),
    runs.MANIFEST: ("manifest", _manifest),
    LAST: ("checkpoint of stage one", _training),
    PREVIOUS: ("checkpoint of stage one", _training),
    runs.LOG: ("log of the training", _log),
    runs.SESSIONS: ("sessions of the training", _sessions),
    runs.MODEL: ("model", _model),
    CLASSIFIER: ("classifier", _classifier),
    STATE: ("state of a training", _state),
    runs.PER_CLASS: ("table of classes", _classes),
    CLASS_AP: ("table of classes", _classes),
    runs.PREDICTIONS: ("predictions", _predictions),
    GRADIENTS: ("gradients", _gradients),
    runs.CHOICE: ("choice of settings", _choice),
    runs.TUNING: ("what was tried", _json),
    belonging.RECORD: ("record of features", _json),
    RERUN: ("what a rerun compared", _json),
    runs.CHECKPOINT: ("what was loaded", _json),
}


def examine_file(path: Path, progress: Progress) -> Finding:
    """Any one file; what it is goes by its name, then by how it begins."""
    if path.name in MEMBERS and (path.suffix != ".pt" or (path.parent / runs.CONFIG).is_file()):
        kind, read = MEMBERS[path.name]
        return examined(path, kind, lambda: read(path))
    if is_unfinished(path):
        return unfinished_file(path, "the command that was writing it")
    if path.suffix in (".h5", ".hdf5") or (no_file(path) is None and _is_hdf5(path)):
        return features_file(path, progress)
    if path.suffix in _TENSORS:
        return examined(path, "checkpoint", lambda: _tensors(path))
    if path.suffix == ".toml":
        return examined(path, "config", lambda: _config(path))
    told = f"{path} is nothing that doctor knows"
    return Finding(path, "file", State.damaged, told, "features files (.h5), checkpoints and runs can be examined")


def is_unfinished(path: Path) -> bool:
    """Whether a file is called as features files are while they are written, or shares of them."""
    return path.name.endswith(".h5.partial") or is_shard(path)


def lacking(folder: Path) -> list[Finding]:
    """The weights of a finished classifier, if they are not there; means of a cascade have none."""
    path = folder / CLASSIFIER
    if "cascade" in runs.read_manifest(folder) or os.path.lexists(path):
        return []
    hint = f"remove {folder} and repeat the command that made it"
    return [Finding(path, "classifier", State.damaged, f"{folder} has no {CLASSIFIER} any more", hint)]


def _is_hdf5(path: Path) -> bool:
    try:
        return runs.is_hdf5(path)
    except OSError:
        return False


def next_command(run: Path) -> str:
    """What goes on with a run whose stage one is not finished."""
    hint = runs.not_finished(run).hint
    return hint.removeprefix("continue it: ") if hint else f"gol-decouple stage1 {shlex.quote(str(run / runs.CONFIG))}"
