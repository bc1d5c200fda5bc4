"""What finished runs recorded of themselves, as far as it takes to repeat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gol_decouple import methods, runs
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.settings import Config, Stage2Config
from gol_decouple.stages.finding import find_retrained
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.samples import TRAIN, Holdout, Samples

Manifest = dict[str, Any]

# Of an environment, what is not compared by itself.
_APART = ("versions", "checkout", "code_sha256")


@dataclass(frozen=True)
class Recorded:
    """A finished run, or some of its classifiers on its features as they are.

    Attributes:
        run: its folder.
        config: the run's; None: its features were made elsewhere.
        stage_one: that of the manifests that says how its features were made; None: those are taken as they are.
        classifiers: the manifests of retrained classifiers that can be repeated, by their folders.
        left_out: what cannot be, and why, in words.
    """

    run: Path
    config: Config | None
    stage_one: Manifest | None
    classifiers: dict[Path, Manifest]
    left_out: list[str]

    @property
    def manifests(self) -> list[Manifest]:
        """Of all that is to be repeated."""
        return [*([] if self.stage_one is None else [self.stage_one]), *self.classifiers.values()]

    @cached_property
    def environment(self) -> Mapping[str, Any] | None:
        """What made the first of them; None: it does not say."""
        told = self.manifests[0].get("environment")
        return told if isinstance(told, dict) else None

    @property
    def features(self) -> Path:
        """The features file that its classifiers were trained on.

        Raises:
            InputError: the manifests do not say where it is, or name several.
        """
        if self.config is not None:
            return self.run / runs.FEATURES
        named = {str(inputs_of(manifest).get("features")) for manifest in self.classifiers.values()}
        if len(named) > 1 or "None" in named:
            told = f"{self.run} does not say which features file its classifiers were trained on"
            raise InputError(told, "train them again with gol-decouple stage2: manifests of this version say it")
        return Path(named.pop())


def find_recorded(path: Path) -> Recorded:
    """What `path` stands for: a run folder, results of a features file, or the folder of one classifier in them.

    Raises:
        InputError: nothing of that, or nothing in it that can be repeated.
    """
    path = path if path.name not in ("", "..") else path.resolve()
    path = path.parent if path.name == runs.FEATURES and (path.parent / runs.CONFIG).is_file() else path
    section = path.absolute().parent
    if section.name == runs.CANDIDATES:
        told = f"{path} is a candidate, which was trained to choose among others"
        raise InputError(told, f"gol-decouple rerun {section.parent} repeats what was chosen")
    if section.name == runs.STAGE2:
        run = path.parent.parent if path.parent.parent.name else section.parent
        return _with_classifiers(run, None, [path])
    if (path / runs.CONFIG).is_file() and not runs.is_finished(path):
        raise runs.not_finished(path)
    if not (path / runs.CONFIG).is_file() and not (path / runs.STAGE2).is_dir():
        if path.is_file():
            told = f"{path} is no folder: a rerun repeats what is in one"
            raise InputError(told, "name the run, or the folder of the results that belong to a features file")
        raise InputError(f"{path} is no run: it has no {runs.CONFIG}", runs.runs_in(path))
    stage_one = runs.read_manifest(path) if (path / runs.CONFIG).is_file() else None
    return _with_classifiers(path, stage_one, sorted((path / runs.STAGE2).glob("*")))


def _with_classifiers(run: Path, stage_one: Manifest | None, folders: list[Path]) -> Recorded:
    classifiers, left_out = {}, []
    for folder in folders:
        if not runs.is_finished(folder) and len(folders) > 1:
            left_out.append(f"{folder.name} is not finished")
            continue
        manifest = find_retrained(run, folder).manifest
        if "cascade" in manifest:
            left_out.append(f"{folder.name} is the mean of a cascade's stages, in whose folders its classifiers are")
            continue
        try:
            stack_of(manifest)
        except InputError as error:
            left_out.append(f"{folder.name}: {error.message}")
        else:
            classifiers[folder] = manifest
    if stage_one is None and not classifiers:
        told = left_out[0] if left_out else f"{run} has no finished classifier"
        raise InputError(f"nothing in {run} can be repeated: {told}", "name a run, or the folder of a classifier")
    config = runs.read_config(run) if (run / runs.CONFIG).is_file() else None
    return Recorded(run, config, stage_one, classifiers, left_out)


def inputs_of(manifest: Manifest) -> dict[str, Any]:
    """The input files that a manifest names; manifests of former versions name none."""
    told = manifest.get("inputs")
    return told if isinstance(told, dict) else {}


def job_of(manifest: Manifest) -> Job:
    """What trained a classifier.

    Raises:
        InputError: a method or a setting that is not known here.
    """
    try:
        method = methods.default(manifest["method"], "detection" in manifest).with_settings(**manifest["settings"])
        return Job(method, int(manifest["seed"]), temperature=manifest.get("temperature"))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"its manifest does not say how it was trained: {error}") from None


def stack_of(manifest: Manifest) -> list[Job]:
    """What a classifier was trained with as one stack, itself included; of former versions nothing else is known.

    Raises:
        InputError: a manifest that tells no stack.
    """
    job = job_of(manifest)
    try:
        members = [(int(one["seed"]), {"lr": one["lr"], "start": one["start"]}) for one in manifest.get("stack", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"its manifest does not say what it was trained with: {error}") from None
    settings = [name for name in ("lr", "start") if name in job.method.settings]
    found = [Job(job.method.with_settings(**{name: own[name] for name in settings}), seed) for seed, own in members]
    own = [(one.method, one.seed) for one in found]
    if (job.method, job.seed) not in own:
        return [job]
    found[own.index((job.method, job.seed))] = job
    return found


def samples_of(manifest: Manifest, features: FeaturesFile) -> Samples:
    """What a classifier was trained on.

    Raises:
        InputError: there are no such samples in the file.
    """
    told = str(manifest.get("trained_on", "train"))
    with_val = [Samples(with_val=True)] if "val" in features else []
    held_out = [Holdout.of(features).rest] if told.startswith("train without") else []
    for samples in (TRAIN, *with_val, *held_out):
        if str(samples) == told:
            return samples
    raise InputError(f"it was trained on {told}, which {features.path} does not have")


def memory_of(manifests: Sequence[Manifest], features: FeaturesFile) -> Stage2Config:
    """What classifiers that were trained together had beside their own settings.

    Where rows were streamed, memory that shuffles as many of them among each other as were then.
    """
    given = manifests[0].get("config", {}).get("stage2", {})
    shuffled = manifests[0].get("shuffled_rows")
    if shuffled is None:
        return Stage2Config(**given)
    train = features["train"].features
    row_bytes = features.feature_size * train.dtype.itemsize
    buffers = 2 * -(-int(shuffled) // train.rows_per_block) * train.rows_per_block * row_bytes
    views = max(int(manifest.get("views", 1)) for manifest in manifests)
    num_bytes = min(buffers, views * train.shape[1] * row_bytes - 1)  # rows that fit are not streamed
    return Stage2Config(**{**given, "memory_gb": (num_bytes + 0.5) / 1e9})


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """In what two environments differ (see `manifest.environment`), as `name: before -> after`."""
    if before is None:
        return ["what made the run is not known: a former version did"]
    versions = before.get("versions", {}), after["versions"]
    pairs = {name: (before.get(name), after.get(name)) for name in after if name not in _APART}
    pairs |= {name: (versions[0].get(name), versions[1].get(name)) for name in {**versions[0], **versions[1]}}
    if before.get("code_sha256") != after["code_sha256"]:
        pairs["code"] = (_code(before), _code(after))
    return [f"{name}: {told(one)} -> {told(other)}" for name, (one, other) in pairs.items() if one != other]


def made_otherwise(manifest: Manifest, after: Mapping[str, Any]) -> list[str]:
    """In what that which made a result differs from an environment: each session of its training, and the last."""
    sessions = [one.get("environment") for one in manifest.get("sessions") or []]
    environments = [one if isinstance(one, dict) else None for one in [*sessions, manifest.get("environment")]]
    return list(dict.fromkeys(told for one in environments for told in differences(one, after)))


def told(value: Any) -> str:
    """A value of an environment, in words."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _code(environment: Mapping[str, Any]) -> str:
    """What of this package ran: its commit if it was a checkout, and a part of its sha256."""
    checkout, digest = environment.get("checkout"), str(environment.get("code_sha256"))[:8]
    if checkout is None:
        return f"sha256 {digest}"
    return f"commit {str(checkout['commit'])[:12]}{' with changed files' if checkout['dirty'] else ''}, sha256 {digest}"
