"""Batches of images, decoded and transformed in worker processes; each augmentation drawn by a key of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gol_decouple import samplers
from gol_decouple.data.dataset import Dataset, Split
from gol_decouple.data.transforms import Augmentation, CleanView
from gol_decouple.data.workers import worker_start
from gol_decouple.distributed import ALONE, World
from gol_decouple.errors import InputError, few
from gol_decouple.runtime import default_workers, generator, stream_seed
from gol_decouple.settings import TransformConfig

B = TypeVar("B")

# Random streams: the order of an epoch's images, and the augmentations of an epoch or a view.
ORDER, EPOCH, VIEW = 0, 1, 2


class Key(NamedTuple):
    """One image to load, by its index in the split, and its augmentation's random stream; None: the clean view."""

    image: int
    draw: tuple[int, ...] | None = None


Batch = tuple[torch.Tensor, torch.Tensor]  # images uint8 [N, H, W, 3], labels int64 [N]


Item = tuple[torch.Tensor, int]  # image uint8 [H, W, 3], label


class _Images(TorchDataset["Item | InputError"]):
    """A split's images by key. An error is an item like any other: raised in a worker, it would lose its words."""

    def __init__(self, split: Split, transform: TransformConfig, seed: int) -> None:
        self._split = split
        self._clean_view = CleanView(transform)
        self._augmentation = Augmentation(transform)
        self._seed = seed

    def __getitem__(self, key: Key) -> Item | InputError:
        try:
            image = self._split.images[key.image]
        except InputError as error:
            return error
        if key.draw is None:
            image = self._clean_view(image)
        else:
            image = self._augmentation(image, stream_seed(self._seed, *key.draw))
        return torch.from_numpy(image), int(self._split.labels[key.image])


class Loaded(Generic[B]):
    """Iterates over batches in the order of `keys`, as often as wanted, loaded in worker processes.

    Args:
        source: gives an item, or an error, by key.
        keys: the batches; what it yields may differ from one pass to the next.
        collate: makes a batch of its items, or an error.
        workers: processes that decode and transform; None: by the machine, 0: this one.
        pinned: in memory from which a GPU copies faster.
    """

    def __init__(
        self,
        source: TorchDataset[Any],
        keys: Iterable[Sequence[Key]],
        collate: Callable[[list[Any]], B | InputError],
        workers: int | None = None,
        pinned: bool = False,
    ) -> None:
        processes = default_workers() if workers is None else workers
        self._loader: DataLoader[Any] = DataLoader(
            source,
            batch_sampler=keys,  # type: ignore[arg-type]  # keys, not integers
            collate_fn=collate,
            num_workers=processes,
            persistent_workers=processes > 0,
            pin_memory=pinned,
            worker_init_fn=worker_start(),
        )

    def __iter__(self) -> Iterator[B]:
        """The batches.

        Raises:
            InputError: an image that cannot be decoded, or that does not fit into its batch.
        """
        for batch in self._loader:
            if isinstance(batch, InputError):
                # A new one: raised here itself, it would keep this frame, and so the workers, alive.
                raise InputError(batch.message, batch.hint)
            yield batch


class Batches(Loaded[Batch]):
    """Batches of a split's images and labels; arguments are those of `Loaded`, and `seed`, of all augmentations."""

    def __init__(
        self,
        split: Split,
        transform: TransformConfig,
        keys: Iterable[Sequence[Key]],
        seed: int,
        workers: int | None = None,
        pinned: bool = False,
    ) -> None:
        super().__init__(_Images(split, transform, seed), keys, _collate, workers, pinned)


class Pass(NamedTuple):
    """One pass over some images of a step of the optimiser, which may take several, in several processes.

    Attributes:
        step, number: which step of the epoch, and which of this process's passes in it.
        images: how many are this process's own and count; 0: it passes over one that does not, to stay with the others.
        step_images: how many the step has in all processes and passes.
        is_last: whether the step ends with it.
    """

    step: int
    number: int
    images: int
    step_images: int
    is_last: bool


# The images of an epoch, [M], in their order.
Order = Callable[[int], NDArray[np.int64]]


def by_labels(labels: NDArray[np.int64], seed: int, sampler: str = "random") -> Order:
    """Epochs of a sampler over images with labels [N], drawn from (seed, epoch)."""

    def order(epoch: int) -> NDArray[np.int64]:
        if sampler == "random":
            # NumPy's draws, not those of `samplers.random`: the figures in the documents were made in this order.
            return np.random.default_rng(stream_seed(seed, ORDER, epoch)).permutation(len(labels))
        return samplers.get(sampler)(torch.from_numpy(labels), generator(seed, ORDER, epoch), 0.0).numpy()

    return order


