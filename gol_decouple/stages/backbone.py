"""Stage one: train the Softmax model, cache the features of every split, and say how good the model is."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from gol_decouple import losses, runs
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.backbones.checkpoints import load_checkpoint
from gol_decouple.class_stats import empty_classes_warning
from gol_decouple.data import Dataset, load_data
from gol_decouple.data.loading import check_sizes
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.extract import check_views, extract, weights_sha256
from gol_decouple.files import atomic_path
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.training import Trainer


def run_stage1(config: Config, runs_dir: Path, overwrite: bool = False, progress: Progress = SILENT) -> Path:
    """Train, extract and evaluate; returns the run folder. A finished run is kept, an interrupted one continues.

    Raises:
        InputError: a config, data or run folder that cannot be used, or training that diverges.
        EnvironmentFailure: the disk is full, or data cannot be downloaded.
    """
    folder, finished = runs.open_run(config, runs_dir, overwrite, progress)
    if finished:
        progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
        return folder
    check_views(config)
    dataset = load_data(config.data)
    check_sizes(dataset, config.transform)
    for note in dataset.notes:
        progress.say(note)
    if warning := empty_classes_warning(dataset.class_names, dataset.train_counts):
        progress.warn(warning)
    model = build_model(config.backbone.name, dataset.num_classes, config.seed)
    model.has_classifier = config.stage1.epochs > 0
    if config.stage1.checkpoint is not None:
        match = load_checkpoint(model, Path(config.stage1.checkpoint))
        progress.say(f"loaded {config.stage1.checkpoint}:\n{match.table()}")
        model.has_classifier |= match.has_classifier
    trainer = Trainer(model, dataset, config, folder)
    with runs.working_on(folder):
        runs.create_run(folder, config, overwrite)
        progress.say(_plan(config, dataset, folder))
        _train_and_extract(trainer, dataset, config, folder, progress)
    return folder


def _train_and_extract(trainer: Trainer, dataset: Dataset, config: Config, folder: Path, progress: Progress) -> None:
    trainer.run(progress)
    _save_model(trainer.model, folder / "model.safetensors")
    features = _features(trainer.model, dataset, config, folder / runs.FEATURES, progress)
    facts = {
        "stage": 1,
        "run": config.name,
        "method": "softmax",
        "activation": "softmax",
        "loss": "cross_entropy",
        "sampler": config.stage1.sampler,
        "classifier": "linear",
        "seed": config.seed,
        "settings": config.stage1.model_dump(mode="json", exclude_none=True),
        "seconds": trainer.seconds,
    }
    loss = losses.get("cross_entropy", activation="softmax")
    finish(folder, features.classifier, features, loss, trainer.device, facts)


def _features(model: ImageClassifier, dataset: Dataset, config: Config, path: Path, progress: Progress) -> FeaturesFile:
    """The run's features file; one that a former start finished is kept if it is of these weights and data."""
    if path.exists():
        features = open_features(path)
        found = [features.origin.get(part, {}).get("sha256") for part in ("backbone", "dataset")]
        if found == [weights_sha256(model), dataset.sha256]:
            return features
    extract(model, dataset, config, path, progress)
    return open_features(path)


def _save_model(model: torch.nn.Module, path: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def _plan(config: Config, dataset: Dataset, folder: Path) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    return (
        f"stage one in {folder}: {config.backbone.name} on {dataset.name} ({sizes} images, {dataset.num_classes} "
        f"classes), {config.stage1.epochs} epochs"
    )
