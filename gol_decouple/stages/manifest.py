"""What a finished run says of itself: the one form of manifest that both stages write and the report reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import gol_decouple
from gol_decouple import runs, runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.losses import Loss
from gol_decouple.metrics import no_metrics
from gol_decouple.stages.evaluation import metrics_of, predict, save_predictions


def finish(
    folder: Path,
    classifier: Any,
    features: FeaturesFile,
    loss: Loss,
    device: torch.device,
    facts: dict[str, Any],
) -> None:
    """Evaluate a classifier on test, write its predictions and per-class accuracies, then its manifest, last.

    Args:
        classifier: weight [columns, D] and bias [columns], in any form `classifiers.as_tensors` takes; None if there
            is none, and then accuracies are None.
        loss: what turns its logits into scores.
        facts: what only the stage knows: stage, run, method and parts, seed, settings, seconds.
    """
    metrics = no_metrics(features.classes.train_counts)
    if classifier is not None:
        predictions = predict(classifier, features, "test", loss, device)
        save_predictions(folder, predictions, features.classes)
        metrics = metrics_of(predictions, features.classes)
    manifest = {
        **facts,
        **_describe(features),
        "split": "test",
        "metrics": metrics,
        "version": gol_decouple.__version__,
        "software": runtime.describe(device),
    }
    runs.write_manifest(folder, manifest)


def _describe(features: FeaturesFile) -> dict[str, Any]:
    """The features a result rests on."""
    dataset = features.origin.get("dataset", {})
    counts = features.classes.train_counts
    present = counts[counts > 0]
    return {
        "dataset": dataset.get("name", features.path.stem),
        "imbalance_factor": dataset.get("imbalance_factor", float(present.max() / present.min())),
        "backbone": features.origin.get("backbone", {}).get("name"),
        "train_counts": counts.tolist(),
        "features": {
            "fingerprint": features.fingerprint,
            "size": features.feature_size,
            "checked": features.checked,
        },
    }