def by_factors(factors: torch.Tensor, seed: int) -> Order:
    """Epochs that have image i factors[i] times on average, drawn from (seed, epoch); they differ in length."""
    return lambda epoch: samplers.repeated(factors, generator(seed, ORDER, epoch)).numpy()


class EpochKeys:
    """Keys of one epoch from one of its steps on; set `epoch` and `step`, then iterate.

    Args:
        batch_size: of a step of the optimiser, in all processes together.
        passes: that each process takes for its share of a batch.
        world: the processes; this one's share of each batch is what it yields.
        least: images in a pass, where there are as many. BatchNorm needs two.
        max_steps: in all epochs together; those after it have none.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        passes: int = 1,
        world: World = ALONE,
        least: int = 2,
        max_steps: int | None = None,
    ) -> None:
        self.epoch = self.step = 0
        self._order = order
        self._batch_size = batch_size
        self._passes = passes
        self._world = world
        self._least = least
        self._max_steps = max_steps
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        """Steps of the optimiser in the epoch, as if there were no `max_steps`."""
        return math.ceil(self._length(self.epoch) / self._batch_size)

    @property
    def images(self) -> int:
        """How many images the epoch visits in all processes, up to `max_steps`; one that comes again counts again."""
        length = self._length(self.epoch)
        if self._max_steps is None:
            return length
        before = sum(math.ceil(self._length(epoch) / self._batch_size) for epoch in range(self.epoch))
        return min(length, max(0, self._max_steps - before) * self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        # By position, not by image: a sampler may draw an image several times.
        order = self._order(self.epoch)[: self.images].tolist()
        keys = [Key(image, (EPOCH, self.epoch, position)) for position, image in enumerate(order)]
        for batch in in_batches(keys[self.step * self._batch_size :], self._batch_size):
            for part in self._shares(len(batch)):
                yield [batch[index] for index in part] or batch[:1]

    def passes(self) -> Iterator[Pass]:
        """What each batch that iterating yields is."""
        images = self.images
        for step in range(self.step, math.ceil(images / self._batch_size)):
            step_images = min(self._batch_size, images - step * self._batch_size)
            shares = self._shares(step_images)
            for number, part in enumerate(shares):
                yield Pass(step, number, len(part), step_images, number == len(shares) - 1)

    def _shares(self, images: int) -> list[range]:
        """Which of a step's images this process's passes are over; as many passes in each process."""
        world = self._world
        passes = max(1, min(self._passes, images // (self._least * world.size)))
        parts, first = world.size * passes, world.rank * passes
        # Rounded up, so that the main process, whose BatchNorm statistics count, has images wherever there are any.
        bounds = [-(-images * part // parts) for part in range(first, first + passes + 1)]
        return [range(start, stop) for start, stop in pairwise(bounds)]

    def _length(self, epoch: int) -> int:
        if epoch not in self._lengths:
            self._lengths[epoch] = len(self._order(epoch))
        return self._lengths[epoch]


def clean_keys(indices: Iterable[int], batch_size: int) -> list[list[Key]]:
    """Keys of the clean views of `indices`, in that order, in batches."""
    return list(in_batches([Key(index) for index in indices], batch_size))


def in_batches(keys: list[Key], batch_size: int) -> Iterator[list[Key]]:
    """`keys` in their order, `batch_size` at a time; the last batch may be smaller."""
    for start in range(0, len(keys), batch_size):
        yield keys[start : start + batch_size]


def check_sizes(dataset: Dataset, transform: TransformConfig) -> None:
    """Refuse images that would not fit into one batch.

    Raises:
        InputError: images of different sizes, and no `transform.size`.
    """
    refuse_different_sizes(set().union(*(split.sizes for split in dataset.splits.values())), transform)


def refuse_different_sizes(sizes: set[tuple[int, int]], transform: TransformConfig) -> None:
    """Refuse images of these heights and widths if they would not fit into one batch."""
    if len(sizes) > 1 and transform.size is None:
        raise _different(sizes)


def _different(sizes: set[tuple[int, int]]) -> InputError:
    texts = [f"{height}x{width}" for height, width in sorted(sizes)]
    return InputError(f"images differ in size: {few(texts)}", "--set transform.size=64 resizes them all")


def _collate(items: list[Item | InputError]) -> Batch | InputError:
    images, labels = [], []
    for item in items:
        if isinstance(item, InputError):
            return item
        images.append(item[0])
        labels.append(item[1])
    sizes = {(image.shape[0], image.shape[1]) for image in images}
    if len(sizes) > 1:
        return _different(sizes)
    return torch.stack(images), torch.tensor(labels)
