"""Whether a run that was repeated came out the same: bit by bit, or how far apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gol_decouple import runs
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.progress import Progress
from gol_decouple.stages.belonging import load_tensors
from gol_decouple.stages.classifier_file import load_classifier

_ROWS_AT_ONCE = 4096
# Figures of a manifest that say how good a classifier is.
_FIGURES = ("metrics", "detection")

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Compared:
    """One thing of a run, and what it was when repeated.

    Attributes:
        what: "stage one", "features", or a method's name; `settings` and `seed` are those of a classifier.
        equal: whether all that there is of it is, bit by bit: weights or features, and figures.
        difference: the largest of weights or features; None: it is not there any more, or of another shape.
        before, after: top-1 or AP, in percent; None: it has none.
    """

    what: str
    equal: bool
    difference: float | None
    before: float | None = None
    after: float | None = None
    settings: Mapping[str, Any] | None = None
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def compare_models(run: Path, repeated: Path, progress: Progress) -> list[Compared]:
    """What two runs' stages one ended with: the model with its figures, and the features."""
    before, after = runs.read_manifest(run), runs.read_manifest(repeated)
    if (run / runs.MODEL).is_file():
        pair = load_tensors(run, {}), load_tensors(repeated, {})
        model = _compared("stage one", same(*pair), largest(*pair), before, after)
    else:
        alike = before.get("inputs", {}).get("weights_sha256") == after["inputs"]["weights_sha256"]
        model = _compared("stage one", alike, 0.0 if alike else None, before, after)
    fingerprints = before["features"]["fingerprint"], after["features"]["fingerprint"]
    if fingerprints[0] == fingerprints[1]:
        return [model, Compared("features", True, 0.0)]
    path = run / runs.FEATURES
    apart = _features(open_features(path), open_features(repeated / runs.FEATURES), progress) if path.exists() else None
    return [model, Compared("features", False, apart)]


def compare_classifiers(folder: Path, repeated: Path | None) -> Compared:
    """Two classifiers with their figures; None: the second could not be made."""
    before = runs.read_manifest(folder)
    told = {"settings": before.get("changed_settings", {}), "seed": before["seed"]}
    if repeated is None:
        return Compared(before["method"], False, None, _figure(before), None, **told)
    one, other = load_classifier(folder), load_classifier(repeated)
    pair = one.tensors(), other.tensors()
    alike = same(*pair) and one.normalise == other.normalise
    return _compared(before["method"], alike, largest(*pair), before, runs.read_manifest(repeated), told)


def same(one: Tensors, other: Tensors) -> bool:
    """Whether tensors have the same names, types and shapes, and the same bits."""
    return _kinds(one) == _kinds(other) and all(
        torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one[name], other[name])))
        for name in one
    )


def largest(one: Tensors, other: Tensors) -> float | None:
    """The largest absolute difference; None: they have other names, types or shapes."""
    if _kinds(one) != _kinds(other):
        return None
    apart = [(one[name].double() - other[name].double()).abs().nan_to_num(torch.inf) for name in one]
    return max((float(values.max()) for values in apart if values.numel()), default=0.0)


def _kinds(tensors: Tensors) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _features(one: FeaturesFile, other: FeaturesFile, progress: Progress) -> float | None:
    """The largest difference between the features of two files; None: they have other shapes, or orders of rows."""
    if one.splits != other.splits or any(one[name].features.shape != other[name].features.shape for name in one.splits):
        return None
    apart = 0.0
    total = sum(one[name].features.shape[0] * len(one[name]) for name in one.splits)
    with progress.bar("comparing features", total, "rows") as bar:
        for name in one.splits:
            pair = one[name].features, other[name].features
            for view in range(pair[0].shape[0]):
                for start in range(0, len(one[name]), _ROWS_AT_ONCE):
                    parts = [torch.from_numpy(array[view, start : start + _ROWS_AT_ONCE]).double() for array in pair]
                    apart = max(apart, float((parts[0] - parts[1]).abs().max()))
                    bar.advance(len(parts[0]), name)
    return apart


def _compared(
    what: str,
    alike: bool,
    apart: float | None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    told: Mapping[str, Any] | None = None,
) -> Compared:
    figures = all(before.get(name) == after.get(name) for name in _FIGURES)
    return Compared(what, alike and figures, apart, _figure(before), _figure(after), **(told or {}))


def _figure(manifest: Mapping[str, Any]) -> float | None:
    """Top-1, or of detections AP: of masks where they were evaluated."""
    try:
        detection = manifest.get("detection")
        found = manifest["metrics"]["top1"] if detection is None else (detection["masks"] or detection["boxes"])["ap"]
        return None if found is None else float(found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a manifest of {manifest.get('run')} tells no figures: {error}") from None
