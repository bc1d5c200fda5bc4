"""Published figures, shown beside a row only where the class counts and the parts are those of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gol_decouple.class_stats import long_tail_counts

SOURCE = "GOL, ECCV 2022, Table 4"


@dataclass(frozen=True)
class Figure:
    """Top-1 in percent of Softmax and of the Gumbel-retrained classifier on one dataset and backbone."""

    backbone: str
    train_counts: list[int]
    softmax: float
    gumbel: float


def _cifar100_lt(imbalance_factor: int, softmax: float, gumbel: float) -> Figure:
    return Figure("resnet32", long_tail_counts(500, 100, imbalance_factor), softmax, gumbel)


TABLE_4 = (
    _cifar100_lt(50, softmax=46.2, gumbel=49.0),
    _cifar100_lt(100, softmax=42.4, gumbel=45.5),
    _cifar100_lt(200, softmax=38.3, gumbel=41.5),
)

# The paper trains Softmax in stage one only and retrains with Gumbel under random sampling.
_PAPER_PARTS = {"loss": "cross_entropy", "sampler": "random", "classifier": "linear"}


def paper_top1(manifest: dict[str, Any]) -> float | None:
    """The paper's top-1 for what a manifest describes, or None if it reports none."""
    if any(manifest[part] != value for part, value in _PAPER_PARTS.items()):
        return None
    if manifest.get("trained_on", "train") != "train":
        return None
    for figure in TABLE_4:
        if figure.backbone == manifest["backbone"] and figure.train_counts == manifest["train_counts"]:
            if manifest["stage"] == 1 and manifest["activation"] == "softmax":
                return figure.softmax
            if manifest["stage"] == 2 and manifest["activation"] == "gumbel":
                return figure.gumbel
    return None
