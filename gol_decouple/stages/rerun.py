"""Repeating a run from what it recorded of itself, in a folder of its own, and comparing what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gol_decouple import runs, runtime
from gol_decouple.config import differing_fields, load_config
from gol_decouple.determinism import deterministic
from gol_decouple.errors import EnvironmentFailure, GolDecoupleError, InputError
from gol_decouple.files import read_json, write_json
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.comparing import Compared, compare_classifiers, compare_models
from gol_decouple.stages.inputs import check_inputs
from gol_decouple.stages.manifest import environment
from gol_decouple.stages.recorded import Manifest, Recorded, find_recorded, made_otherwise
from gol_decouple.stages.repeating import repeat_classifiers
from gol_decouple.targets import Target

RERUN = "rerun.json"


@dataclass(frozen=True)
class Outcome:
    """What came of a rerun.

    Attributes:
        run, out: the folder that was repeated, and that of the repeated run.
        environment: in what those that made the two differ, as `name: before -> after`.
        by_chance: why results can differ though nothing else does; None: they cannot.
        left_out: what could not be repeated, and why.
    """

    run: Path
    out: Path
    compared: list[Compared]
    environment: list[str]
    by_chance: str | None
    left_out: list[str]

    @property
    def is_equal(self) -> bool:
        """Whether everything that was repeated is, bit by bit."""
        return all(one.equal for one in self.compared)

    def told(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "of": str(self.run.resolve()),
            "equal": self.is_equal,
            "compared": [one.as_dict() for one in self.compared],
            "environment": self.environment,
            "by_chance": self.by_chance,
            "left_out": self.left_out,
        }

    def failure(self) -> GolDecoupleError | None:
        """What to end with where something came out otherwise."""
        if self.is_equal:
            return None
        apart = f"{sum(not one.equal for one in self.compared)} of {len(self.compared)} results of {self.run} differ"
        if self.environment:
            hint = "repeat it in the environment that made it: its manifest.json tells all of it"
            return EnvironmentFailure(f"{apart}; of the environment: {'; '.join(self.environment)}", hint)
        if self.by_chance is not None:
            return EnvironmentFailure(
                f"{apart}, which is expected {self.by_chance}", "--deterministic makes them equal"
            )
        told = f"{apart}, though inputs, settings and environment are the same"
        return GolDecoupleError(told, f"this should not be: report it, with {self.out / RERUN}")


def rerun(path: Path, out: Path | None = None, device: str | None = None, progress: Progress = SILENT) -> Outcome:
    """Repeat a run, or one of its classifiers on its own features, and compare the results; `path` is only read.

    What was chosen (settings, a temperature) is taken as it was chosen. The same call continues what was interrupted.

    Args:
        path: a run folder, the folder of results of a features file, or the folder of one classifier in them.
        out: folder of the repeated run; None: beside it, called as it is with `.rerun` behind, or `.rerun_stage2` where
            classifiers alone are repeated.
        device: None: the one that was used.

    Raises:
        InputError: nothing that can be repeated, inputs that have changed since, or a folder with something else in it.
        EnvironmentFailure: the disk is full, or another process is working in that folder.
    """
    recorded = find_recorded(path)
    out = _out(recorded) if out is None else out
    known = recorded.environment or {}
    wanted = device or str(known.get("device") or (recorded.config.device if recorded.config else "auto"))
    with deterministic(bool(known.get("deterministic"))):
        used = runtime.select_device(wanted)
        with _threads(known.get("threads") if used.type == "cpu" else None):
            config = check_inputs(recorded)
            _check_out(recorded, out, config)
            for told in [*recorded.left_out, *made_otherwise(recorded.manifests[0], environment(used))]:
                progress.warn(told)
            chance = _chance(used)
            if chance is not None:
                progress.warn(f"differences are expected {chance}")
            compared, made_in = _repeat(recorded, config, out, wanted, progress)
    changed = dict.fromkeys(told for before, after in made_in for told in _made_otherwise(before, after))
    outcome = Outcome(recorded.run, out, compared, list(changed), chance, recorded.left_out)
    write_json(out / RERUN, outcome.told())
    return outcome


def _repeat(
    recorded: Recorded, config: Config | None, out: Path, device: str, progress: Progress
) -> tuple[list[Compared], list[tuple[Manifest, Manifest]]]:
    """Do everything again; returns what was compared, and the manifests of what was repeated, before and after."""
    compared, made_in = [], []
    features, folder = recorded.features, recorded.run
    if recorded.stage_one is not None:
        assert config is not None  # it is a run's
        config = config.model_copy(update={"name": out.name, "device": device})
        _begin(recorded, out, config)
        run_stage1(config, out.parent, progress=progress)
        compared += compare_models(recorded.run, out, progress)
        made_in.append((recorded.stage_one, runs.read_manifest(out)))
        features, folder = out / runs.FEATURES, out
    else:
        _begin(recorded, out)
    with runs.working_on(out):
        target = Target(features, folder, config)
        for before, after in repeat_classifiers(recorded.classifiers, target, out, device, progress).items():
            compared.append(compare_classifiers(before, after))
            if after is not None:
                made_in.append((recorded.classifiers[before], runs.read_manifest(after)))
    return compared, made_in


def _out(recorded: Recorded) -> Path:
    suffix = "rerun" if recorded.stage_one is not None else "rerun_stage2"
    run = recorded.run if recorded.run.name not in ("", "..") else recorded.run.resolve()
    return run.with_name(f"{run.name}.{suffix}")


def _check_out(recorded: Recorded, out: Path, config: Config | None) -> None:
    """Raise an InputError unless the folder is new, or holds a rerun of just this."""
    other = "choose another folder with --out, or remove this one"
    own, there = recorded.run.resolve(), out.resolve()
    if own == there or own in there.parents or there in own.parents:
        raise InputError(f"--out {out} would write into {recorded.run}, which is to be repeated", other)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / RERUN).is_file():
        raise InputError(f"{out} exists and is no rerun of {recorded.run}", other)
    if read_json(out / RERUN, other).get("of") != str(own):
        raise InputError(f"{out} is a rerun of something else", other)
    begun = (out / runs.CONFIG).is_file()
    if config is not None and begun and (changed := differing_fields(load_config(str(out / runs.CONFIG)), config)):
        raise InputError(f"{out} is a rerun of {recorded.run} with another config: {'; '.join(changed)}", other)


def _begin(recorded: Recorded, out: Path, config: Config | None = None) -> None:
    """Make the folder, and say what it repeats."""
    if not (out / RERUN).is_file():
        with runs.working_on(out):
            write_json(out / RERUN, {"of": str(recorded.run.resolve())})
    if config is not None and not (out / runs.CONFIG).is_file():
        runs.create_run(out, config)


@contextmanager
def _threads(count: Any) -> Iterator[None]:
    """As many threads as there were, if the machine has the cores: sums depend on it."""
    before = torch.get_num_threads()
    if isinstance(count, int) and 0 < count <= runtime.cores():
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chance(device: torch.device) -> str | None:
    """Where equal inputs need not give equal results."""
    if device.type == "cpu" or torch.are_deterministic_algorithms_enabled():
        return None
    return f"on {device.type} without --deterministic"


def _made_otherwise(before: Manifest, after: Manifest) -> Sequence[str]:
    """In what the making of two results differs."""
    found = made_otherwise(before, after["environment"])
    for name in ("processes", "shuffled_rows"):
        one, other = before.get(name), after.get(name)
        found += [f"{name}: {one} -> {other}"] if one != other else []
    return found
