"""Stage one: train the Softmax model, cache the features of every split, and say how good the model is."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from gol_decouple import methods, provenance, runs, runtime
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.checkpoints import Match, load_checkpoint
from gol_decouple.backbones.freezing import train_only
from gol_decouple.backbones.published import load_published
from gol_decouple.backbones.resolving import resolve
from gol_decouple.data import Dataset, load_data, tell
from gol_decouple.data.dataset import refuse_one_class
from gol_decouple.data.loading import check_sizes
from gol_decouple.determinism import deterministic
from gol_decouple.distributed import World, joined
from gol_decouple.features import open_features
from gol_decouple.features.extract import check_views, extract
from gol_decouple.features.shards import find_shards, merge
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.belonging import load_tensors
from gol_decouple.stages.finishing import finish_stage1, train_and_finish
from gol_decouple.stages.stage_one_memory import tell_memory
from gol_decouple.stages.starting import begin, open_run, warn_of_random_parts
from gol_decouple.stages.training import Trainer
from gol_decouple.stages.training_log import seconds_of


def run_stage1(
    config: Config,
    runs_dir: Path,
    overwrite: bool = False,
    progress: Progress = SILENT,
    shards: bool = False,
) -> Path:
    """Train, extract and evaluate; returns the run folder. A finished run is kept, an interrupted one continues.

    Under torchrun or srun, every process calls this, and does its share.

    Args:
        shards: each process writes its features to a file of its own, and the run is finished by `merge_run`.

    Raises:
        InputError: a config, data or run folder that cannot be used, or training that diverges.
        EnvironmentFailure: the disk is full, data or weights cannot be downloaded, or another process has stopped.
    """
    provenance.remember()  # now, as the files may be edited while this trains
    with deterministic(config.deterministic), joined(config.device) as (world, device):
        told = progress if world.is_main else SILENT
        resolved = resolve(config, told)
        if resolved.detector is not None:
            from gol_decouple.stages.detector import run_detector

            return run_detector(resolved, runs_dir, overwrite, told, shards, world, device)
        return _run(resolved, runs_dir, overwrite, told, shards, world, device)


def merge_run(folder: Path, device: str = "auto", progress: Progress = SILENT) -> None:
    """Finish a run whose features were written in shards: join them, and evaluate on `device`.

    Raises:
        InputError: no run, or shards that are missing, damaged, or of different features.
        EnvironmentFailure: the disk is full.
    """
    config = runs.read_config(folder)
    if runs.is_finished(folder):
        progress.say(f"{folder} is finished and kept as it is")
        return
    with deterministic(config.deterministic), runs.working_on(folder):
        used_device = runtime.select_device(device)
        if not (folder / runs.FEATURES).exists() or find_shards(folder / runs.FEATURES):
            merge(folder / runs.FEATURES, progress)
        features = open_features(folder / runs.FEATURES)
        load_tensors(folder, features.facts)  # refuses a model that these features are not of
        finish_stage1(folder, config, features, seconds_of(folder), used_device, progress=progress)


def _run(
    config: Config,
    runs_dir: Path,
    overwrite: bool,
    progress: Progress,
    shards: bool,
    world: World,
    device: torch.device,
) -> Path:
    folder, finished = open_run(config, runs_dir, overwrite, progress, world)
    if finished:
        return folder
    check_views(config)
    methods.configured("softmax", runs.method_settings(config))  # a mistake there shall not wait for stage two
    dataset = world.main_first(lambda: load_data(config.data))
    world.check_same("the images (their sha256)", dataset.sha256)
    refuse_one_class(dataset.class_names)
    check_sizes(dataset, config.transform)
    tell(dataset, progress)
    model, match = world.main_first(lambda: _model(config, dataset.num_classes, progress))
    trainer = Trainer(model, dataset, config, folder, world, device)
    write = partial(extract, trainer.model, dataset, config, folder / runs.FEATURES, progress, world)
    with ExitStack() as stack:
        world.on_main(lambda: begin(stack, folder, config, match, overwrite))
        progress.say(_plan(config, dataset, folder, world))
        tell_memory(model, dataset, config, world, device, progress)
        train_and_finish(trainer, config, folder, write, shards, progress, world)
    return folder


def _model(config: Config, num_classes: int, progress: Progress) -> tuple[ImageClassifier, Match | None]:
    """The model that stage one begins with, and what it took from a checkpoint if there is one."""
    backbone, size, match = config.backbone, config.transform.size, None
    model = build_model(backbone.name, num_classes, config.seed, size)
    model.has_classifier = config.stage1.epochs > 0
    if config.stage1.checkpoint is not None:
        match = load_checkpoint(model, Path(config.stage1.checkpoint))
        progress.say(f"loaded {config.stage1.checkpoint}:\n{match.table()}")
        model.has_classifier |= match.has_classifier
    elif backbone.pretrained and size is not None:
        load_published(model, backbone.name, size)
    elif not config.stage1.epochs:
        progress.warn(
            f"nothing is trained and no weights are loaded: the features are those of a random {backbone.name} "
            "(--checkpoint, backbone.pretrained or stage1.epochs gives it weights)"
        )
    if backbone.trainable is not None:
        train_only(model, backbone.trainable)
        warn_of_random_parts(model.backbone, config, progress)
    return model, match


def _plan(config: Config, dataset: Dataset, folder: Path, world: World) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    return (
        f"stage one in {folder}: {config.backbone.name} on {dataset.name} ({sizes} images, {dataset.num_classes} "
        f"classes), {config.stage1.epochs} epochs" + (f", {world.size} processes" if world.size > 1 else "")
    )
