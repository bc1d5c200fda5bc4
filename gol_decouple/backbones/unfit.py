"""Predictors that were left out when a detector was loaded and never trained: their weights mean nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection import MaskRCNN

from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_layouts import CLASSIFIER, MASKS, REGRESSOR
from gol_decouple.errors import InputError

METADATA = "gol_decouple.unfit"  # of our own safetensors files
# What has rows for each class, and is left out where the classes are others: all of one, or nothing.
PREDICTORS = {CLASSIFIER: "classifier", REGRESSOR: "box regressor", MASKS: "mask predictor"}


def lacking(match: Match | None) -> tuple[str, ...]:
    """Those of `PREDICTORS` that were not loaded."""
    return tuple(name for name in PREDICTORS if match is None or f"{name}weight" not in match.found)


def mark(detector: MaskRCNN, match: Match | None, epochs: int) -> None:
    """Give a detector that was just loaded its attribute `unfit`: predictors that nothing will ever have fitted.

    A box regressor among them is made to leave all boxes where they are, as the features file without one does.
    """
    detector.unfit = () if epochs else lacking(match)
    if REGRESSOR in detector.unfit:
        for parameter in detector.roi_heads.box_predictor.bbox_pred.parameters():
            torch.nn.init.zeros_(parameter)


def metadata(unfit: Collection[str]) -> dict[str, str]:
    """The metadata of a safetensors file that `read` reads."""
    return {METADATA: json.dumps(list(unfit))} if unfit else {}


def read(notes: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Those of `PREDICTORS` that a file says it has no weights for.

    Raises:
        InputError: it says something else there.
    """
    try:
        told = json.loads(notes.get(METADATA, "[]"))
        if not isinstance(told, list) or not all(isinstance(name, str) and name in PREDICTORS for name in told):
            raise ValueError(told)
    except (ValueError, TypeError, RecursionError):
        hint = "save it again without this metadata"
        raise InputError(f"the metadata {METADATA} of {path} is damaged", hint) from None
    return tuple(told)
