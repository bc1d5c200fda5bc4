"""Which samples and views make up stage two's batches, and in which order; draws are keyed by (seed, epoch)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gol_decouple import runtime, samplers
from gol_decouple.features import FeaturesFile
from gol_decouple.methods import Method
from gol_decouple.stages.samples import TRAIN, Samples, class_facts

_ORDER_STREAM, _VIEW_STREAM = 1, 2


@dataclass(frozen=True)
class Feed:
    """One sequence of batches; classifiers that agree in all of this see the same.

    Attributes:
        seeds: S of them, each with its own order of samples and draws of views.
        dtype: of the features in a batch.
        epochs: of the training, for a sampler that depends on it.
        background: the label of background samples, if there are any.
    """

    sampler: str
    views: str
    batch_size: int
    seeds: tuple[int, ...]
    dtype: torch.dtype
    epochs: int | None = None
    background: int | None = None

    @classmethod
    def of(cls, method: Method, seeds: tuple[int, ...], num_samples: int, background: int | None = None) -> Feed:
        """The feed of classifiers of one method; one for all, where the seeds are equal."""
        seeds = seeds[:1] if len(set(seeds)) == 1 else seeds
        batch_size = min(method.batch_size, num_samples)
        epochs = method.epochs if method.sampler in samplers.CHANGING else None
        dtype = getattr(torch, method.precision)
        return cls(method.sampler, method.views, batch_size, seeds, dtype, epochs, background)

    def rows(self, labels: torch.Tensor, num_views: int, epoch: int) -> torch.Tensor:
        """The rows (view * N + sample) of an epoch in their order, int64 [S, M]."""
        return torch.stack([self._rows(labels, num_views, seed, epoch) for seed in self.seeds])

    def _rows(self, labels: torch.Tensor, num_views: int, seed: int, epoch: int) -> torch.Tensor:
        share_done = epoch / self.epochs if self.epochs else 0.0
        sampler = samplers.get(self.sampler, self.background)
        order = sampler(labels, runtime.generator(seed, _ORDER_STREAM, epoch), share_done)
        if self.views == "clean":
            return order
        draws = runtime.generator(seed, _VIEW_STREAM, epoch)
        return torch.randint(num_views, (len(order),), generator=draws) * len(labels) + order


class Batch(NamedTuple):
    """Features [S, B, D] and labels [S, B] on the device; they are overwritten once the next batch is asked for."""

    feed: Feed
    x: torch.Tensor
    labels: torch.Tensor


class TrainRows(ABC):
    """The rows of N samples to train on: of train in V views, view 0 being the clean one, and of val in that alone.

    Rows are stored as views of all of train, one after the other, and val after them.

    Attributes:
        device: where batches are made.
        stored: the views that are stored, as pairs of a split's features and the view.
        labels: int64 [N], on the CPU.
        class_counts: [C], without background.
        facts: what losses are told of the classes.
        shuffled_rows: how many rows are shuffled among each other; None: all of them.
        num_bytes: of memory that their features take, or stream through.
    """

    shuffled_rows: int | None = None
    num_bytes: int

    def __init__(self, features: FeaturesFile, device: torch.device, num_views: int, samples: Samples = TRAIN) -> None:
        self.device = device
        self.num_views = num_views
        self.labels = torch.from_numpy(samples.labels(features))
        self.class_counts = samples.counts(features)
        self.facts = class_facts(features.classes, self.class_counts)
        self.num_samples, self.feature_size = len(self.labels), features.feature_size
        train, kept = features["train"].features, samples.kept(features)
        self.stored = [(train, view) for view in range(num_views)]
        self._as_stored = len(kept) == train.shape[1] and not samples.with_val
        # Where each sample's clean view is stored, and how far from there the next view is.
        self._first, self._to_next = torch.from_numpy(kept), torch.full((len(kept),), train.shape[1])
        if samples.with_val:
            val = features["val"].features
            self.stored.append((val, 0))
            kept_of_val = torch.from_numpy(samples.kept_of_val(features))
            self._first = torch.cat([self._first, num_views * train.shape[1] + kept_of_val])
            self._to_next = torch.cat([self._to_next, torch.zeros_like(kept_of_val)])

    def places(self, rows: torch.Tensor) -> torch.Tensor:
        """Where rows (view * N + sample) are stored."""
        if self._as_stored:
            return rows
        sample = rows % self.num_samples
        return self._first[sample] + rows // self.num_samples * self._to_next[sample]

    @abstractmethod
    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        """All batches of an epoch of every feed; those of one feed in its order."""


def gather(rows: torch.Tensor, index: torch.Tensor, stored: torch.Tensor, out: torch.Tensor) -> None:
    """`rows` at `index` [M] into `out` [M, D], through the first rows of `stored` where the dtypes differ."""
    if rows.dtype == out.dtype:
        torch.index_select(rows, 0, index, out=out)
    else:
        out.copy_(torch.index_select(rows, 0, index, out=stored[: len(index)]))
