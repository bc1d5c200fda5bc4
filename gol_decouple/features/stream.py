"""Features larger than memory: their blocks in shuffled order, read ahead into a shuffle buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gol_decouple.features.reader import FeatureArray

T = TypeVar("T")
_END: Any = object()


class ShuffleBuffer:
    """Memory for some of a split's blocks, and for those that are read next.

    Args:
        num_views: the first views, which are read; each pass reads every block of them once.
        num_bytes: of memory, for at least two blocks.
    """

    def __init__(self, features: FeatureArray, num_views: int, num_bytes: int) -> None:
        self.features = features
        self.num_views = num_views
        self.num_blocks = num_views * features.blocks_per_view
        block_bytes = features.rows_per_block * features.shape[2] * features.dtype.itemsize
        self.blocks_at_once = min(max(1, num_bytes // (2 * block_bytes)), self.num_blocks)
        shape = (self.blocks_at_once * features.rows_per_block, features.shape[2])
        self.memory = [np.empty(shape, features.dtype) for _ in range(2)]

    @property
    def num_rows(self) -> int:
        """Rows that are shuffled among each other."""
        return min(len(self.memory[0]), self.num_views * self.features.shape[1])

    def plan(self, draws: np.random.Generator) -> Pass:
        """A pass over all blocks in random order."""
        return Pass(self, draws.permutation(self.num_blocks))


@dataclass(frozen=True)
class Pass:
    """One pass over the blocks (view * blocks_per_view + block) in an order, a buffer of them after the other."""

    buffer: ShuffleBuffer
    order: NDArray[np.int64]

    @property
    def num_buffers(self) -> int:
        """How often the buffer is filled."""
        return -(-len(self.order) // self.buffer.blocks_at_once)

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For rows [M] (view * N + row), which of the buffers holds each, and at which place."""
        features = self.buffer.features
        view, row = np.divmod(rows, features.shape[1])
        block, offset = np.divmod(row, features.rows_per_block)
        position = np.empty_like(self.order)
        position[self.order] = np.arange(len(self.order))
        number, slot = np.divmod(position[view * features.blocks_per_view + block], self.buffer.blocks_at_once)
        return number, slot * features.rows_per_block + offset

    def buffers(self) -> Generator[NDArray[Any], None, None]:
        """Each buffer, [blocks_at_once * rows_per_block, D] in the file's dtype, until the next one is asked for.

        Raises:
            InputError: a block is damaged or can no longer be read.
        """
        return read_ahead(self._read(), len(self.buffer.memory))

    def _read(self) -> Generator[NDArray[Any], None, None]:
        features, at_once = self.buffer.features, self.buffer.blocks_at_once
        with features.opened() as descriptor:
            for number, memory in zip(range(self.num_buffers), cycle(self.buffer.memory)):
                for slot, block in enumerate(self.order[number * at_once :][:at_once].tolist()):
                    view, index = divmod(block, features.blocks_per_view)
                    features.read_block(view, index, memory[slot * features.rows_per_block :], descriptor)
                yield memory


def read_ahead(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """What `items` yields, made by another thread while the caller works on the ones before.

    There are never more than `depth` items at a time, the caller's among them: a maker that takes turns with `depth`
    buffers overwrites none that is in use.
    """
    with closing(items), ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                yield item
                waiting.append(thread.submit(next, items, _END))
        finally:
            for left in waiting:
                left.cancel()
