"""What stage one does before and after its training, whatever it trains."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from gol_decouple import runs, sealed_tensors
from gol_decouple.backbones import unfit
from gol_decouple.backbones.checkpoint_settings import detector_settings
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_facts import metadata
from gol_decouple.distributed import World
from gol_decouple.errors import EnvironmentFailure
from gol_decouple.files import file_sha256, write_json
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.kept import check_checkpoint, check_kept, take_stage2_settings


def open_run(config: Config, runs_dir: Path, overwrite: bool, progress: Progress, world: World) -> tuple[Path, bool]:
    """The folder of a config's run, and whether it is finished and kept, which is told; nothing is created yet.

    Raises:
        InputError: the processes were given different configs, the name belongs to another run, or what a finished one
            was made of has changed since.
    """
    for key, value in config.model_dump(exclude={"device"}).items():
        world.check_same(f"the config's {key}", value)
    folder, finished = world.on_main(lambda: _open(config, runs_dir, overwrite, progress))
    if finished:
        progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
    return folder, finished


def _open(config: Config, runs_dir: Path, overwrite: bool, progress: Progress) -> tuple[Path, bool]:
    folder, finished = runs.open_run(config, runs_dir, overwrite, progress)
    if finished:
        check_kept(folder, config, progress)
    if not overwrite and (folder / runs.CONFIG).is_file():
        take_stage2_settings(folder, config, progress)
    return folder, finished


def begin(stack: ExitStack, folder: Path, config: Config, match: Match | None, overwrite: bool) -> None:
    """Make the run's folder, which no other process works on as long as `stack` is open.

    Raises:
        InputError: it has become another run's, or the run has loaded another checkpoint.
        EnvironmentFailure: another process works on it.
    """
    stack.enter_context(runs.working_on(folder))
    # Until now, another process may have begun a run of the same name, and ended.
    _, finished = runs.open_run(config, folder.parent, overwrite, SILENT)
    if finished:
        raise EnvironmentFailure(f"another process has just finished {folder}", "the same command now keeps it")
    if match is not None and not overwrite:
        check_checkpoint(folder, match.path, SILENT)
    runs.create_run(folder, config, overwrite)
    if match is not None:
        write_json(folder / runs.CHECKPOINT, {**match.as_dict(), "sha256": file_sha256(match.path)})


def save_model(model: torch.nn.Module, path: Path, config: Config | None = None) -> None:
    """Write all weights and statistics, sealed, with what else makes a detector of a config what it is."""
    own = {} if config is None or config.detector is None else metadata(detector_settings(config))
    own |= unfit.metadata(getattr(model, "unfit", ()))
    sealed_tensors.save(model.state_dict(), path, {"format": "pt"} | own)


def warn_of_random_parts(backbone: torch.nn.Module, config: Config, progress: Progress) -> None:
    """Say which parts of a backbone without loaded weights `backbone.trainable` keeps as they were drawn."""
    loaded = config.stage1.checkpoint is not None or config.backbone.pretrained
    if loaded or not config.stage1.epochs:
        return
    frozen = [name.split(".")[0] for name, weight in backbone.named_parameters() if not weight.requires_grad]
    if frozen:
        progress.warn(
            f"backbone.trainable does not name {', '.join(dict.fromkeys(frozen))}: no weights are loaded, and these "
            "parts keep random ones (--checkpoint or backbone.pretrained gives them weights)"
        )
