"""A finished run that the same command finds again: kept, if its data and its checkpoint are still what it was made of.

Settings of stage two are no part of what a run is: new ones are written into its config.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gol_decouple import belonging, methods, runs
from gol_decouple.config import differing_stage2_settings, load_config, to_toml
from gol_decouple.data import SPLITS, load_data
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.data.images import ImageFiles
from gol_decouple.data.lvis import load_annotated
from gol_decouple.errors import InputError, few
from gol_decouple.files import file_sha256, read_json, write_text
from gol_decouple.progress import Progress
from gol_decouple.settings import Config, DataConfig
from gol_decouple.stages.belonging import open_own
from gol_decouple.targets import Target

# Kinds of data that users bring, and change; the others are published.
_OF_USERS = ("npz", "folder", "list", "lvis")
_AGAIN = "choose another --name for a run of what is there now, or replace this one with --overwrite"


def check_kept(folder: Path, config: Config, progress: Progress) -> None:
    """Look whether a finished run is still of the data and the checkpoint of its config, as far as they are there.

    Raises:
        InputError: it is not, and what has changed; or its features are not its own.
    """
    own = open_own(Target(folder / runs.FEATURES, folder, config)).facts
    check_checkpoint(folder, config.stage1.checkpoint, progress)
    if config.data.kind not in _OF_USERS:
        return
    if missing := next((path for path in _places(config.data) if not path.exists()), None):
        progress.say(f"note: {missing} is not there, so nobody can see whether {folder} is of the data as they are now")
        return
    progress.say(f"looking whether the data of {folder} are what they were")
    now = _facts_of(config.data)
    if now is None:
        progress.say(f"note: the image files of {folder} are not there, so nobody can see whether they have changed")
    elif differ := belonging.differences(_part_of(own, now), now):
        raise InputError(f"the data of {folder} have changed since it was made: {few(differ, 6)}", _AGAIN)


def check_checkpoint(folder: Path, checkpoint: str | Path | None, progress: Progress) -> None:
    """Raise an InputError if the file that a run has loaded is another one now; if it is gone, say so."""
    if checkpoint is None or not (folder / runs.CHECKPOINT).is_file():
        return
    before, path = read_json(folder / runs.CHECKPOINT, _AGAIN).get("sha256"), Path(checkpoint)
    if not path.is_file():
        progress.say(f"note: {path} is not there, so nobody can see whether it is what {folder} has loaded")
    elif before is not None and before != (now := file_sha256(path)):
        differ = belonging.told({"sha256": before}, {"sha256": now})
        raise InputError(f"{path} is another checkpoint than {folder} has loaded: {differ}", _AGAIN)


def take_stage2_settings(folder: Path, config: Config, progress: Progress) -> None:
    """Give a run the stage-two settings of a config that is otherwise its own, and tell what they are.

    One that is not finished is about to be given the whole config, once no other process works on it.

    Raises:
        InputError: settings that no method has.
        EnvironmentFailure: another process works on the run.
    """
    stored = load_config(str(folder / runs.CONFIG))
    if not (differ := differing_stage2_settings(stored, config)):
        return
    methods.configured("softmax", runs.method_settings(config), background=config.detector is not None)
    if runs.is_finished(folder):
        with runs.working_on(folder):
            changed = stored.model_copy(update={"stage2": config.stage2, "methods": config.methods})
            write_text(folder / runs.CONFIG, to_toml(changed))
    progress.say(f"{folder} takes new settings of stage two, which change no feature: {'; '.join(differ)}")


def _places(data: DataConfig) -> Iterator[Path]:
    """The files and folders that a config names."""
    named: list[tuple[str | None, str | None]] = [(None, data.path), (None, data.skip)]
    named += [(data.lists.folder or data.path, getattr(data.lists, split)) for split in SPLITS]
    named.append((data.lists.folder or data.path, data.class_names))
    named += [(data.annotations.folder or data.path, getattr(data.annotations, split)) for split in ("train", "val")]
    for folder, name in named:
        if name:
            yield Path(folder or "") / name


def _facts_of(data: DataConfig) -> dict[str, Any] | None:
    """What a features file would tell of the data; None if no image file is there. None of them is opened."""
    dataset = load_annotated(data, look=False) if data.kind == "lvis" else load_data(data, look=False)
    files = [split.images for split in dataset.splits.values() if isinstance(split.images, ImageFiles)]
    missing = sum(int((part.lengths < 0).sum()) for part in files)
    if files and missing == sum(map(len, files)):
        return None
    facts: dict[str, Any] = {
        "dataset": {"missing_files": missing} if missing else {"sha256": dataset.sha256},
        "classes": dataset.class_names,
        "images": {name: len(split) for name, split in dataset.splits.items()},
    }
    if isinstance(dataset, AnnotatedDataset):
        facts["frequency"] = "".join(dataset.frequency.tolist())
    return facts


def _part_of(own: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Of a features file's facts those that `_facts_of` gives."""
    dataset = {"missing_files": 0, **own.get("dataset", {})}
    return {name: own.get(name) for name in now} | {"dataset": {name: dataset.get(name) for name in now["dataset"]}}
