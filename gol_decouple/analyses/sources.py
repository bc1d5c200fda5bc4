"""What there is to analyse of a run: its classes by frequency, and its finished classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gol_decouple import methods, runs
from gol_decouple.class_stats import GROUPS, group_masks
from gol_decouple.classifiers import Classifier
from gol_decouple.errors import InputError, unknown
from gol_decouple.features import Classes, FeaturesFile
from gol_decouple.losses import Loss
from gol_decouple.progress import Progress
from gol_decouple.stages.belonging import open_own
from gol_decouple.stages.finding import find_retrained
from gol_decouple.stages.loaded import stage_one
from gol_decouple.stages.restored import retrained
from gol_decouple.targets import Target, find_target

STAGE_ONE = "stage_one"
FREQUENCY_GROUPS = {"f": "frequent", "c": "common", "r": "rare"}


@dataclass(frozen=True, eq=False)
class Frequencies:
    """How frequent each of C classes is.

    Attributes:
        counts: [C]: of detection, the train images that hold each class, else its train samples.
        unit: what is counted, in words.
        groups: [C], the name of each one's group, of `names`, which begin with the most frequent.
    """

    counts: NDArray[np.int64]
    unit: str
    groups: NDArray[np.str_]
    names: tuple[str, ...]

    @classmethod
    def of(cls, classes: Classes) -> Frequencies:
        """Rare, common and frequent of detection, else many, medium and few."""
        if classes.images is not None:
            groups = np.array([FREQUENCY_GROUPS[letter] for letter in classes.images.frequency.tolist()])
            return cls(classes.images.counts, "train images", groups, tuple(FREQUENCY_GROUPS.values()))
        masks = group_masks(classes.train_counts)
        groups = np.select([masks[name] for name in GROUPS], GROUPS, "")
        return cls(classes.train_counts, "train samples", groups, GROUPS)

    @property
    def order(self) -> NDArray[np.int64]:
        """Labels from the most frequent class to the least; of equal counts, the smaller label first."""
        return np.argsort(-self.counts, kind="stable")


@dataclass(frozen=True, eq=False)
class Source:
    """A finished classifier.

    Attributes:
        name: what it is called in files and figures; in its run no other one is.
        setting: the name without a seed.
        method: of the literature, or "stage_one".
        folder: where it lies; None for that of stage one.
        loss: what turns its logits into scores.
    """

    name: str
    setting: str
    method: str
    folder: Path | None
    classifier: Classifier
    loss: Loss


@dataclass(frozen=True, eq=False)
class Run:
    """A run's features and classifiers, that of stage one first."""

    target: Target
    features: FeaturesFile
    frequencies: Frequencies
    sources: list[Source]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.target.folder.resolve().name


def open_run(path: Path, runs_dir: Path, patterns: Sequence[str], progress: Progress) -> Run:
    """A finished run, or a features file with what stage two made of it.

    Args:
        patterns: names of methods, or "stage_one"; `*`, `?` and `[...]` as in file names; none: all.

    Raises:
        InputError: no such run, one that is not finished, one without classifiers, a pattern that nothing matches, or
            a classifier that cannot be read.
    """
    target = find_target(path, runs_dir)
    features = open_own(target)
    found = [*_stage_one(target, features), *_retrained(target, features, progress)]
    if not found:
        hint = f"gol-decouple stage2 {path} --activation gumbel makes one"
        raise InputError(f"{path} has no finished classifier to analyse", hint)
    sources = [source for source in found if not patterns or any(_matches(source, each) for each in patterns)]
    for pattern in patterns:
        if not any(_matches(source, pattern) for source in found):
            raise unknown(f"classifier of {path}", pattern, {name for one in found for name in (one.name, one.method)})
    return Run(target, features, Frequencies.of(features.classes), sources)


def _matches(source: Source, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (source.name, source.method))


def _stage_one(target: Target, features: FeaturesFile) -> list[Source]:
    found = stage_one(target.folder, target.config, features)
    return [] if found is None else [Source(STAGE_ONE, STAGE_ONE, STAGE_ONE, None, *found)]


def _retrained(target: Target, features: FeaturesFile, progress: Progress) -> list[Source]:
    """Those of stage two that are finished, in the order of the table of methods."""
    folders = [path for path in sorted((target.folder / runs.STAGE2).glob("*")) if runs.is_finished(path)]
    found = []
    for one in (find_retrained(target.folder, folder) for folder in folders):
        told = one.manifest.get("features", {})
        if isinstance(told, dict) and told.get("fingerprint") != features.fingerprint:
            progress.warn(f"{one.folder} is left out: it was trained on other features than {features.path}")
        else:
            found.append(one)
    shape = len(features.classes), features.feature_size
    sources = [
        Source(one.folder.name, one.folder.name, one.manifest["method"], one.folder, *retrained(one, shape))
        for one in found
    ]
    order = list(methods.METHODS)
    sources.sort(key=lambda source: (order.index(source.method), source.name))
    return _with_short_names(sources, {one.manifest["seed"] for one in found})


def _with_short_names(sources: list[Source], seeds: set[int]) -> list[Source]:
    """Names of folders without their hash, and without the seed where there is one for all; as they are if that is not
    enough to tell them apart.
    """
    with_seed = [source.name.rsplit("-", 1)[0] for source in sources]
    settings = [name.rsplit("-seed", 1)[0] for name in with_seed]
    short = settings if len(seeds) == 1 else with_seed
    return [
        replace(source, name=name, setting=setting) if short.count(name) == 1 else source
        for source, name, setting in zip(sources, short, settings, strict=True)
    ]


class OfSetting(Protocol):
    """What is known of a classifier."""

    @property
    def source(self) -> Source: ...


T = TypeVar("T", bound=OfSetting)


def by_setting(found: Sequence[T]) -> dict[str, list[T]]:
    """What differs in the seed alone, together."""
    groups: dict[str, list[T]] = {}
    for one in found:
        groups.setdefault(one.source.setting, []).append(one)
    return groups


def seeds_note(groups: Mapping[str, Sequence[Any]]) -> list[str]:
    """What to say below a table of such groups."""
    return ["means over seeds"] if any(len(members) > 1 for members in groups.values()) else []
