"""Which finished classifier a command means: the one of a run's stage one, or a retrained one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol_decouple import belonging, methods, runs
from gol_decouple.belonging import foreign_classifier
from gol_decouple.errors import InputError, few
from gol_decouple.runs import setting_text

# Names of folders of retrained classifiers that an error lists.
LISTED = 10
# What of a manifest is relied on, and of which kind each is; settings are checked where they are used.
_NEEDED: dict[str, type] = {
    "stage": int, "method": str, "activation": str, "loss": str, "seed": int, "settings": object,
    "train_counts": list, "dataset": str,
}  # fmt: skip
_OPTIONAL: dict[str, type] = {"changed_settings": dict, "detection": dict}


@dataclass(frozen=True)
class Found:
    """A finished classifier.

    Attributes:
        run: the folder of the run, with the backbone.
        folder: that of the classifier: the run's own, if it is stage one's.
        manifest: the classifier's.
    """

    run: Path
    folder: Path
    manifest: dict[str, Any]

    @property
    def is_retrained(self) -> bool:
        """Whether it is of stage two."""
        return self.folder != self.run

    @property
    def is_own(self) -> bool:
        """Whether it was trained on the run's features as they are now."""
        return not self.is_retrained or belonging.is_of(belonging.own_features(self.run), self.manifest)

    @property
    def is_detector(self) -> bool:
        """Whether it is a detector's, and not that of whole images."""
        return "detection" in self.manifest

    def __str__(self) -> str:
        if not self.is_retrained:
            return f"{self.run}, stage one"
        changed = self.manifest.get("changed_settings", {})
        told = [f"{name} {setting_text(value)}" for name, value in sorted(changed.items())]
        told.append(f"seed {self.manifest['seed']}")
        return f"{self.run}, {self.manifest['method']} ({', '.join(told)})"


def find_classifier(path: Path, method: str | None = None, seed: int | None = None) -> Found:
    """The finished classifier that `path` stands for.

    Args:
        path: a run folder, its features file, or the folder of a retrained classifier.
        method: of a run, which retrained classifier; None: that of its stage one.
        seed: of that method, where several seeds are there.

    Raises:
        InputError: no run, one that is not finished or has no backbone, no such classifier, several, or one that was
            trained on other features than the run's.
    """
    path = path if path.name not in ("", "..") else path.resolve()
    if path.is_file() and path.name == runs.FEATURES and (path.parent / runs.CONFIG).is_file():
        path = path.parent
    if path.absolute().parent.name in (runs.STAGE2, runs.CANDIDATES):
        path = path if path.parent.parent.name else path.absolute()
        if method is not None or seed is not None:
            raise InputError(f"{path} is one classifier already", "leave --method and --seed out")
        _check_run(path.parent.parent)
        return _own([find_retrained(path.parent.parent, path)])[0]
    _check_run(path)
    if method is not None:
        return _of_method(path, method, seed)
    if seed is not None:
        raise InputError(f"--seed {seed} chooses among the retrained classifiers of a method", "--method gumbel")
    found = Found(path, path, _manifest(path))
    if not _has_classifier(found):
        hint = "name a retrained classifier, by --method or by its folder; gol-decouple stage2 makes them"
        raise InputError(f"stage one of {path} has no classifier: only a backbone was loaded", hint)
    return found


def _has_classifier(stage_one: Found) -> bool:
    """Whether stage one ended with one, and not with a backbone alone."""
    if not stage_one.is_detector:
        return (stage_one.folder / runs.PER_CLASS).is_file()
    figures = stage_one.manifest["detection"]["boxes"]  # of nothing, where nothing could be evaluated
    return bool(stage_one.manifest.get("has_classifier", figures.get("ap") is not None))


