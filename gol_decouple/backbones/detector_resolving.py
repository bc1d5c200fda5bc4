"""A detector's config with what it leaves to the backbone filled in; settings that do nothing there are refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gol_decouple.backbones.checkpoint_settings import filled_from_checkpoint
from gol_decouple.backbones.conventions import usual_of
from gol_decouple.detector_settings import ConventionsConfig
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config, TransformConfig

_OF_IMAGES = ("is for images of one label", "leave it unset: a detector has detector.min_size and transform.flip")
_OF_LISTS = ("is not for annotations in LVIS's format", "leave it unset")
# Settings that a detector would silently leave aside.
_UNUSED: tuple[tuple[str, tuple[str, ...], tuple[str, str]], ...] = (
    ("transform", tuple(TransformConfig.model_fields.keys() - {"flip", "mean", "std"}), _OF_IMAGES),
    ("stage1", ("mixup", "label_smoothing", "sync_batchnorm"), _OF_IMAGES),
    ("features", ("views",), ("is for images of one label", "leave it unset: each image has many RoIs")),
    (
        "data",
        ("lists", "class_names", "skip", "val_fraction", "test_fraction", "imbalance_factor", "imbalance_type"),
        _OF_LISTS,
    ),
)


def resolve_detector(config: Config, progress: Progress = SILENT) -> Config:
    """`config`, of `data.kind = "lvis"`, with the normalisation that its backbone takes, and with all that its
    checkpoint was made with.

    Args:
        progress: is told what the checkpoint says.

    Raises:
        InputError: a setting that only images of one label have, a sampler that needs one label, or a checkpoint that
            cannot be read, is another detector's, or has a classifier that the config cannot be for.
    """
    for section, keys, (why, hint) in _UNUSED:
        for key in _changed(getattr(config, section), sorted(keys)):
            raise InputError(f"{section}.{key} {why}, and data.kind = 'lvis' has boxes", hint)
    if config.stage1.sampler == "class_balanced":
        raise InputError(
            "stage1.sampler = 'class_balanced' needs images of one label, and data.kind = 'lvis' has boxes",
            "--set stage1.sampler=repeat_factor",
        )
    if config.stage1.checkpoint is not None:
        return filled_from_checkpoint(config, Path(config.stage1.checkpoint), progress)
    if config.detector is not None and config.detector.activation not in (None, "softmax"):
        raise InputError(
            f"detector.activation = {config.detector.activation!r} is of a classifier that is loaded, and none is",
            "--checkpoint names the detector that has it; what is trained here is softmax",
        )
    conventions = config.detector.conventions if config.detector is not None else ConventionsConfig()
    if conventions.channels == "bgr":
        told = "detector.conventions.channels = 'bgr' is of weights that are loaded, and none are"
        raise InputError(told, "--checkpoint names them; what is trained here takes red first")
    usual = usual_of(conventions.framework or "torchvision", config.backbone.name)
    own = {"mean": usual.mean, "std": usual.std}
    unset = {key: value for key, value in own.items() if getattr(config.transform, key) is None}
    return config.model_copy(update={"transform": config.transform.model_copy(update=unset)})


def refuse_detector_settings(config: Config) -> None:
    """Refuse what only a detector has, in a config of images with one label.

    Raises:
        InputError: there is such a setting.
    """
    where = f"data.kind = {config.data.kind!r} has no boxes"
    if config.detector is not None:
        raise InputError(f"there is a section [detector], but {where}", "--set data.kind=lvis, or leave it out")
    if config.stage1.sampler == "repeat_factor":
        hint = "--set stage1.sampler=class_balanced"
        raise InputError(f"stage1.sampler = 'repeat_factor' is for images with boxes, but {where}", hint)


def _changed(section: BaseModel, keys: Iterable[str]) -> list[str]:
    """Those of a section's keys that are not what they are by default."""
    defaults: dict[str, Any] = {key: type(section).model_fields[key].default for key in keys}
    return [key for key, default in defaults.items() if getattr(section, key) != default]
