"""The train split as the engine sees it: held in memory, or streamed from its file."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import product

import numpy as np
import torch

from gol_decouple import runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.methods import Method
from gol_decouple.stages.feed import Batch, Feed, TrainRows, gather
from gol_decouple.stages.streamed import Streamed


def open_rows(
    features: FeaturesFile, device: torch.device, methods: Sequence[Method], memory_gb: float | None
) -> TrainRows:
    """The train rows that some methods need: in the device's memory if they fit there, else streamed.

    Args:
        memory_gb: what they may take, in 10^9 bytes; None: half of what is free.

    Raises:
        InputError: the file is damaged, or a feature is not finite.
    """
    train = features["train"].features
    num_views = len(train) if any(method.views == "random" for method in methods) else 1
    values = num_views * math.prod(train.shape[1:])
    budget = runtime.free_memory(device) // 2 if memory_gb is None else int(memory_gb * 1e9)
    if values * train.dtype.itemsize <= budget:
        return InMemory(features, device, num_views, decoded=values * 4 <= budget)
    if memory_gb is None:
        budget = runtime.free_memory(torch.device("cpu")) // 2
    return Streamed(features, device, num_views, budget)


class InMemory(TrainRows):
    """All rows in the device's memory, `decoded` to float32 or in the file's dtype."""

    def __init__(self, features: FeaturesFile, device: torch.device, num_views: int, decoded: bool = True) -> None:
        super().__init__(features, device, num_views)
        train = features["train"].features
        dtype = torch.float32 if decoded or train.dtype.itemsize == 4 else torch.float16
        self._rows = torch.empty(num_views * self.num_samples, self.feature_size, dtype=dtype, device=device)
        block = np.empty((train.rows_per_block, self.feature_size), train.dtype)
        with train.opened() as descriptor:
            for view, index in product(range(num_views), range(train.blocks_per_view)):
                count = train.read_block(view, index, block, descriptor)
                start = view * self.num_samples + index * train.rows_per_block
                self._rows[start : start + count] = torch.from_numpy(block[:count])

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        for feed in feeds:
            rows = feed.rows(self.labels, self.num_views, epoch)
            labels = self.labels[rows % self.num_samples].to(self.device)
            rows = rows.to(self.device)
            size = (len(rows) * feed.batch_size, self.feature_size)
            stored = torch.empty(size, dtype=self._rows.dtype, device=self.device)
            batch = torch.empty(size, dtype=feed.dtype, device=self.device)
            parts = (torch.split(whole, feed.batch_size, 1) for whole in (rows, labels))
            for part, part_labels in zip(*parts, strict=True):
                x = batch[: part.numel()]
                gather(self._rows, part.flatten(), stored, x)
                yield Batch(feed, x.view(*part.shape, -1), part_labels)
