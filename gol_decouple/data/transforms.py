"""Pixels to network input: per-image augmentation on the CPU, normalisation on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from gol_decouple.data.dataset import Split
from gol_decouple.runtime import stream_seed
from gol_decouple.settings import TransformConfig

_POLICIES = {
    "cifar10": T.AutoAugmentPolicy.CIFAR10,
    "imagenet": T.AutoAugmentPolicy.IMAGENET,
    "svhn": T.AutoAugmentPolicy.SVHN,
}
_DRAW_STREAM = 1  # keeps augmentation's random stream apart from the one that orders the batches

Key = tuple[int, int]  # (epoch, index): everything an image's augmentation depends on beside the seed


class Augmentation:
    """The random part of a transform: one image in, one of the same size (or `transform.size`) out."""

    def __init__(self, config: TransformConfig) -> None:
        steps: list[Callable[[Image.Image], Image.Image]] = []
        if config.size:
            steps.append(T.Resize((config.size, config.size), antialias=True))
        if config.crop_padding:
            steps.append(partial(_padded_crop, padding=config.crop_padding))
        if config.flip:
            steps.append(T.RandomHorizontalFlip())
        if config.auto_augment:
            steps.append(T.AutoAugment(_POLICIES[config.auto_augment]))
        self._steps = T.Compose(steps)

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment `image` [H, W, 3] with the draw of `seed`, leaving the global random state as it was."""
        before = torch.get_rng_state()
        # Not torch.manual_seed: that also prepares every GPU's seed, at a millisecond a call.
        torch.default_generator.manual_seed(seed)
        try:
            return np.array(self._steps(Image.fromarray(image)))
        finally:
            torch.set_rng_state(before)


def _padded_crop(image: Image.Image, padding: int) -> Image.Image:
    """A random window of the image's own size out of the image with a black border of `padding` pixels."""
    cropped: Image.Image = T.RandomCrop((image.height, image.width), padding=padding)(image)
    return cropped


class AugmentedImages(TorchDataset[tuple[torch.Tensor, int]]):
    """Train images, each augmented by a draw of its own, keyed by (seed, epoch, index): the same in any worker."""

    def __init__(self, split: Split, augmentation: Augmentation, seed: int) -> None:
        self._split = split
        self._augmentation = augmentation
        self._seed = seed

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        epoch, index = key
        seed = stream_seed(self._seed, _DRAW_STREAM, epoch, index)
        image = self._augmentation(self._split.images[index], seed)
        return torch.from_numpy(image), int(self._split.labels[index])


class EpochBatches:
    """Batches of (epoch, index) keys over a shuffled epoch; set `epoch`, then iterate."""

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        self.epoch = 0
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        return math.ceil(self._num_samples / self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng(stream_seed(self._seed, 0, self.epoch)).permutation(self._num_samples)
        for start in range(0, self._num_samples, self._batch_size):
            yield [(self.epoch, int(index)) for index in order[start : start + self._batch_size]]


class Normalise:
    """uint8 images [N, H, W, 3] on any device to network input: float32 [N, 3, H, W] in channels-last memory."""

    def __init__(self, config: TransformConfig) -> None:
        self._mean = torch.tensor(config.mean) * 255.0
        self._scale = 1.0 / (torch.tensor(config.std) * 255.0)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        mean, scale = self._mean.to(images.device), self._scale.to(images.device)
        return ((images.float() - mean) * scale).permute(0, 3, 1, 2)


def clean_images(images: NDArray[np.uint8], config: TransformConfig) -> torch.Tensor:
    """Images as evaluation and features see them: uint8 [N, H, W, 3], resized if the transform says so."""
    if config.size is None or images.shape[1:3] == (config.size, config.size):
        return torch.from_numpy(np.ascontiguousarray(images))
    resize = T.Resize((config.size, config.size), antialias=True)
    resized: Sequence[NDArray[np.uint8]] = [np.asarray(resize(Image.fromarray(image))) for image in images]
    return torch.from_numpy(np.stack(resized))
