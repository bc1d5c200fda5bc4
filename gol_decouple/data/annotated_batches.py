"""Batches of images with their boxes and masks, decoded and flipped in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from gol_decouple.data.annotated import AnnotatedSplit
from gol_decouple.data.loading import Key, Loaded
from gol_decouple.data.masks import mask_of
from gol_decouple.errors import InputError
from gol_decouple.runtime import stream_seed

Target = dict[str, torch.Tensor]


class AnnotatedBatch(NamedTuple):
    """B images of any sizes, with n objects in all; end to end, so that a batch is a few tensors and not hundreds.

    Attributes:
        pixels: uint8, of all images.
        masks: uint8 0 and 1, of all objects, each of its image's size; none where they were not asked for.
        boxes: float32 [n, 4], x1, y1, x2, y2 in pixels.
        labels: int64 [n], 0..C-1.
        counts: objects of each image, int64 [B].
        sizes: heights and widths, int64 [B, 2].
        indices: of the images in their split, int64 [B].
    """

    pixels: torch.Tensor
    masks: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    counts: torch.Tensor
    sizes: torch.Tensor
    indices: torch.Tensor

    def to(self, device: torch.device) -> AnnotatedBatch:
        """The batch with all that a device works on there."""
        names = ("pixels", "masks", "boxes", "labels")  # counts and sizes are for this side
        return self._replace(**{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def images(self) -> list[torch.Tensor]:
        """The images as a detector takes them, float32 [3, H, W] in [0, 1]."""
        return [pixels.permute(2, 0, 1) / 255.0 for pixels in self._parts(self.pixels, [3] * len(self.counts))]

    def targets(self) -> list[Target]:
        """`boxes`, `labels` (ours) and, where there are any, `masks` [n, H, W] of each image."""
        counts = self.counts.tolist()
        parts = zip(torch.split(self.boxes, counts), torch.split(self.labels, counts), strict=True)
        found = [{"boxes": boxes, "labels": labels} for boxes, labels in parts]
        if self.masks.numel() or not len(self.labels):
            for target, masks in zip(found, self._parts(self.masks, counts, first=True), strict=True):
                target["masks"] = masks
        return found

    def _parts(self, flat: torch.Tensor, depths: Sequence[int], first: bool = False) -> Iterator[torch.Tensor]:
        """Of each image, `depths` planes of its size that lie in `flat`: [H, W, depth], or [depth, H, W]."""
        start = 0
        for (height, width), depth in zip(self.sizes.tolist(), depths, strict=True):
            stop = start + height * width * depth
            yield flat[start:stop].view((depth, height, width) if first else (height, width, depth))
            start = stop


class AnnotatedBatches(Loaded[AnnotatedBatch]):
    """Batches of a split; arguments are those of `Loaded`.

    Args:
        seed: of all flips.
        flip: mirror each image that has a draw, with probability 1/2.
        masks: load masks too.
    """

    def __init__(
        self,
        split: AnnotatedSplit,
        keys: Iterable[Sequence[Key]],
        seed: int = 0,
        flip: bool = False,
        masks: bool = True,
        workers: int | None = None,
        pinned: bool = False,
    ) -> None:
        super().__init__(_Source(split, seed, flip, masks), keys, _collate, workers, pinned)


class _Item(NamedTuple):
    image: NDArray[np.uint8]
    masks: NDArray[np.uint8]  # [n, H, W]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    position: int


class _Source(TorchDataset["_Item | InputError"]):
    """A split's images by key. An error is an item like any other: raised in a worker, it would lose its words."""

    def __init__(self, split: AnnotatedSplit, seed: int, flip: bool, masks: bool) -> None:
        self._split = split
        self._seed = seed
        self._flip = flip
        self._masks = masks

    def __getitem__(self, key: Key) -> _Item | InputError:
        try:
            item = self._item(key.image)
        except InputError as error:
            return error
        if not self._flip or key.draw is None:
            return item
        is_flipped = np.random.default_rng(stream_seed(self._seed, *key.draw)).random() < 0.5
        return flipped(item) if is_flipped else item

    def _item(self, index: int) -> _Item:
        split = self._split
        height, width = split.sizes[index].tolist()
        image = split.images[index]
        if image.shape[:2] != (height, width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise InputError(
                f"{split.images.root / split.images.names[index]} is {found} (width x height), its annotations are of "
                f"{width}x{height}",
                "gol-decouple check ANNOTATIONS.json --data-root IMAGES prints every such image",
            )
        objects = slice(int(split.starts[index]), int(split.starts[index + 1]))
        masks = np.zeros((objects.stop - objects.start if self._masks else 0, height, width), np.uint8)
        if self._masks:
            for mask, at in zip(masks, split.masks[objects].tolist(), strict=True):
                mask[:] = mask_of(split.segmentations[at], height, width, at)
        return _Item(image, masks, split.boxes[objects], split.labels[objects], index)


def flipped(item: _Item) -> _Item:
    """An image with its masks and boxes, left to right."""
    boxes = item.boxes.copy()
    boxes[:, [0, 2]] = item.image.shape[1] - item.boxes[:, [2, 0]]
    return item._replace(image=item.image[:, ::-1], masks=item.masks[:, :, ::-1], boxes=boxes)


def _collate(items: list[_Item | InputError]) -> AnnotatedBatch | InputError:
    whole: list[_Item] = []
    for item in items:
        if isinstance(item, InputError):
            return item
        whole.append(item)
    return AnnotatedBatch(
        torch.from_numpy(np.concatenate([item.image.reshape(-1) for item in whole])),
        torch.from_numpy(np.concatenate([item.masks.reshape(-1) for item in whole])),
        torch.from_numpy(np.concatenate([item.boxes for item in whole])),
        torch.from_numpy(np.concatenate([item.labels for item in whole])),
        torch.tensor([len(item.labels) for item in whole]),
        torch.tensor([item.image.shape[:2] for item in whole]),
        torch.tensor([item.position for item in whole]),
    )
