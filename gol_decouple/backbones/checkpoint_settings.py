"""A detector's config with what its checkpoint was made with filled in, and each setting's source told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gol_decouple.backbones.conventions import MEAN, STD, filled, usual_of
from gol_decouple.backbones.detector_facts import Facts, facts_of
from gol_decouple.backbones.detector_layouts import refuse_others
from gol_decouple.backbones.tensor_files import Contents, dotted, read_contents
from gol_decouple.detector_settings import ConventionsConfig, Framework
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import Progress
from gol_decouple.settings import Config

# Beside all of detector.conventions: what a checkpoint says, or its framework usually has.
_OTHERS = ("transform.mean", "transform.std", "detector.activation", "detector.mask_predictor")
PROPOSALS_BEFORE_NMS = 1000  # of each level, in detectron2's and mmdetection's tests
_FRAMEWORK = "detector.conventions.framework"
_KEYS = (
    *(f"detector.conventions.{name}" for name in ConventionsConfig.model_fields),
    *_OTHERS,
    "detector.proposals_before_nms",
)


def filled_from_checkpoint(config: Config, path: Path, progress: Progress) -> Config:
    """`config` with what it leaves unset as its checkpoint says, or else as the checkpoint's framework usually has it.

    Raises:
        InputError: the checkpoint cannot be read, is another detector's, or has a classifier of another activation
            than can be trained or is set.
    """
    contents = read_contents(path)
    facts = look_at(contents, path)
    by_user, said = _set_by_user(config), facts.stated.settings
    if facts.framework not in (None, "torchvision"):
        said = {_FRAMEWORK: facts.framework, **said}
    stated = _updated(config, {**said, **by_user}, path).detector
    assert stated is not None  # as data.kind = "lvis" has it
    framework = stated.conventions.framework or facts.framework or "torchvision"
    by_usual = _usual(framework, config.backbone.name, facts)
    found = {**by_usual, **said, **by_user}
    filled = _updated(config, found, path)
    if facts.framework is not None:
        sources = {"set here": by_user, "the file says": said, f"usual of {framework}": by_usual}
        _tell(path, facts, sources, progress)
        _warn(path, by_user, said, progress)
        _warn_of_size(path, filled, facts, progress)
    _check_classifier(filled, facts, path)
    return filled


def detector_settings(config: Config) -> dict[str, Any]:
    """What a file with the weights of a config's detector should say of itself, whatever they came from.

    Its first layer takes red first: it was turned when it was loaded.
    """
    settings, transform = config.detector, config.transform
    assert settings is not None
    conventions = filled(settings.conventions).model_dump(mode="json") | {"channels": "rgb"}
    return {f"detector.conventions.{name}": value for name, value in conventions.items()} | {
        "transform.mean": list(transform.mean or MEAN),
        "transform.std": list(transform.std or STD),
        "detector.activation": settings.activation or "softmax",
        "detector.mask_predictor": settings.mask_predictor,
        **({"detector.proposals_before_nms": settings.proposals_before_nms} if settings.proposals_before_nms else {}),
    }


def look_at(contents: Contents, path: Path) -> Facts:
    """What a checkpoint says of itself.

    Raises:
        InputError: it is another detector's.
    """
    refuse_others([dotted(keys) for keys in contents.tensors], path)
    return facts_of(contents, path)


def _usual(framework: Framework, backbone: str, facts: Facts) -> dict[str, Any]:
    usual = usual_of(framework, backbone)
    found = {f"detector.conventions.{name}": value for name, value in usual.settings.items()}
    found |= {"transform.mean": usual.mean, "transform.std": usual.std, "detector.mask_predictor": "standard"}
    if framework != "torchvision":
        found["detector.proposals_before_nms"] = PROPOSALS_BEFORE_NMS
    return found | ({"detector.activation": "softmax"} if facts.has_background else {})


def _set_by_user(config: Config) -> dict[str, Any]:
    """What the config sets of `_KEYS`."""
    found: dict[str, Any] = {}
    for key in _KEYS:
        *sections, name = key.split(".")
        section: Any = config
        for part in sections:
            section = getattr(section, part)
        # What is written out counts also where it is the default.
        if getattr(section, name) is not None and name in section.model_fields_set:
            found[key] = getattr(section, name)
    return found


def _updated(config: Config, found: Mapping[str, Any], path: Path) -> Config:
    tree = config.model_dump()
    for key, value in found.items():
        if key not in _KEYS:
            raise InputError(f"checkpoint {path} says something of {key!r}, which is no setting of detectors")
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section[part]
        section[name] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        where, why = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise InputError(f"checkpoint {path} says something of {where} that cannot be: {why}") from None


def _check_classifier(config: Config, facts: Facts, path: Path) -> None:
    """Refuse a classifier that nobody knows how to read, or that would be trained on as if it were Softmax."""
    assert config.detector is not None  # as data.kind = "lvis" has it
    activation = config.detector.activation
    is_taken = facts.stated.other_classifier is None
    if is_taken and not facts.has_background and activation in (None, "softmax"):
        told = f"the classifier of checkpoint {path} has no column for background, so it is no Softmax one"
        raise InputError(told, "--set detector.activation=gumbel or sigmoid, whichever it was trained with")
    if activation not in (None, "softmax") and config.stage1.epochs > 0:
        raise InputError(
            f"stage1.epochs = {config.stage1.epochs} trains Softmax, and the classifier of {path} is of {activation}",
            "--set stage1.epochs=0 caches its features; stage2 retrains the classifier",
        )


def _tell(path: Path, facts: Facts, sources: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
    """Say where each setting is from, the first of the sources that have it."""
    lines, told = [f"{path} is of {'this program' if facts.is_ours else facts.framework}:"], set[str]()
    for source, values in sources.items():
        if rest := {key: value for key, value in values.items() if key not in told}:
            lines.append(f"  {source:<22} {_text(rest)}")
        told |= values.keys()
    if facts.stated.tests is not None:
        lines.append(f"  {'tested there with':<22} {facts.stated.tests}")
    progress.say("\n".join(map(plain_line, lines)))


def _warn(path: Path, by_user: Mapping[str, Any], said: Mapping[str, Any], progress: Progress) -> None:
    for key, value in by_user.items():
        if key in said and not _same(value, said[key]):
            progress.warn(f"{_text({key: value})} is set, and {path} says {_value(said[key])}")


def _warn_of_size(path: Path, config: Config, facts: Facts, progress: Progress) -> None:
    """Other sizes of images than a detector was tested with change its AP more than most settings."""
    if facts.stated.sizes is not None and config.detector is not None:
        there, here = facts.stated.sizes, (config.detector.min_size, config.detector.max_size)
        if there != here:
            told = f"images are resized to {here[0]}, at most {here[1]}, and {path} was tested with {there[0]} and "
            told += str(there[1])
            progress.warn(f"{told} (detector.min_size, detector.max_size)")


def _text(values: Mapping[str, Any]) -> str:
    in_order = sorted(values, key=_KEYS.index)
    return " ".join(f"{key.removeprefix('detector.conventions.')}={_value(values[key])}" for key in in_order)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_value, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-9)
    return bool(one == other)
