"""How stage one ends, whatever it trained: with a features file of the model, and a manifest of how good it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gol_decouple import losses, runs
from gol_decouple.data import Dataset
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.distributed import World
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.extract import weights_sha256
from gol_decouple.features.shards import remove_shards
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.loaded import loaded_classifier
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.starting import save_model
from gol_decouple.stages.training import M, Trainer


def train_and_finish(
    trainer: Trainer[M],
    dataset: Dataset | AnnotatedDataset,
    config: Config,
    folder: Path,
    write: Callable[..., None],
    shards: bool,
    progress: Progress,
    world: World,
) -> None:
    """Train, save the model, cache its features, and evaluate it; in its folder, which is there.

    Args:
        write: writes the features of the trainer's model to the run's file, or with `shard=True` this process's share
            to one of its own; every process calls it.
        shards: the latter, and then the run is finished by `merge`.
    """
    trainer.run(progress)
    if world.is_main:
        save_model(trainer.model, folder / runs.MODEL, config)
    if shards:
        write(shard=True)
        world.gather(None)  # so that the command ends when all shards are written
        return
    features = _features(trainer.model, dataset, folder / runs.FEATURES, world, write)
    if world.is_main:
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
    activation, classifier = _classifier(folder, config, features)
    facts = {
        "stage": 1,
        "run": config.name,
        "method": activation,
        "activation": activation,
        "loss": "cross_entropy",
        "sampler": settings.sampler,
        "classifier": "linear",
        "has_classifier": features.classifier is not None,
        "seed": config.seed,
        "started_from": _weights(config),
        "settings": settings.model_dump(mode="json", exclude_none=True),
        "scaled_lr": settings.scaled_lr,
        "processes": processes,
        "seconds": seconds,
        "image_size": features.origin["transform"].get("image_size"),
    }
    detections = None
    if features.is_detection:
        detections = DetectionEvaluation(features, config, folder, None, device, progress)
    loss = losses.get("cross_entropy", activation=activation, background=features.is_detection)
    finish(folder, classifier, features, loss, device, facts, detections=detections)


def _classifier(folder: Path, config: Config, features: FeaturesFile) -> tuple[str, Any]:
    """The activation and the classifier of stage one: Softmax, or what a detector's checkpoint brought."""
    activation = config.detector.activation if config.detector is not None else None
    if activation in (None, "softmax"):
        return "softmax", features.classifier
    loaded = loaded_classifier(folder)
    return ("softmax", None) if loaded is None else (str(activation), loaded)


def _features(
    model: nn.Module, dataset: Dataset | AnnotatedDataset, path: Path, world: World, write: Callable[..., None]
) -> FeaturesFile:
    """The run's features file; one that a former start finished is kept if it is of these weights and data."""
    if not world.on_main(lambda: path.exists() and _is_of(open_features(path), model, dataset)):
        write()
    if world.is_main:
        remove_shards(path)  # of a start with --shards
    return open_features(path)


def _weights(config: Config) -> str:
    """Where the weights are from that stage one begins with."""
    if config.stage1.checkpoint is not None:
        return "checkpoint"
    return "published" if config.backbone.pretrained else "random"


def _is_of(features: FeaturesFile, model: nn.Module, dataset: Dataset | AnnotatedDataset) -> bool:
    found = [features.origin.get(part, {}).get("sha256") for part in ("backbone", "dataset")]
    return found == [weights_sha256(model), dataset.sha256]
