"""A finished model put together again from its run: backbone, classifier, and what turns logits into scores.

Image classifiers, and what detectors share with them; `restored_detector` has the rest of those.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol_decouple import losses, methods, runs
from gol_decouple.backbones import ImageClassifier, build_model
from gol_decouple.classifiers import Classifier, as_tensors
from gol_decouple.config import load_config
from gol_decouple.errors import InputError
from gol_decouple.losses import ClassFacts, Loss
from gol_decouple.settings import Config
from gol_decouple.stages.belonging import load_tensors, unreadable_model
from gol_decouple.stages.calibration import tempered
from gol_decouple.stages.classifier_file import load_classifier
from gol_decouple.stages.finding import Found
from gol_decouple.stages.jobs import loss_of


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
        InputError: a file of it that cannot be read, or that does not fit the others; or it is a detector's.
    """
    if found.is_detector:
        raise InputError(f"{found.run} is of a detector", "restored_detector.restore_detector restores it")
    config = load_config(str(found.run / runs.CONFIG))
    num_classes = len(found.manifest["train_counts"])
    names = [row["name"] for row in read_classes(found.folder / runs.PER_CLASS, ["name"], num_classes)]
    model = load_model(found.run, config, len(names))
    size = runs.read_manifest(found.run).get("image_size")
    image_size = None if size is None else (int(size[0]), int(size[1]))
    if not found.is_retrained:
        classifier, loss = Classifier(*as_tensors(model.classifier)), losses.get("cross_entropy", activation="softmax")
    else:
        classifier, loss = retrained(found, (len(names), model.classifier.in_features))
    temperature = found.manifest.get("temperature")
    return Restored(found, config, model, classifier, loss, temperature, names, image_size)


def load_model(run: Path, config: Config, num_classes: int) -> ImageClassifier:
    """The model that a run's stage one ended with, in eval mode.

    Raises:
        InputError: its weights cannot be read, or are of another model.
    """
    model = build_model(config.backbone.name, num_classes, config.seed, config.transform.size)
    tensors = load_tensors(run)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise unreadable_model(run, str(error)) from None
    return model.eval()


def retrained(found: Found, shape: tuple[int, int]) -> tuple[Classifier, Loss]:
    """A classifier of stage two, and the loss that turns its logits into scores.

    Args:
        shape: C, and the size of the features it is for.

    Raises:
        InputError: files of it that cannot be read, or that are for other classes or features.
    """
    classifier, loss = load_classifier(found.folder), _loss(found)
    wanted = [loss.num_columns(shape[0]), shape[1]]
    if list(classifier.weight.shape) != wanted:
        told = f"the classifier in {found.folder} is {list(classifier.weight.shape)}, not {wanted}"
        raise InputError(told, "it is not of this run: repeat gol-decouple stage2 with --overwrite")
    return classifier, loss


def read_classes(path: Path, columns: Sequence[str], num_classes: int) -> list[dict[str, str]]:
    """The rows of a table with a line for each class, in label order.

    Raises:
        InputError: it cannot be read, lacks one of the columns, or is of other classes.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if [row["class"] for row in rows] != [str(label) for label in range(num_classes)]:
            raise ValueError(f"it does not have a line for each of {num_classes:,} classes")
        if any(row[name] is None for row in rows for name in columns):
            raise ValueError("a line ends early")
        return [{name: row[name] for name in columns} for row in rows]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        hint = f"remove {path.parent / runs.MANIFEST} and repeat the command that made it"
        raise InputError(f"{path}, which names the classes, cannot be read: {error}", hint) from None


def _loss(found: Found) -> Loss:
    """What a retrained classifier was trained with."""
    manifest = found.manifest
    try:
        method = methods.get(manifest["method"]).with_settings(**manifest["settings"])
        return loss_of(method, _facts(manifest))
    except (KeyError, TypeError, ValueError) as error:
        told = f"{found.folder / runs.MANIFEST} does not tell the classifier's settings: {error}"
        raise InputError(told, f"remove {found.folder} and repeat gol-decouple stage2") from None


def _facts(manifest: Mapping[str, Any]) -> ClassFacts:
    """What a loss was told of the classes (see `samples.class_facts`)."""
    counts = np.asarray(manifest.get("class_counts", manifest["train_counts"]), np.int64)
    if "detection" not in manifest:
        return ClassFacts(counts)
    of_class, images = np.asarray(manifest["image_counts"], np.int64), int(manifest["num_images"])
    return ClassFacts(counts, of_class / images, images, background=True)
