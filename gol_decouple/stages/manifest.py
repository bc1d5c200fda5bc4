"""What a finished run says of itself: the one form of manifest that both stages write and the report reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import gol_decouple
from gol_decouple import classifiers, provenance, runs, runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.features.extract import tensors_sha256
from gol_decouple.losses import Loss
from gol_decouple.metrics import no_metrics
from gol_decouple.stages.belonging import facts_of
from gol_decouple.stages.detection_evaluation import DetectionEvaluation, Losses
from gol_decouple.stages.evaluation import metrics_of, predict, save_predictions
from gol_decouple.stages.states import STATE


def finish(
    folder: Path,
    classifier: Any,
    features: FeaturesFile,
    loss: Losses,
    device: torch.device,
    facts: dict[str, Any],
    temperature: float | None = None,
    split: str = "test",
    positions: NDArray[np.int64] | None = None,
    detections: DetectionEvaluation | None = None,
) -> None:
    """Evaluate a classifier, write its predictions and per-class accuracies, then its manifest, last.

    Args:
        classifier: anything `classifiers.of` takes; None if there is none, and then accuracies are None.
        loss: what turns its logits into scores; of a cascade, one a stage, as are its classifiers.
        facts: what only the stage knows: stage, run, method and parts, seed, settings, seconds.
        temperature: of its scores.
        split, positions: what it is evaluated on (see `evaluation.predict`).
        detections: what it is evaluated with instead where the features are of RoIs, whose accuracy is no result.
    """
    metrics, samples = no_metrics(features.classes.train_counts), None
    if detections is not None:
        facts, split = {**facts, "detection": detections.evaluate(folder, classifier, loss)}, detections.split
    elif classifier is not None:
        assert isinstance(loss, Loss)  # several are of a cascade
        predictions = predict(classifier, features, split, loss, device, temperature, positions)
        norms = classifiers.of(classifier).class_norms(len(features.classes))
        save_predictions(folder, predictions, features.classes, norms)
        metrics, samples = metrics_of(predictions, features.classes), len(predictions.labels)
    manifest = {
        **_describe(features),
        **facts,
        "inputs": _inputs(features, detections) | facts.get("inputs", {}),
        "classifier_sha256": _sha256(classifier),
        "split": split,
        "temperature": temperature,
        "metrics": metrics,
        "samples": samples,
        "version": gol_decouple.__version__,
        "software": runtime.describe(device),
        "environment": environment(device),
        "command": provenance.command(),
        "folder": provenance.working_folder(),
    }
    runs.write_manifest(folder, manifest)
    (folder / STATE).unlink(missing_ok=True)  # what it would have been evaluated from, if that had been stopped


def environment(device: torch.device) -> dict[str, Any]:
    """What computes here: see `runtime.execution`, and of `provenance` versions, checkout and code_sha256."""
    code = {"checkout": provenance.checkout(), "code_sha256": provenance.code_sha256()}
    return runtime.execution(device) | {"versions": provenance.versions(), **code}


def _inputs(features: FeaturesFile, detections: DetectionEvaluation | None) -> dict[str, Any]:
    """The files a result rests on, and what identifies their content."""
    origin = features.origin
    return {
        "dataset_sha256": origin.get("dataset", {}).get("sha256"),
        "weights_sha256": origin.get("backbone", {}).get("sha256"),
        "features": str(features.path.resolve()),
        **({} if detections is None else {"annotations": detections.annotations}),
    }


def _sha256(classifier: Any) -> str | None:
    """Of the tensors of one classifier; those of a cascade have manifests of their own."""
    one = None if isinstance(classifier, list) or classifier is None else classifiers.of(classifier)
    return None if one is None else tensors_sha256(one.tensors())


def _describe(features: FeaturesFile) -> dict[str, Any]:
    """The features a result rests on."""
    dataset = features.origin.get("dataset", {})
    counts, images = features.classes.train_counts, features.classes.images
    of_images = {} if images is None else {"image_counts": images.counts.tolist(), "num_images": images.num_images}
    present = counts[counts > 0]
    return {
        "dataset": dataset.get("name", features.path.stem),
        "imbalance_factor": dataset.get("imbalance_factor") or float(present.max() / present.min()),
        "backbone": features.origin.get("backbone", {}).get("name"),
        "train_counts": counts.tolist(),
        **of_images,
        "features": facts_of(features),
    }
