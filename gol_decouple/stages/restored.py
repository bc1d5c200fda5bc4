"""A finished model put together again from its run: backbone, classifier, and what turns logits into scores."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gol_decouple import losses, methods, runs
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.classifiers import Classifier, as_tensors
from gol_decouple.config import load_config
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.settings import Config
from gol_decouple.stages.calibration import tempered
from gol_decouple.stages.finding import Found
from gol_decouple.stages.jobs import loss_of
from gol_decouple.stages.saved import load_classifier


@dataclass(frozen=True, eq=False)
class Restored:
    """A finished model, on the CPU.

    Attributes:
        found: where it lies.
        model: the run's, with the classifier of stage one.
        classifier: what is applied to the backbone's features.
        loss: what turns its logits into scores.
        temperature: of the scores (see `calibration.tempered`).
        class_names: in label order.
        image_size: height and width of what the network was trained on; None: a run that did not keep it.
    """

    found: Found
    config: Config
    model: ImageClassifier
    classifier: Classifier
    loss: Loss
    temperature: float | None
    class_names: list[str]
    image_size: tuple[int, int] | None

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores [N, C] of logits [N, columns]."""
        return tempered(self.loss, logits, self.temperature)[0]

    @property
    def name(self) -> str:
        """Of the method."""
        return str(self.found.manifest["method"])

    @property
    def sums_to_one(self) -> bool:
        """Whether the scores of an image do; those of one-vs-all activations, and of groups of classes, do not."""
        return self.temperature is not None or not (self.loss.activation.one_vs_all or self.loss.extra_columns)


def restore(found: Found) -> Restored:
    """The model of a finished run, with the classifier that was found.

    Raises:
        InputError: a file of it that cannot be read, or that does not fit the others.
    """
    config = load_config(str(found.run / runs.CONFIG))
    names = _class_names(found.folder / runs.PER_CLASS)
    model = load_model(found.run, config, len(names))
    size = runs.read_manifest(found.run).get("image_size")
    image_size = None if size is None else (int(size[0]), int(size[1]))
    if not found.is_retrained:
        classifier, loss = Classifier(*as_tensors(model.classifier)), losses.get("cross_entropy", activation="softmax")
    else:
        classifier, loss = load_classifier(found.folder), _loss(found)
    wanted = (loss.num_columns(len(names)), model.classifier.in_features)
    if classifier.weight.shape != wanted:
        told = f"the classifier in {found.folder} is {list(classifier.weight.shape)}, not {list(wanted)}"
        raise InputError(told, "it is not of this run: repeat gol-decouple stage2 with --overwrite")
    temperature = found.manifest.get("temperature")
    return Restored(found, config, model, classifier, loss, temperature, names, image_size)


def load_model(run: Path, config: Config, num_classes: int) -> ImageClassifier:
    """The model that a run's stage one ended with, in eval mode.

    Raises:
        InputError: its weights cannot be read, or are of another model.
    """
    model = build_model(config.backbone.name, num_classes, config.seed, config.transform.size)
    path = run / runs.MODEL
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        hint = f"remove {run / runs.MANIFEST} and repeat stage one: it continues where it was"
        reason = " ".join(str(error).split())  # PyTorch's is of several lines
        raise InputError(f"the model in {path} cannot be read: {reason}", hint) from None
    return model.eval()


def _loss(found: Found) -> Loss:
    """What a retrained classifier was trained with."""
    manifest = found.manifest
    try:
        method = methods.get(manifest["method"]).with_settings(**manifest["settings"])
        counts = manifest.get("class_counts", manifest["train_counts"])
        return loss_of(method, losses.ClassFacts(np.asarray(counts, np.int64)))
    except (TypeError, ValueError) as error:
        told = f"{found.folder / runs.MANIFEST} does not tell the classifier's settings: {error}"
        raise InputError(told, f"remove {found.folder} and repeat gol-decouple stage2") from None


def _class_names(path: Path) -> list[str]:
    """The names in a `per_class.csv`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [row["name"] for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        hint = f"remove {path.parent / runs.MANIFEST} and repeat the command that made it"
        raise InputError(f"{path}, which names the classes, cannot be read: {error}", hint) from None
