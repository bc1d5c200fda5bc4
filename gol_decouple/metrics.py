"""Accuracies of a classifier on labelled samples, in percent, and rank correlation.

NumPy only: the report uses it without torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.class_stats import GROUPS, class_counts, group_masks

Metrics = dict[str, float | int | None]

ACCURACIES = ("top1", "top1_balanced", *(f"top1_{group}" for group in GROUPS))
CALIBRATION = ("ece", "classwise_ece", "nll")


def class_accuracies(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """Accuracy of each class in percent, [C]; NaN where a class has no sample. Predictions and labels are [N]."""
    totals = class_counts(labels, num_classes)
    hits = class_counts(labels[predictions == labels], num_classes)
    with np.errstate(invalid="ignore"):
        return 100.0 * hits / np.where(totals > 0, totals, np.nan)


def top1_metrics(predictions: NDArray[np.int64], labels: NDArray[np.int64], train_counts: NDArray[np.int64]) -> Metrics:
    """Top-1 accuracies in percent and the number of classes behind each group.

    `top1` counts samples, `top1_balanced` is the mean over classes, and a group's accuracy is the mean over its
    classes; classes without a sample are left out of the means, and an empty group is None, never 0.

    Args:
        predictions: predicted class of each sample, [N].
        labels: true class of each sample, [N].
        train_counts: train samples of each class, [C]; they decide the groups.
    """
    per_class = class_accuracies(predictions, labels, len(train_counts))
    metrics: Metrics = {
        "top1": float(100.0 * np.mean(predictions == labels)),
        "top1_balanced": _mean(per_class),
    }
    masks = group_masks(train_counts)
    metrics |= {f"top1_{group}": _mean(per_class[masks[group]]) for group in GROUPS}
    metrics |= {f"num_{group}": int(masks[group].sum()) for group in GROUPS}
    return metrics


def no_metrics(train_counts: NDArray[np.int64]) -> Metrics:
    """The metrics where there is no classifier to measure: accuracies are None, group sizes as ever."""
    metrics: Metrics = dict.fromkeys((*ACCURACIES, *CALIBRATION))
    return metrics | {f"num_{group}": int(mask.sum()) for group, mask in group_masks(train_counts).items()}


def rank_correlation(values: NDArray[Any], others: NDArray[Any]) -> float:
    """Spearman's: the correlation of ranks, equal values sharing their mean rank; NaN where either is constant."""
    ranks = [_ranks(each) for each in (values, others)]
    a, b = (each - each.mean() for each in ranks)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((ends - counts + ends - 1) / 2.0)[place]
    return ranks


def _mean(values: NDArray[np.float64]) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None
