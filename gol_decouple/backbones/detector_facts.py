"""What a detector's checkpoint says of itself beside its weights: whose it is, and how that framework builds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gol_decouple.backbones.detector_layouts import CLASSIFIER, EXPORTED, MASKS, REGRESSOR, bare, layout_of, name_in
from gol_decouple.backbones.mmdetection_config import BYTES, DIGITS, Stated, parse, stated
from gol_decouple.backbones.tensor_files import Contents, dotted
from gol_decouple.detector_settings import Framework
from gol_decouple.errors import InputError

METADATA = "gol_decouple.detector"  # of our own safetensors files


@dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint before anything is loaded from it.

    Attributes:
        framework: whose names its tensors have; None: they are no detector's.
        is_ours: whether this program wrote it; its first layer takes red first then, whatever it once took.
        stated: what it says of itself.
        class_names: of its classes, in its order, if it has them.
        columns: of its classifier.
        num_classes: as its masks or boxes have them, if they are of single classes.
        is_agnostic: whether it has one box regressor for all classes.
    """

    framework: Framework | None
    is_ours: bool
    stated: Stated
    class_names: list[str] | None
    columns: int | None
    num_classes: int | None
    is_agnostic: bool

    @property
    def has_background(self) -> bool:
        """Whether its classifier has a column for background, as far as can be seen."""
        return self.columns is None or self.columns != self.num_classes


def facts_of(contents: Contents, path: Path) -> Facts:
    """What a checkpoint says of itself.

    Raises:
        InputError: it says what detectors here cannot do, or says it in a way that nobody does.
    """
    tensors = {bare(dotted(keys)): tensor for keys, tensor in contents.tensors.items()}
    framework = layout_of(tensors)
    rows = {
        part: len(tensors[name])
        for part in (CLASSIFIER, REGRESSOR, MASKS)
        if framework is not None and (name := name_in(framework, f"{part}bias")) in tensors
    }
    own = _own(contents.notes.get(METADATA), path)
    found = own if own is not None else Stated()
    if framework == "mmdetection":
        found = _of_mmdetection(contents.notes, path)
    elif framework == "detectron2":
        found = Stated(_of_buffers(tensors))
    return Facts(
        framework,
        own is not None,
        found,
        _class_names(contents.notes) if framework == "mmdetection" else None,
        rows.get(CLASSIFIER),
        _num_classes(rows, framework),
        rows.get(REGRESSOR) == 4,
    )


def metadata(settings: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a safetensors file that `facts_of` reads the settings of a detector from."""
    return {METADATA: json.dumps(dict(settings))}


def _num_classes(rows: Mapping[str, int], framework: Framework | None) -> int | None:
    background = 1 if framework == "torchvision" else 0
    if rows.get(MASKS, 0) > 1:
        return rows[MASKS] - background
    if rows.get(REGRESSOR, 0) > 4:
        return rows[REGRESSOR] // 4 - background
    return None


def _own(text: Any, path: Path) -> Stated | None:
    if text is None:
        return None
    try:
        return Stated(dict(json.loads(text)))
    except (ValueError, TypeError, RecursionError):
        hint = "save it again without this metadata"
        raise InputError(f"the metadata {METADATA} of {path} is damaged", hint) from None


def _of_mmdetection(notes: Mapping[str, Any], path: Path) -> Stated:
    text = notes.get("cfg", notes.get("config"))
    if not isinstance(text, str):
        return Stated()
    try:
        return stated(parse(text))
    except InputError as error:
        raise InputError(f"checkpoint {path} is of another detector: {error.message}", EXPORTED) from None


def _of_buffers(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What detectron2 stored of pixels: in bytes, and in the order in which the network takes colours."""
    mean, std = (tensors.get(name, torch.empty(0)).flatten().tolist() for name in ("pixel_mean", "pixel_std"))
    if len(mean) != 3 or len(std) != 3 or mean[0] == mean[2]:
        return {}
    blue_first = mean[0] < mean[2]  # photographs have more red than blue
    numbers = {"mean": mean[::-1], "std": std[::-1]} if blue_first else {"mean": mean, "std": std}
    return {"detector.conventions.channels": "bgr" if blue_first else "rgb"} | {
        f"transform.{name}": tuple(round(round(one, 4) / BYTES, DIGITS) for one in three)
        for name, three in numbers.items()
    }


def _class_names(notes: Mapping[str, Any]) -> list[str] | None:
    """Names of classes, of version 2 or 3."""
    told = notes.get("dataset_meta")
    told = {str(key).lower(): value for key, value in {**notes, **(told if isinstance(told, Mapping) else {})}.items()}
    names = told.get("classes")
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return list(names)
    return None