def _check_run(run: Path) -> None:
    """Raise an InputError unless a backbone is there, and finished."""
    if not run.exists():
        raise InputError(f"{run} does not exist", runs.runs_in(run.parent))
    if not (run / runs.CONFIG).is_file():
        if os.path.lexists(run / runs.CONFIG):
            runs.read_config(run)  # tells what is in its place
        if (run / runs.STAGE2).is_dir() or (run.is_file() and runs.is_hdf5(run)):
            hint = "apply the classifier to features in a program (docs/using-a-model.md)"
            raise InputError(f"{run} has no backbone: its features were made elsewhere", hint)
        if run.is_file():
            raise InputError(f"{run} is no run folder", runs.runs_in(run.parent))
        raise InputError(f"{run} is no run: it has no {runs.CONFIG}", runs.runs_in(run))
    if not runs.is_finished(run):
        raise runs.not_finished(run)
    if not (run / runs.MODEL).is_file():
        hint = f"remove {run / runs.MANIFEST} and repeat stage one: it continues where it was"
        raise InputError(f"{run} has no {runs.MODEL} any more", hint)


def find_retrained(run: Path, folder: Path) -> Found:
    """The classifier of stage two in a folder of a run.

    Raises:
        InputError: there is none, it is not finished, or its manifest tells too little.
    """
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob("*"))
        raise InputError(f"{folder} does not exist", f"there are {few(there, LISTED)}" if there else None)
    if not runs.is_finished(folder):
        raise InputError(f"the classifier in {folder} is not finished", "repeat the command that trained it")
    return Found(run, folder, _manifest(folder))


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = runs.read_manifest(folder)
    wrong = [f"{name!r} is missing" for name in _NEEDED if name not in manifest] + [
        f"{name!r} is {manifest[name]!r:.60}"
        for name, kind in (_NEEDED | _OPTIONAL).items()
        if name in manifest and not isinstance(manifest[name], kind)
    ]
    if "detection" in manifest and not (wrong or isinstance(manifest["detection"].get("boxes"), dict)):
        wrong = ["'detection' has no boxes"]
    if wrong:
        path = folder / runs.MANIFEST
        raise InputError(f"{path} is not a manifest of a run: {wrong[0]}", runs.make_again(path))
    return manifest


def _of_method(run: Path, method: str, seed: int | None) -> Found:
    methods.get(method)
    folders = sorted(path for path in (run / runs.STAGE2).glob("*") if runs.is_finished(path))
    everything = [find_retrained(run, folder) for folder in folders]
    found = [one for one in everything if one.manifest["method"] == method]
    matching = [one for one in found if seed is None or one.manifest["seed"] == seed]
    if not matching:
        told = method if seed is None else f"{method} with seed {seed}"
        raise InputError(f"{run} has no finished classifier of {told}", _what_there_is(run, method, everything, found))
    matching = _own(matching)
    if len(matching) > 1:
        told = f"{run} has {len(matching)} classifiers of {method}"
        seeds = len({one.manifest["seed"] for one in matching}) == len(matching)
        raise InputError(
            f"{told}: {few([one.folder.name for one in matching], LISTED)}",
            f"{'choose one with --seed, or ' if seeds else ''}name its folder instead of the run: {matching[0].folder}",
        )
    return matching[0]


def _own(found: Sequence[Found]) -> list[Found]:
    """Those of the run's own features.

    Raises:
        InputError: none is; what differs of the first.
    """
    own = [one for one in found if one.is_own]
    if not own:
        first = found[0]
        raise foreign_classifier(first.folder, first.run, belonging.own_features(first.run), first.manifest)
    return own


def _what_there_is(run: Path, method: str, everything: Sequence[Found], found: Sequence[Found]) -> str:
    if found:
        return f"it has seed {', '.join(str(one.manifest['seed']) for one in found)}"
    make = f"gol-decouple stage2 {run} --method {method}"
    names = dict.fromkeys(str(one.manifest["method"]) for one in everything)
    return f"it has {', '.join(names)}; {make} makes one" if names else f"{make} makes one"
