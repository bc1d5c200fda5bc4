"""Whether the files of a run belong together: its features, its model, and its manifest, which tells of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gol_decouple import belonging, runs
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.extract import tensors_sha256
from gol_decouple.features.metadata import rebuild_hint
from gol_decouple.files import disk_errors, write_json
from gol_decouple.progress import Progress
from gol_decouple.runs import Target


def open_own(target: Target) -> FeaturesFile:
    """The features that stage two works on; those of a run are the ones that its stage one wrote.

    Raises:
        InputError: a file that cannot be used, or that is not of the run; it names the fields that differ.
    """
    features = open_features(target.features)
    if target.config is None:
        return features
    own = belonging.own_features(target.folder)
    if own.get("fingerprint", features.fingerprint) != features.fingerprint:
        differ = belonging.told(own, facts_of(features))
        told = f"{features.path} is not the features file that stage one of {target.folder} wrote: {differ}"
        raise InputError(told, rebuild_hint(features.path))
    return features


def check_model(run: Path, told: dict[str, Any] | None = None) -> None:
    """Raise an InputError unless a run's model has the weights that its features are of.

    Args:
        told: the facts of the features; unset: those of the run's manifest. Without a checksum there, all is well.

    Raises:
        InputError: it has not, or cannot be read.
    """
    facts = belonging.own_features(run) if told is None else told
    backbone = facts.get("backbone")
    before = backbone.get("sha256") if isinstance(backbone, dict) else None
    path = run / runs.MODEL
    if before is None:
        return
    try:
        found = tensors_sha256(_tensors(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"the model in {path} cannot be read: {error}", _model_again(run)) from None
    if found != before:
        differ = belonging.told({"backbone": {"sha256": before}}, {"backbone": {"sha256": found}})
        raise InputError(
            f"{path} does not hold the weights that the features of {run} are of: {differ}", _model_again(run)
        )


def facts_of(features: FeaturesFile) -> dict[str, Any]:
    """What a manifest, or the record of a folder that is no run, tells of the features that results are of."""
    return {**features.facts, "fingerprint": features.fingerprint, "checked": features.checked}


def note_features(folder: Path, facts: dict[str, Any], progress: Progress) -> None:
    """Write down which features the results in a folder are of, that is no run; tell if there are others' in it.

    Args:
        facts: of the features, with their fingerprint.
    """
    before = belonging.own_features(folder)
    if before.get("fingerprint") == facts["fingerprint"]:
        return
    if before:
        progress.warn(
            f"{folder} has results of other features ({belonging.told(before, facts)}): they stay, and reports leave "
            "them out"
        )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / belonging.RECORD, facts)


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            yield name, file.get_tensor(name)


def _model_again(run: Path) -> str:
    return f"remove {run / runs.MANIFEST} and run: {runs.stage1_command(run)}"
