"""Features larger than memory: their blocks in shuffled order, read ahead into a shuffle buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gol_decouple.features.blocked import FeatureArray

T = TypeVar("T")
_END: Any = object()


class ShuffleBuffer:
    """Memory for some blocks of some views, and for those that are read next.

    Args:
        views: what is read, as pairs of a split's features and a view; each pass reads every block of them once.
        num_bytes: of memory, for at least two blocks.
    """

    def __init__(self, views: Sequence[tuple[FeatureArray, int]], num_bytes: int) -> None:
        self.views = list(views)
        features = views[0][0]
        # The first row and the first block of each view among all, and their numbers at the end.
        self.first_rows = np.cumsum([0, *(array.shape[1] for array, _ in views)])
        self.first_blocks = np.cumsum([0, *(array.blocks_per_view for array, _ in views)])
        self.rows_of_block = np.array([array.rows_per_block for array, _ in views])
        self.slot = int(self.rows_of_block.max())
        block_bytes = self.slot * features.shape[2] * features.dtype.itemsize
        self.blocks_at_once = min(max(1, num_bytes // (2 * block_bytes)), int(self.first_blocks[-1]))
        shape = (self.blocks_at_once * self.slot, features.shape[2])
        self.memory = [np.empty(shape, features.dtype) for _ in range(2)]

    @property
    def num_rows(self) -> int:
        """Rows that are shuffled among each other."""
        return min(len(self.memory[0]), int(self.first_rows[-1]))

    def plan(self, draws: np.random.Generator) -> Pass:
        """A pass over all blocks in random order."""
        return Pass(self, draws.permutation(int(self.first_blocks[-1])))


@dataclass(frozen=True)
class Pass:
    """One pass over the blocks, numbered through all views, in an order, a buffer of them after the other."""

    buffer: ShuffleBuffer
    order: NDArray[np.int64]

    @property
    def num_buffers(self) -> int:
        """How often the buffer is filled."""
        return -(-len(self.order) // self.buffer.blocks_at_once)

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For rows [M], numbered through all views, which of the buffers holds each, and at which place."""
        buffer = self.buffer
        view = np.searchsorted(buffer.first_rows, rows, side="right") - 1
        block, offset = np.divmod(rows - buffer.first_rows[view], buffer.rows_of_block[view])
        position = np.empty_like(self.order)
        position[self.order] = np.arange(len(self.order))
        number, slot = np.divmod(position[buffer.first_blocks[view] + block], buffer.blocks_at_once)
        return number, slot * buffer.slot + offset

    def buffers(self) -> Generator[NDArray[Any], None, None]:
        """Each buffer, [blocks_at_once * slot, D] in the file's dtype, until the next one is asked for.

        Raises:
            InputError: a block is damaged or can no longer be read.
        """
        return read_ahead(self._read(), len(self.buffer.memory))

    def _read(self) -> Generator[NDArray[Any], None, None]:
        buffer, at_once = self.buffer, self.buffer.blocks_at_once
        with buffer.views[0][0].opened() as descriptor:  # all are in one file
            for number, memory in zip(range(self.num_buffers), cycle(buffer.memory)):
                blocks = self.order[number * at_once :][:at_once]
                views = np.searchsorted(buffer.first_blocks, blocks, side="right") - 1
                for slot, (block, place) in enumerate(zip(blocks.tolist(), views.tolist(), strict=True)):
                    array, view = buffer.views[place]
                    index = block - int(buffer.first_blocks[place])
                    array.read_block(view, index, memory[slot * buffer.slot :], descriptor)
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
