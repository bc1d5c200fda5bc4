"""What a classifier predicts on a split of a features file, and how often it is right."""

from __future__ import annotations

import copy
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gol_decouple import classifiers, losses, runs
from gol_decouple.class_stats import GROUPS, class_counts, group_masks
from gol_decouple.errors import InputError
from gol_decouple.features import Classes, FeaturesFile, open_features
from gol_decouple.files import atomic_path, write_text
from gol_decouple.losses import Loss
from gol_decouple.metrics import Metrics, class_accuracies, top1_metrics
from gol_decouple.stages.calibration import Calibration, best_temperature, tempered

TOP_K = 5
ROWS_AT_ONCE = 4096


class NotFinite(InputError):
    """A classifier whose weights are finite, and its logits of samples that it was not trained on are not."""


@dataclass(frozen=True)
class Predictions:
    """The K = min(5, C) likeliest classes of each of N samples, best first.

    Attributes:
        ids, labels: int64 [N].
        classes: int64 [N, K], by the loss's ranking; scores underflow where logits still differ.
        scores: float32 [N, K].
        calibration: `ece`, `classwise_ece` and `nll` (see `calibration.Calibration`).
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    calibration: Metrics


@torch.inference_mode()
def predict(
    classifier: Any,
    features: FeaturesFile,
    split: str,
    loss: Loss,
    device: torch.device | None = None,
    temperature: float | None = None,
    positions: NDArray[np.int64] | None = None,
) -> Predictions:
    """Apply a classifier to the clean view of a split.

    Args:
        classifier: anything `classifiers.of` takes, with `columns` logits a sample.
        loss: what turns its logits [N, columns] into scores [N, C].
        temperature: of the scores (see `calibration.tempered`).
        positions: of some of the split's samples, [N]; None: all.

    Raises:
        InputError: a classifier for other features or classes, or no such split.
        NotFinite: logits that are NaN or infinite.
    """
    applied = classifiers.of(classifier).to(device)
    rows = features[split]
    num_classes = len(features.classes)
    loss = copy.deepcopy(loss).to(device)
    if applied.weight.shape != (loss.num_columns(num_classes), features.feature_size):
        raise InputError(
            f"the classifier is {list(applied.weight.shape)}, but {features.path} has {num_classes} classes and "
            f"features of size {features.feature_size}"
        )
    chosen = slice(None) if positions is None else positions
    all_labels, ids = rows.labels[chosen], rows.ids[chosen]
    classes, values = [], []
    calibration = Calibration(num_classes, device)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        x = rows.features[0, part if positions is None else positions[part]]
        logits = applied.logits(torch.from_numpy(x).to(device))
        if not logits.isfinite().all():
            raise NotFinite(f"its logits of {split} samples are not finite", "scale the features, or lower stage2.lr")
        top = loss.ranking(logits).topk(min(TOP_K, num_classes), dim=1).indices
        classes.append(top.cpu().numpy())
        scores, log_scores = tempered(loss, logits, temperature)
        values.append(scores.gather(1, top).float().cpu().numpy())
        calibration.add(scores, log_scores, top[:, 0], torch.from_numpy(all_labels[part]).to(device))
    return Predictions(ids, all_labels, np.concatenate(classes), np.concatenate(values), calibration.metrics())


@torch.inference_mode()
def fitted_temperature(
    classifier: Any, features: FeaturesFile, split: str, loss: Loss, positions: NDArray[np.int64] | None = None
) -> float:
    """The temperature of a classifier's scores that fits a split, or some of it, best (`calibration.best_temperature`).

    Samples of classes that it was not trained on tell nothing of how sure it should be, and are left out.
    All logits of it are in memory at once.

    Raises:
        InputError: there is no sample of a class that it was trained on.
        NotFinite: logits that are NaN or infinite.
    """
    applied, rows = classifiers.of(classifier), features[split]
    positions = of_trained_classes(features, split, positions)
    parts = [positions[start : start + ROWS_AT_ONCE] for start in range(0, len(positions), ROWS_AT_ONCE)]
    logits = torch.cat([applied.logits(torch.from_numpy(rows.features[0, part])) for part in parts])
    if not logits.isfinite().all():
        raise NotFinite(f"its logits of {split} samples are not finite", "scale the features, or lower stage2.lr")
    return best_temperature(loss, logits, torch.from_numpy(rows.labels[positions]))


def of_trained_classes(
    features: FeaturesFile, split: str, positions: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Positions of a split's samples, or of some of them, whose class train has samples of; for a temperature.

    Raises:
        InputError: there is none.
    """
    labels = features[split].labels
    positions = np.arange(len(labels)) if positions is None else positions
    positions = positions[features.classes.train_counts[labels[positions]] > 0]
    if not len(positions):
        told = f"{features.path}: {split} has no sample of a class that train has, to fit a temperature on"
        raise InputError(told, "stage2.temperature = 'none'")
    return positions


def evaluate(classifier: Any, features: str | Path | FeaturesFile, split: str = "test") -> Metrics:
    """Top-1 metrics in percent (see `metrics.top1_metrics`) and calibration of a classifier on a split.

    Args:
        classifier: a retrained classifier, an `nn.Linear`, or a pair (weight [C, D], bias [C]). Without a loss of its
            own, its scores are softmax.
        features: a features file, open or by path.

    Raises:
        InputError: a classifier that does not fit the features, no such split, or RoIs.
    """
    features = features if isinstance(features, FeaturesFile) else open_features(features)
    if features.is_detection:
        raise InputError(
            f"{features.path} holds RoIs, whose accuracy is no result", "average precision is, of detections"
        )
    loss = getattr(classifier, "loss", None) or losses.get("cross_entropy", activation="softmax")
    temperature = getattr(classifier, "temperature", None)
    return metrics_of(predict(classifier, features, split, loss, temperature=temperature), features.classes)


def metrics_of(predictions: Predictions, classes: Classes) -> Metrics:
    """Top-1 metrics in percent, and calibration."""
    top1 = top1_metrics(predictions.classes[:, 0], predictions.labels, classes.train_counts)
    return top1 | predictions.calibration


def save_predictions(folder: Path, predictions: Predictions, classes: Classes, norms: NDArray[np.float64]) -> None:
    """Write `predictions.npz` (id, label, classes, scores) and `per_class.csv` into `folder`.

    Args:
        norms: of each class's weight, [C].
    """
    with atomic_path(folder / runs.PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            id=predictions.ids,
            label=predictions.labels,
            classes=predictions.classes.astype(np.int32),
            scores=predictions.scores,
        )
    accuracies = class_accuracies(predictions.classes[:, 0], predictions.labels, len(classes))
    samples = class_counts(predictions.labels, len(classes))
    masks = group_masks(classes.train_counts)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("class", "name", "train_count", "group", "samples", "accuracy", runs.WEIGHT_NORM))
    for label, name in enumerate(classes.names):
        group = next(group for group in GROUPS if masks[group][label])
        accuracy = "" if np.isnan(accuracies[label]) else f"{accuracies[label]:.4f}"
        row = (label, name, classes.train_counts[label], group, samples[label], accuracy)
        table.writerow((*row, f"{norms[label]:.6g}"))
    write_text(folder / runs.PER_CLASS, text.getvalue())
