"""What stage two and the commands after it work on: a run, or a features file that was made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from gol_decouple.errors import InputError
from gol_decouple.runs import (
    CONFIG,
    FEATURES,
    RENAME,
    check_runs_dir,
    is_finished,
    is_hdf5,
    not_finished,
    read_config,
    read_manifest,
    runs_in,
)

if TYPE_CHECKING:
    from gol_decouple.settings import Config, Stage2Config


@dataclass(frozen=True)
class Target:
    """What stage two works on: a features file, the folder its results go to, and the run's config if it has one."""

    features: Path
    folder: Path
    config: Config | None


def find_target(run: Path, runs_dir: Path) -> Target:
    """The features file and folder that `run`, a run folder or a features file, stands for.

    Raises:
        InputError: there is no such run or file, or its stage one is not finished.
    """
    if run.is_dir():
        return _run_target(run if run.name not in ("", "..") else run.resolve())
    if run.name == FEATURES and (run.parent / CONFIG).is_file():
        return _run_target(run.parent)
    if not run.is_file() or not is_hdf5(run):
        raise InputError(f"{run} is neither a run folder nor a features file", runs_in(runs_dir))
    check_runs_dir(runs_dir)
    if run.stem in (".", ".."):
        raise InputError(f"{run} has no name that its results could have", "rename the file")
    folder = runs_dir / run.stem
    if (folder / CONFIG).is_file():
        raise own_run(run, folder)
    return Target(run, folder, None)


def own_run(features: Path, folder: Path) -> InputError:
    """What to tell of a features file that a run has the name of."""
    told = f"results of {features} would go to {folder}, which is a run of its own"
    return InputError(told, "rename the file, or choose another --runs-dir")


def cascade_folder(stages: Sequence[Target], runs_dir: Path, name: str | None = None) -> Path:
    """The folder that results of several features files together go to: by what their names share, unless given one.

    Raises:
        InputError: the name is none of a folder, or that of another run.
    """
    check_runs_dir(runs_dir)
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise InputError(f"--name {name!r} is not the name of a folder", "such as --name my_cascade")
    folder = runs_dir / (name or _shared_name([stage.features.stem for stage in stages]))
    own = [stage.folder for stage in stages]
    if folder in own or (folder / CONFIG).is_file():
        what = f"has the results of {stages[own.index(folder)].features}" if folder in own else "is a run of its own"
        raise InputError(f"results of the cascade would go to {folder}, which {what}", RENAME)
    return folder


def stage2_settings(target: Target) -> Stage2Config:
    """What the run's config says of stage two; nothing for a features file outside a run."""
    from gol_decouple.settings import Stage2Config

    return target.config.stage2 if target.config else Stage2Config()


def _shared_name(stems: Sequence[str]) -> str:
    """Of the files of a cascade's stages: `mine_cascade` of mine_stage1, mine_stage2 and mine_stage3."""
    numbers = "0123456789._-+ "
    letters = takewhile(lambda found: len(set(found)) == 1, zip(*stems, strict=False))
    shared = "".join(found[0] for found in letters).rstrip(numbers).removesuffix("stage").rstrip(numbers)
    return f"{shared}_cascade" if shared else "+".join(stems)


def _run_target(run: Path) -> Target:
    config = read_config(run)
    if not is_finished(run) or not (run / FEATURES).is_file():
        raise not_finished(run)
    read_manifest(run)  # a damaged one must not be found after the training
    return Target(run / FEATURES, run, config)
