"""The train split as the engine sees it: held in memory, or streamed from its file."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch

from gol_decouple import runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.methods import Method
from gol_decouple.stages.feed import Batch, Feed, TrainRows, gather
from gol_decouple.stages.samples import TRAIN, Samples
from gol_decouple.stages.streamed import Streamed


def open_rows(
    features: FeaturesFile,
    device: torch.device,
    methods: Sequence[Method],
    memory_gb: float | None,
    samples: Samples = TRAIN,
) -> TrainRows:
    """The rows that some methods need of the samples to train on: in the device's memory if they fit, else streamed.

    Args:
        memory_gb: what they may take, in 10^9 bytes; None: half of what is free.

    Raises:
        InputError: the file is damaged, or a feature is not finite.
    """
    train = features["train"].features
    num_views = len(train) if any(method.views == "random" for method in methods) else 1
    count = num_views * train.shape[1] + (len(features["val"]) if samples.with_val else 0)
    values = count * features.feature_size
    budget = runtime.free_memory(device) // 2 if memory_gb is None else int(memory_gb * 1e9)
    if values * train.dtype.itemsize <= budget:
        return InMemory(features, device, num_views, samples, decoded=values * 4 <= budget)
    if memory_gb is None:
        budget = runtime.free_memory(torch.device("cpu")) // 2
    return Streamed(features, device, num_views, budget, samples)


class InMemory(TrainRows):
    """All rows in the device's memory, `decoded` to float32 or in the file's dtype."""

    def __init__(
        self,
        features: FeaturesFile,
        device: torch.device,
        num_views: int,
        samples: Samples = TRAIN,
        decoded: bool = True,
    ) -> None:
        super().__init__(features, device, num_views, samples)
        dtype = torch.float32 if decoded or self.stored[0][0].dtype.itemsize == 4 else torch.float16
        count = sum(array.shape[1] for array, _ in self.stored)
        self._rows = torch.empty(count, self.feature_size, dtype=dtype, device=device)
        self.num_bytes = self._rows.nbytes
        start = 0
        for array, view in self.stored:
            block = np.empty((array.rows_per_block, self.feature_size), array.dtype)
            with array.opened() as descriptor:
                for index in range(array.blocks_per_view):
                    count = array.read_block(view, index, block, descriptor)
                    self._rows[start : start + count] = torch.from_numpy(block[:count])
                    start += count

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        for feed in feeds:
            rows = feed.rows(self.labels, self.num_views, epoch)
            labels = self.labels[rows % self.num_samples].to(self.device)
            rows = self.places(rows).to(self.device)
            size = (len(rows) * feed.batch_size, self.feature_size)
            stored = torch.empty(size, dtype=self._rows.dtype, device=self.device)
            batch = torch.empty(size, dtype=feed.dtype, device=self.device)
            parts = (torch.split(whole, feed.batch_size, 1) for whole in (rows, labels))
            for part, part_labels in zip(*parts, strict=True):
                x = batch[: part.numel()]
                gather(self._rows, part.flatten(), stored, x)
                yield Batch(feed, x.view(*part.shape, -1), part_labels)
