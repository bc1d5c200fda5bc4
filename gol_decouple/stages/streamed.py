"""Train rows that do not fit in memory, in batches that are read, shuffled and decoded while others are trained on."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import numpy as np
import torch

from gol_decouple import runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.features.stream import Pass, ShuffleBuffer, read_ahead
from gol_decouple.stages.feed import Batch, Feed, TrainRows, gather
from gol_decouple.stages.samples import TRAIN, Samples

_BLOCK_STREAM = 3
# Rows that are gathered at a time, at least a batch of them, and how many such pieces are made ahead.
ROWS_A_PIECE, PIECES_AHEAD = 1024, 4

# A feed, and features [M, D] and labels [M] of its next batches.
Piece = tuple[Feed, torch.Tensor, torch.Tensor]


class Streamed(TrainRows):
    """Rows that are read in shuffled blocks, and shuffled in a buffer.

    An epoch has the same rows as in memory, of which those of a buffer come together: the order of blocks belongs to
    the file and the epoch, and is one for all feeds; within a buffer rows are in the order of their feed.
    """

    def __init__(
        self,
        features: FeaturesFile,
        device: torch.device,
        num_views: int,
        num_bytes: int,
        samples: Samples = TRAIN,
    ) -> None:
        super().__init__(features, device, num_views, samples)
        self._seed = int(features.fingerprint[:15], 16)
        self._buffer = ShuffleBuffer(self.stored, num_bytes)
        self.shuffled_rows = self._buffer.num_rows
        self.num_bytes = sum(memory.nbytes for memory in self._buffer.memory)

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        plan = self._buffer.plan(np.random.default_rng(runtime.stream_seed(self._seed, _BLOCK_STREAM, epoch)))
        memory = _PieceMemory(self.feature_size, pinned=self.device.type == "cuda")
        portions = []
        for feed in feeds:
            (rows,) = feed.rows(self.labels, self.num_views, epoch)
            labels = self.labels[rows % self.num_samples]
            portions.append(_Portions(feed, self.places(rows), labels, plan, memory))
        with closing(read_ahead(_gather(plan, portions), PIECES_AHEAD)) as pieces:
            for feed, *piece in pieces:
                x, labels = (part.to(self.device, non_blocking=True) for part in piece)
                copied = torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None
                parts = (torch.split(part[None], feed.batch_size, 1) for part in (x, labels))
                for batch in zip(*parts, strict=True):
                    yield Batch(feed, *batch)
                if copied is not None:
                    copied.synchronize()


def _gather(plan: Pass, portions: list[_Portions]) -> Generator[Piece, None, None]:
    with closing(plan.buffers()) as buffers:
        for number, buffer in enumerate(buffers):
            rows = torch.from_numpy(buffer)
            for portion in portions:
                yield from portion.take(number, rows)


class _Portions:
    """The rows of a feed, by the buffer they are in, and the piece that is being filled from one after another."""

    def __init__(self, feed: Feed, rows: torch.Tensor, labels: torch.Tensor, plan: Pass, memory: _PieceMemory) -> None:
        buffer, place = plan.locate(rows.numpy())
        order = torch.from_numpy(np.argsort(buffer, kind="stable"))
        self._feed = feed
        self._places = torch.from_numpy(place)[order]
        self._labels = labels[order]
        self._ends = np.cumsum(np.bincount(buffer, minlength=plan.num_buffers)).tolist()
        self._memory = memory
        self._done = 0

    def take(self, number: int, rows: torch.Tensor) -> Iterator[Piece]:
        """The pieces that are full with the rows of buffer `number`."""
        size = self._feed.batch_size * max(1, ROWS_A_PIECE // self._feed.batch_size)
        while self._done < self._ends[number]:
            filled = self._done % size
            if filled == 0:
                self._piece = self._memory.take(size, self._feed.dtype)
            count = min(size - filled, self._ends[number] - self._done)
            places = self._places[self._done : self._done + count]
            gather(rows, places, self._memory.scratch(size, rows.dtype), self._piece[filled : filled + count])
            self._done += count
            if filled + count == size or self._done == len(self._places):
                self._memory.give(self._piece)
                first = self._done - filled - count
                yield self._feed, self._piece[: filled + count], self._labels[first : self._done]


class _PieceMemory:
    """Pieces' memory, used again once as many pieces were made after as are made ahead."""

    def __init__(self, feature_size: int, pinned: bool) -> None:
        self._feature_size = feature_size
        self._pinned = pinned
        self._given: defaultdict[tuple[int, torch.dtype], deque[torch.Tensor]] = defaultdict(deque)
        self._scratch: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def take(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        """Memory [size, D] that no piece lies in any more."""
        given = self._given[size, dtype]
        if len(given) >= PIECES_AHEAD:
            return given.popleft()
        return torch.empty(size, self._feature_size, dtype=dtype, pin_memory=self._pinned)

    def give(self, piece: torch.Tensor) -> None:
        """The piece is full and on its way."""
        self._given[len(piece), piece.dtype].append(piece)

    def scratch(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        """Memory [size, D] for the moment."""
        if (size, dtype) not in self._scratch:
            self._scratch[size, dtype] = torch.empty(size, self._feature_size, dtype=dtype)
        return self._scratch[size, dtype]
