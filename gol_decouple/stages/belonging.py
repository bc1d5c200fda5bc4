"""Whether the files of a run belong together: its features, its model, and its manifest, which tells of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gol_decouple import belonging, runs, sealed_tensors
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.extract import tensors_sha256
from gol_decouple.features.metadata import rebuild_hint
from gol_decouple.files import disk_errors, write_json
from gol_decouple.progress import Progress
from gol_decouple.targets import Target


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


def load_tensors(run: Path, facts: Mapping[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """The model that a run's stage one ended with, as tensors by name.

    Args:
        facts: those of the features it has to be of; unset: of the run's manifest. Without a checksum there, all is
            well.

    Raises:
        InputError: its file cannot be read, is damaged, or is not the model that the run's features are of.
    """
    path = run / runs.MODEL
    try:
        tensors = sealed_tensors.load(path).tensors
    except ValueError as error:
        raise unreadable_model(run, str(error)) from None
    backbone = (belonging.own_features(run) if facts is None else facts).get("backbone")
    before = backbone.get("sha256") if isinstance(backbone, dict) else None
    if before is not None and before != (found := tensors_sha256(tensors)):
        differ = belonging.told({"backbone": {"sha256": before}}, {"backbone": {"sha256": found}})
        raise InputError(
            f"{path} does not hold the weights that the features of {run} are of: {differ}", _model_again(run)
        )
    return tensors


def unreadable_model(run: Path, reason: str) -> InputError:
    """What to tell of a run whose weights cannot be used."""
    told = " ".join(reason.split())  # PyTorch's is of several lines
    return InputError(f"the model in {run / runs.MODEL} cannot be read: {told}", _model_again(run))


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


def _model_again(run: Path) -> str:
    return f"remove {run / runs.MANIFEST} and run: {runs.stage1_command(run)}"
