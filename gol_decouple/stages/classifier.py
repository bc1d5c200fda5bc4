"""Stage two: retrain classifiers on a run's features, one folder for each method and seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gol_decouple import methods, runs, runtime
from gol_decouple.class_stats import empty_classes_warning
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.files import atomic_path, disk_errors
from gol_decouple.methods import Method
from gol_decouple.progress import SILENT, Progress
from gol_decouple.runs import Target
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.manifest import finish
from gol_decouple.stages.retrain import Retrained, TrainFeatures, train_classifier

Weights = tuple[torch.Tensor, torch.Tensor]


def run_stage2(
    target: Target,
    names: Sequence[str],
    seeds: Sequence[int],
    settings: Stage2Config,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[Path]:
    """Retrain a classifier for every method and seed; returns their folders. Finished ones are kept.

    Args:
        names: methods (an activation's name is the method of that activation).
        settings: what replaces the methods' own; unset fields leave it.

    Raises:
        InputError: an unknown method or setting, a features file that cannot be used, or training that diverges.
        EnvironmentFailure: the disk is full.
    """
    changes = settings.model_dump(exclude_none=True)
    chosen = methods.apply_settings([methods.get(name) for name in dict.fromkeys(names)], changes)
    for name in changes:
        if not any(name in method.settings for method in chosen):
            progress.warn(f"stage2.{name} has no effect on {', '.join(method.name for method in chosen)}")
    features = open_features(target.features)
    if "test" not in features:
        raise InputError(f"{target.features} has no test split to report on", "write it with train and test")
    if warning := empty_classes_warning(features.classes.names, features.classes.train_counts):
        progress.warn(warning)
    if len(features["train"].features) == 1 and changes.get("views") == "random":
        progress.warn(f"{target.features} has the clean view only: stage2.views = 'random' changes nothing")
    if not features.checked:
        progress.warn(f"{target.features} was written elsewhere: it has no checksums, so damage cannot be noticed")
    stage = _StageTwo(target, features, chosen, device, overwrite, progress)
    return [stage.run(method, seed) for method in chosen for seed in seeds]


class _StageTwo:
    """The classifiers of one features file; features are loaded when the first one has to be trained."""

    def __init__(
        self,
        target: Target,
        features: FeaturesFile,
        chosen: list[Method],
        device: str,
        overwrite: bool,
        progress: Progress,
    ) -> None:
        self._target = target
        self._features = features
        self._chosen = chosen
        self._device = runtime.select_device(device)
        self._overwrite = overwrite
        self._progress = progress
        self._train: TrainFeatures | None = None

    def run(self, method: Method, seed: int) -> Path:
        """Train one classifier, or keep the one that is there."""
        folder = self._folder(method, seed)
        if runs.is_finished(folder) and not self._overwrite:
            self._progress.say(f"{folder} is finished and kept as it is (--overwrite trains it again)")
            return folder
        stage_one, started_from = self._stage_one(seed) if method.start == "stage_one" else (None, "fresh")
        if self._train is None:
            self._train = TrainFeatures.load(self._features, self._device, self._chosen)
        result = train_classifier(self._train, method, stage_one, seed, self._progress)
        self._save(folder, result, seed, started_from)
        return folder

    def _stage_one(self, seed: int) -> tuple[Weights, str]:
        """The Softmax classifier to start from, and where it is from: stage one, or a row of its own trained here."""
        if self._features.classifier is not None:
            return as_tensors(self._features.classifier), "stage_one"
        softmax = methods.first_softmax()
        folder = self._folder(softmax, seed)
        if not runs.is_finished(folder):
            self._progress.say(f"{self._target.features} has no Softmax classifier: training one first")
            self.run(softmax, seed)
        try:
            tensors = load_file(folder / "classifier.safetensors")
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"the Softmax classifier in {folder} cannot be read: {error}", f"remove {folder}"
            ) from None
        return (tensors["weight"], tensors["bias"]), folder.name

    def _folder(self, method: Method, seed: int) -> Path:
        return runs.classifier_folder(self._target, method, seed, self._features.fingerprint)

    def _save(self, folder: Path, result: Retrained, seed: int, started_from: str) -> None:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        (folder / runs.MANIFEST).unlink(missing_ok=True)
        with atomic_path(folder / "classifier.safetensors") as temporary:
            save_file({"weight": result.weight, "bias": result.bias}, temporary)
        method = result.method
        facts = {
            "stage": 2,
            "run": self._target.folder.name,
            "method": method.name,
            "activation": method.activation,
            "loss": method.loss,
            "sampler": method.sampler,
            "classifier": method.classifier,
            "seed": seed,
            "settings": method.settings,
            "changed_settings": method.changes_from_default(),
            "started_from": started_from,
            "views": result.num_views,
            "seconds": result.seconds,
            "history": result.history,
        }
        finish(folder, result, self._features, result.loss.scores, self._device, facts)
