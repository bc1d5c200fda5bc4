"""Stage one of a detector: train Mask R-CNN with a Softmax classifier, or load one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import nn

from gol_decouple import methods, runs
from gol_decouple.backbones.checkpoints import Match
from gol_decouple.backbones.detector_layouts import MASKS, REGRESSOR
from gol_decouple.backbones.detector_loading import BODY
from gol_decouple.backbones.detector_weights import start_detector
from gol_decouple.backbones.freezing import freeze_all_but
from gol_decouple.backbones.unfit import PREDICTORS, lacking
from gol_decouple.data.annotated import AnnotatedDataset, tell_annotated
from gol_decouple.data.dataset import refuse_one_class
from gol_decouple.data.lvis import annotation_files, load_annotated
from gol_decouple.detection import prepare
from gol_decouple.detection.roi_extraction import Fitted, extract_rois
from gol_decouple.distributed import World
from gol_decouple.errors import InputError
from gol_decouple.progress import Progress
from gol_decouple.settings import Config
from gol_decouple.stages.finishing import train_and_finish
from gol_decouple.stages.stage_one_memory import tell_memory
from gol_decouple.stages.starting import begin, open_run, warn_of_random_parts
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
    refuse_one_class(dataset.class_names)
    tell_annotated(dataset, progress)
    world.on_main(lambda: _check_masks(config))
    detector, match = world.main_first(lambda: _detector(config, dataset.class_names, progress))
    trainer = Trainer(detector, dataset, config, folder, world, device)
    fitted = _fitted(config, match)
    path = folder / runs.FEATURES
    write = partial(extract_rois, trainer.model, dataset, config, fitted, path, progress, world)
    with ExitStack() as stack:
        world.on_main(lambda: begin(stack, folder, config, match, overwrite))
        progress.say(_plan(config, dataset, folder, world))
        tell_memory(detector, dataset, config, world, device, progress)
        train_and_finish(trainer, config, folder, write, shards, progress, world)
    return folder


def _fitted(config: Config, match: Match | None) -> Fitted:
    """Which predictors are for the classes of the data."""
    assert config.detector is not None  # as data.kind = "lvis" has it
    if config.stage1.epochs > 0:
        return Fitted(True, True)
    is_softmax = config.detector.activation in (None, "softmax")
    loaded = match is not None and match.has_classifier
    return Fitted(loaded and is_softmax, match is not None and f"{REGRESSOR}weight" in match.found)


def _check_masks(config: Config) -> None:
    """What is wrong with the masks that detections are evaluated with shall not wait until the end."""
    if config.detector is not None and config.detector.masks:
        prepare(annotation_files(config.data)["val"], "segm")


def _detector(config: Config, class_names: Sequence[str], progress: Progress) -> tuple[nn.Module, Match | None]:
    """The detector that stage one begins with, and what it took from a file if there is one."""
    detector, match = start_detector(config, len(class_names), class_names)
    if match is not None:
        progress.say(f"loaded {match.path}:\n{match.table()}")
        for warning in match.warnings:
            progress.warn(warning)
        _warn_of_predictors(match, config, progress)
    elif not config.stage1.epochs:
        progress.warn(
            "nothing is trained and no weights are loaded: the features are those of a random detector "
            "(--checkpoint, backbone.pretrained or stage1.epochs gives it weights)"
        )
    if config.detector is not None and config.detector.masks and MASKS in detector.unfit:
        told = "detector.masks = true evaluates masks, and no mask predictor is loaded or trained"
        raise InputError(told, "--set detector.masks=false, or stage1.epochs=1 or more trains it")
    if config.backbone.trainable is not None:
        freeze_all_but(detector.backbone.body, config.backbone.trainable)
        warn_of_random_parts(detector.backbone.body, config, progress)
    return detector, match if config.stage1.checkpoint is not None else None


def _warn_of_predictors(match: Match, config: Config, progress: Progress) -> None:
    """Say which predictors a detector's file did not give, and what that means."""
    names = [PREDICTORS[name] for name in lacking(match)]
    if not names:
        return
    if not config.stage1.epochs:
        means = {REGRESSOR: "boxes stay where they are", MASKS: "there are no masks"}
        told = ", ".join(["nothing is trained", *(mean for name, mean in means.items() if name in lacking(match))])
        progress.warn(f"{match.path} gives no {', '.join(names)}: {told}")
    elif config.stage1.checkpoint is not None and not all(name.startswith(BODY) for name in match.found):
        progress.warn(f"{match.path} gives no {', '.join(names)}: training begins with random ones")


def _plan(config: Config, dataset: AnnotatedDataset, folder: Path, world: World) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    steps = f", at most {config.stage1.max_steps:,} steps" if config.stage1.max_steps is not None else ""
    return (
        f"stage one in {folder}: Mask R-CNN with {config.backbone.name} on {dataset.name} ({sizes} images, "
        f"{dataset.num_classes:,} classes), {config.stage1.epochs} epochs{steps}"
        + (f", {world.size} processes" if world.size > 1 else "")
    )
