"""Published figures, shown beside a row only where the class counts and the parts are those of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gol_decouple.class_stats import GROUPS, group_masks, long_tail_counts

SOURCE = "GOL, ECCV 2022, Table 4"


@dataclass(frozen=True)
class Figure:
    """Top-1 in percent of Softmax and of the Gumbel-retrained classifier on one dataset and backbone.

    Attributes:
        backbone: the architecture, whichever library it is from.
        counts: what is known of the dataset's train counts.
    """

    backbone: str
    counts: Counts
    softmax: float
    gumbel: float


@dataclass(frozen=True)
class Counts:
    """What tells a dataset from others: classes, train images, those of the largest and the smallest class, and how
    many classes are many, medium and few. The lists of ImageNet-LT and Places-LT are published with these.
    """

    classes: int
    images: int
    largest: int
    smallest: int
    groups: tuple[int, int, int]

    @classmethod
    def of(cls, train_counts: Sequence[int]) -> Counts:
        """Those of a dataset's train counts [C]."""
        masks = group_masks(np.asarray(train_counts))
        many, medium, few = (int(masks[group].sum()) for group in GROUPS)
        return cls(len(train_counts), sum(train_counts), max(train_counts), min(train_counts), (many, medium, few))


def _cifar100_lt(imbalance_factor: int, softmax: float, gumbel: float) -> Figure:
    return Figure("resnet32", Counts.of(long_tail_counts(500, 100, imbalance_factor)), softmax, gumbel)


IMAGENET_LT = Counts(1000, 115_846, 1280, 5, (385, 479, 136))
PLACES_LT = Counts(365, 62_500, 4980, 5, (131, 163, 71))
TABLE_4 = (
    _cifar100_lt(50, softmax=46.2, gumbel=49.0),
    _cifar100_lt(100, softmax=42.4, gumbel=45.5),
    _cifar100_lt(200, softmax=38.3, gumbel=41.5),
    Figure("resnet50", IMAGENET_LT, softmax=45.2, gumbel=48.2),
    Figure("seresnet50", IMAGENET_LT, softmax=45.9, gumbel=48.5),
    Figure("resnet152", PLACES_LT, softmax=28.7, gumbel=30.0),
)

# The paper trains Softmax in stage one only and retrains with Gumbel under random sampling.
_PAPER_PARTS = {"loss": "cross_entropy", "sampler": "random", "classifier": "linear"}


def paper_top1(manifest: dict[str, Any]) -> float | None:
    """The paper's top-1 for what a manifest describes, or None if it reports none."""
    if any(manifest[part] != value for part, value in _PAPER_PARTS.items()):
        return None
    if manifest.get("trained_on", "train") != "train":
        return None
    backbone, counts = architecture(manifest["backbone"]), Counts.of(manifest["train_counts"])
    for figure in TABLE_4:
        if (figure.backbone, figure.counts) == (backbone, counts):
            if manifest["stage"] == 1 and manifest["activation"] == "softmax":
                return figure.softmax
            if manifest["stage"] == 2 and manifest["activation"] == "gumbel":
                return figure.gumbel
    return None


def architecture(backbone: str | None) -> str | None:
    """`resnet50` of `timm:resnet50.a1_in1k`."""
    return backbone and backbone.rpartition(":")[2].partition(".")[0]
