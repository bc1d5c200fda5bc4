"""How stage one ends, whatever it trained: with a features file of the model, and a manifest of how good it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gol_decouple import losses, runs
from gol_decouple.distributed import World
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.shards import remove_traces
from gol_decouple.files import read_json
from gol_decouple.losses import Loss
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.loaded import stage_one
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.sessions import sessions_of
from gol_decouple.stages.starting import save_model
from gol_decouple.stages.training import M, Trainer


def train_and_finish(
    trainer: Trainer[M],
    config: Config,
    folder: Path,
    write: Callable[..., None],
    shards: bool,
    progress: Progress,
    world: World,
) -> None:
    """Train, save the model, cache its features, and evaluate it; in its folder, which is there.

    Args:
        write: writes the features of the trainer's model to the run's file, unless a former start finished it, or with
            `shard=True` this process's share to one of its own; every process calls it.
        shards: the latter, and then the run is finished by `merge`.
    """
    trainer.run(progress)
    if world.is_main:
        save_model(trainer.model, folder / runs.MODEL, config)
    if shards:
        write(shard=True)
        world.gather(None)  # so that the command ends when all shards are written
        return
    write()
    features = open_features(folder / runs.FEATURES)
    if world.is_main:
        remove_traces(features.path)  # of a start with --shards, or one that was killed
        finish_stage1(folder, config, features, trainer.seconds, trainer.device, world.size, progress)


def finish_stage1(
    folder: Path,
    config: Config,
    features: FeaturesFile,
    seconds: float,
    device: torch.device,
    processes: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Evaluate the classifier of stage one, if there is one, and write the run's manifest."""
    settings = config.stage1
    classifier, loss = stage_one(folder, config, features) or (None, _softmax(features))
    activation = loss.activation.name
    facts = {
        "stage": 1,
        "run": config.name,
        "method": activation,
        "activation": activation,
        "loss": "cross_entropy",
        "sampler": settings.sampler,
        "classifier": "linear",
        "has_classifier": classifier is not None,
        "seed": config.seed,
        "started_from": _weights(config),
        "settings": settings.model_dump(mode="json", exclude_none=True),
        "config": config.model_dump(mode="json", exclude_none=True),
        "scaled_lr": settings.scaled_lr,
        "processes": processes,
        "seconds": seconds,
        "sessions": sessions_of(folder),
        "inputs": {"checkpoint": _checkpoint(folder)},
        "image_size": features.origin["transform"].get("image_size"),
    }
    detections = None
    if features.is_detection:
        detections = DetectionEvaluation(features, config, folder, None, device, progress)
    finish(folder, classifier, features, loss, device, facts, detections=detections)


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    """The file that stage one began with, if there was one, as it was then."""
    path = folder / runs.CHECKPOINT
    told = read_json(path, f"remove {path} to go without") if path.is_file() else None
    return None if told is None else {name: told.get(name) for name in ("path", "sha256")}


def _softmax(features: FeaturesFile) -> Loss:
    """What a manifest tells of where there is no classifier."""
    return losses.get("cross_entropy", activation="softmax", background=features.is_detection)


def _weights(config: Config) -> str:
    """Where the weights are from that stage one begins with."""
    if config.stage1.checkpoint is not None:
        return "checkpoint"
    return "published" if config.backbone.pretrained else "random"
