"""Whether what a run was made from is as it was then, and where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.data import load_data
from gol_decouple.data.lvis import load_annotated
from gol_decouple.errors import InputError
from gol_decouple.features import open_features
from gol_decouple.features.extract import tensors_sha256
from gol_decouple.files import file_sha256
from gol_decouple.settings import Config
from gol_decouple.stages.belonging import load_tensors
from gol_decouple.stages.classifier_file import load_classifier
from gol_decouple.stages.recorded import Manifest, Recorded, inputs_of


def check_inputs(recorded: Recorded) -> Config | None:
    """The run's config with paths that are found from here, if all that its results rest on is as it was.

    Its own files are looked at first: results that were changed since say nothing.

    Raises:
        InputError: something has changed, is not there any more, or cannot be read.
    """
    changed = [*_own_files(recorded), *_annotations(recorded)]
    config = recorded.config
    if config is not None:
        config = located(config, recorded.stage_one or next(iter(recorded.classifiers.values())))
    if recorded.stage_one is None:
        changed += _features(recorded)
    elif config is not None:
        changed += _stage_one(config, recorded.stage_one, recorded.run / runs.FEATURES)
    if changed:
        told = f"{recorded.run} cannot be repeated: {'; '.join(changed)}"
        raise InputError(told, "put back what it was made from, or make a new run of what there is now")
    return config


def located(config: Config, manifest: Manifest) -> Config:
    """A config whose paths lead where they did when a manifest was written, if that is still there.

    Paths are relative to the folder in which the command was given.
    """
    tree = config.model_dump(mode="json", exclude_none=True)
    data = tree["data"]
    if config.data.kind in ("cifar10", "cifar100"):
        data.setdefault("path", "data")
    start = Path(str(manifest.get("folder") or "."))
    places: list[tuple[dict[str, Any], str]] = [(data, "path"), (data["lists"], "folder")]
    places += [(data["annotations"], "folder"), (tree["stage1"], "checkpoint")]
    for section, name in places:
        if name in section and not Path(section[name]).is_absolute():
            there = [path for path in (start / section[name], Path(section[name])) if path.exists()]
            section[name] = str(there[0].absolute()) if there else section[name]
            if (section, name) == (data, "path"):
                data.setdefault("name", manifest["dataset"])  # which could be of the path as it was written
    return Config.model_validate(tree)


def _own_files(recorded: Recorded) -> list[str]:
    """Which results are not those that their manifests tell of; former versions told nothing."""
    changed = []
    wanted = None if recorded.stage_one is None else inputs_of(recorded.stage_one).get("weights_sha256")
    there = wanted is not None and (recorded.run / runs.MODEL).is_file()
    if there and tensors_sha256(load_tensors(recorded.run, {})) != wanted:
        changed.append(f"{recorded.run / runs.MODEL} was changed after it was made")
    for folder, manifest in recorded.classifiers.items():
        found = tensors_sha256(load_classifier(folder).tensors())
        if manifest.get("classifier_sha256", found) != found:
            changed.append(f"the classifier in {folder} was changed after it was made")
    return changed


def _annotations(recorded: Recorded) -> list[str]:
    """Which files of annotations, that classifiers of RoIs are evaluated with, are others now."""
    named = [inputs_of(manifest).get("annotations") for manifest in recorded.manifests]
    files = {told["path"]: told["sha256"] for told in named if told}
    return [told for path, sha256 in files.items() for told in _file("the file of annotations", Path(path), sha256)]


def _features(recorded: Recorded) -> list[str]:
    """Whether classifiers were trained on other features than there are now."""
    path = recorded.features
    if not path.is_file():
        hint = "gol-decouple rerun of the run makes them again" if recorded.config else "put it back where it was"
        raise InputError(f"the features {path}, on which the classifiers were trained, are not there any more", hint)
    found = open_features(path).fingerprint
    others = [folder for folder, told in recorded.classifiers.items() if told["features"]["fingerprint"] != found]
    return [f"the features {path} are not those that {folder} was trained on" for folder in others]


def _stage_one(config: Config, manifest: Manifest, features: Path) -> list[str]:
    """Whether data and checkpoint are those of stage one."""
    changed, told = [], inputs_of(manifest)
    if checkpoint := told.get("checkpoint"):
        path = Path(config.stage1.checkpoint or checkpoint["path"])
        changed += _file("the checkpoint", path, checkpoint["sha256"])
    wanted = told.get("dataset_sha256")
    if wanted is None and features.is_file():
        wanted = open_features(features).origin.get("dataset", {}).get("sha256")
    dataset = load_annotated(config.data) if config.detector is not None else load_data(config.data)
    if wanted is not None and dataset.sha256 != wanted:
        place = f" in {config.data.path}" if config.data.path else ""
        changed.append(f"the dataset {dataset.name}{place} has changed since")
    return changed


def _file(what: str, path: Path, sha256: str | None) -> list[str]:
    if not path.is_file():
        return [f"{what} {path} is not there any more"]
    return [] if sha256 is None or file_sha256(path) == sha256 else [f"{what} {path} has changed since"]
