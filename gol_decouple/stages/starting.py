"""What stage one does before and after its training, whatever it trains."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors.torch import save_file

from gol_decouple import provenance, runs
from gol_decouple.backbones import unfit
from gol_decouple.backbones.checkpoint_settings import detector_settings
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_facts import metadata
from gol_decouple.distributed import World
from gol_decouple.files import atomic_path, write_json
from gol_decouple.progress import Progress
from gol_decouple.settings import Config


def open_run(config: Config, runs_dir: Path, overwrite: bool, progress: Progress, world: World) -> tuple[Path, bool]:
    """The folder of a config's run, and whether it is finished and kept, which is told; nothing is created yet.

    Raises:
        InputError: the processes were given different configs, or the name belongs to another run.
    """
    for key, value in config.model_dump(exclude={"device"}).items():
        world.check_same(f"the config's {key}", value)
    folder, finished = world.on_main(lambda: runs.open_run(config, runs_dir, overwrite, progress))
    if finished:
        progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
    return folder, finished


def begin(stack: ExitStack, folder: Path, config: Config, match: Match | None, overwrite: bool) -> None:
    """Make the run's folder, which no other process works on as long as `stack` is open."""
    stack.enter_context(runs.working_on(folder))
    runs.create_run(folder, config, overwrite)
    if match is not None:
        write_json(folder / runs.CHECKPOINT, match.as_dict() | {"sha256": provenance.file_sha256(match.path)})


def save_model(model: torch.nn.Module, path: Path, config: Config | None = None) -> None:
    """Write all weights and statistics as safetensors, with what else makes a detector of a config what it is."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    own = {} if config is None or config.detector is None else metadata(detector_settings(config))
    own |= unfit.metadata(getattr(model, "unfit", ()))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"} | own)


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
