"""A thread that takes features from the device and writes them, while the caller computes the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from gol_decouple.features.layout import Block
from gol_decouple.features.writer import FeatureWriter

WAITING_BLOCKS = 2  # that may be computed but not yet written


class WriterThread:
    """Writes blocks in their order while the caller computes the next ones; an error comes up at the next call."""

    def __init__(self, writer: FeatureWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> WriterThread:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._wait(0)

    def write(self, block: Block, columns: Callable[[], dict[str, NDArray[Any]]]) -> None:
        """Write a block.

        Args:
            columns: gives its `features` and, of RoIs, the other columns; called on the thread.
        """
        self._wait(WAITING_BLOCKS - 1)
        self._waiting.append(self._thread.submit(self._write, block, columns))

    def _wait(self, at_most: int) -> None:
        while len(self._waiting) > at_most:
            self._waiting.popleft().result()

    def _write(self, block: Block, columns: Callable[[], dict[str, NDArray[Any]]]) -> None:
        self._writer.write(block, **columns())
