"""Stage one of a detector: train Mask R-CNN with a Softmax classifier, or load one."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import nn

from gol_decouple import methods, runs
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_weights import start_detector
from gol_decouple.backbones.freezing import freeze_all_but
from gol_decouple.data.annotated import AnnotatedDataset, tell_annotated
from gol_decouple.data.lvis import annotation_files, load_annotated
from gol_decouple.detection import prepare
from gol_decouple.detection.roi_extraction import extract_rois
from gol_decouple.distributed import World
from gol_decouple.progress import Progress
from gol_decouple.settings import Config
from gol_decouple.stages.finishing import features_of, finish_stage1
from gol_decouple.stages.starting import begin, open_run, save_model, warn_of_random_parts
from gol_decouple.stages.training import Trainer


def run_detector(
    config: Config,
    runs_dir: Path,
    overwrite: bool,
    progress: Progress,
    shards: bool,
    world: World,
    device: torch.device,
) -> Path:
    """Train or load the detector of a resolved config, cache its RoIs, and evaluate it; returns the run folder.

    Args:
        shards: each process writes its features to a file of its own, and the run is finished by `merge_run`.

    Raises:
        InputError: a config, data or run folder that cannot be used, or training that diverges.
        EnvironmentFailure: the disk is full, weights cannot be downloaded, or another process has stopped.
    """
    folder, finished = open_run(config, runs_dir, overwrite, progress, world)
    if finished:
        return folder
    methods.configured("softmax", runs.method_settings(config), background=True)  # not to fail in stage two
    dataset = world.main_first(lambda: load_annotated(config.data))
    world.check_same("the images (their sha256)", dataset.sha256)
    tell_annotated(dataset, progress)
    if config.detector is not None and config.detector.masks:
        prepare(annotation_files(config.data)["val"], "segm")  # what is wrong with them shall not wait until the end
    detector, match = world.main_first(lambda: _detector(config, dataset.num_classes, progress))
    trainer = Trainer(detector, dataset, config, folder, world, device)
    with ExitStack() as stack:
        world.on_main(lambda: begin(stack, folder, config, match, overwrite))
        progress.say(_plan(config, dataset, folder, world))
        trainer.run(progress)
        if world.is_main:
            save_model(trainer.model, folder / runs.MODEL)
        has_classifier = config.stage1.epochs > 0 or (match is not None and match.has_classifier)
        path = folder / runs.FEATURES
        write = partial(extract_rois, trainer.model, dataset, config, has_classifier, path, progress, world)
        if shards:
            write(shard=True)
            world.gather(None)  # so that the command ends when all shards are written
            return folder
        features = features_of(trainer.model, dataset, path, world, write)
        if world.is_main:
            finish_stage1(folder, config, features, trainer.seconds, device, world.size, progress)
    return folder


def _detector(config: Config, num_classes: int, progress: Progress) -> tuple[nn.Module, Match | None]:
    """The detector that stage one begins with, and what it took from a file if there is one."""
    detector, match = start_detector(config, num_classes)
    if match is not None:
        progress.say(f"loaded {match.path}:\n{match.table()}")
    elif not config.stage1.epochs:
        progress.warn(
            "nothing is trained and no weights are loaded: the features are those of a random detector "
            "(--checkpoint, backbone.pretrained or stage1.epochs gives it weights)"
        )
    if config.backbone.trainable is not None:
        freeze_all_but(detector.backbone.body, config.backbone.trainable)
        warn_of_random_parts(detector.backbone.body, config, progress)
    return detector, match if config.stage1.checkpoint is not None else None


def _plan(config: Config, dataset: AnnotatedDataset, folder: Path, world: World) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    steps = f", at most {config.stage1.max_steps:,} steps" if config.stage1.max_steps is not None else ""
    return (
        f"stage one in {folder}: Mask R-CNN with {config.backbone.name} on {dataset.name} ({sizes} images, "
        f"{dataset.num_classes:,} classes), {config.stage1.epochs} epochs{steps}"
        + (f", {world.size} processes" if world.size > 1 else "")
    )
