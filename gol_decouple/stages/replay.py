"""CUDA graphs: a step's kernels launched as one, where launching them one by one takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    arguments: tuple[torch.Tensor, ...]


class Replay:
    """A function of tensors that works in place, on memory that stays where it is; on a GPU it is replayed.

    For each shape of its arguments, the first call runs as it is (and lets libraries set themselves up), the second
    one is recorded, and from then on its recording is replayed on the arguments' values.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._recordings: dict[tuple[torch.Size, ...], _Recording | None] = {}

    def __call__(self, *arguments: torch.Tensor) -> None:
        if not arguments[0].is_cuda:
            self._function(*arguments)
            return
        shapes = tuple(argument.shape for argument in arguments)
        if shapes not in self._recordings:
            self._recordings[shapes] = None
            self._function(*arguments)
            return
        recording = self._recordings[shapes] or self._record(arguments)
        self._recordings[shapes] = recording
        for own, argument in zip(recording.arguments, arguments, strict=True):
            own.copy_(argument)
        recording.graph.replay()

    def _record(self, arguments: tuple[torch.Tensor, ...]) -> _Recording:
        own = tuple(argument.clone() for argument in arguments)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._function(*own)
        return _Recording(graph, own)
