"""Pixels to network input: each image cropped, resized and augmented on the CPU, batches normalised on the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms as T

from gol_decouple.settings import PLAIN, TransformConfig

_POLICIES = {
    "cifar10": T.AutoAugmentPolicy.CIFAR10,
    "imagenet": T.AutoAugmentPolicy.IMAGENET,
    "svhn": T.AutoAugmentPolicy.SVHN,
}


class CleanView:
    """An image as evaluation and the clean features see it: uint8 [H, W, 3] in and out."""

    def __init__(self, config: TransformConfig) -> None:
        self._steps: T.Compose | None = None
        how = _interpolation(config)
        if config.size is not None and config.resize is not None:
            self._steps = T.Compose([T.Resize(config.resize, how), T.CenterCrop(config.size)])
        elif config.size is not None:
            self._steps = T.Compose([T.Resize((config.size, config.size), how)])

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image if self._steps is None else np.array(self._steps(Image.fromarray(image)))


class Augmentation:
    """The random part of a transform, as stage one trains with it: an image in, one of the clean view's size out."""

    def __init__(self, config: TransformConfig) -> None:
        steps: list[Callable[[Image.Image], Image.Image]] = []
        self._clean_view = None if config.random_resized_crop else CleanView(config)
        if config.random_resized_crop and config.size is not None:
            steps.append(T.RandomResizedCrop(config.size, interpolation=_interpolation(config)))
        if config.crop_padding:
            steps.append(partial(_padded_crop, padding=config.crop_padding))
        if config.flip:
            steps.append(T.RandomHorizontalFlip())
        if config.auto_augment:
            steps.append(T.AutoAugment(_POLICIES[config.auto_augment]))
        if config.cutout:
            colour = tuple(round(255 * mean) for mean in config.mean or PLAIN)
            steps.append(partial(_cut_out, side=config.cutout, colour=colour))
        self._steps = T.Compose(steps)

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment `image` [H, W, 3] with the draw of `seed`, leaving the global random state as it was."""
        if self._clean_view is not None:
            image = self._clean_view(image)
        before = torch.get_rng_state()
        # Not torch.manual_seed: that also prepares every GPU's seed, at a millisecond a call.
        torch.default_generator.manual_seed(seed)
        try:
            return np.array(self._steps(Image.fromarray(image)))
        finally:
            torch.set_rng_state(before)


class Normalise:
    """uint8 images [N, H, W, 3] on any device to network input: float32 [N, 3, H, W] in channels-last memory."""

    def __init__(self, config: TransformConfig) -> None:
        self._mean = torch.tensor(config.mean or PLAIN) * 255.0
        self._scale = 1.0 / (torch.tensor(config.std or PLAIN) * 255.0)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        mean, scale = self._mean.to(images.device), self._scale.to(images.device)
        return ((images.float() - mean) * scale).permute(0, 3, 1, 2)


def _interpolation(config: TransformConfig) -> T.InterpolationMode:
    return T.InterpolationMode(config.interpolation or "bilinear")


def _padded_crop(image: Image.Image, padding: int) -> Image.Image:
    """A random window of the image's own size out of the image with a black border of `padding` pixels."""
    cropped: Image.Image = T.RandomCrop((image.height, image.width), padding=padding)(image)
    return cropped


def _cut_out(image: Image.Image, side: int, colour: tuple[int, ...]) -> Image.Image:
    """A square of the mean colour around a random pixel, cut off at the borders (DeVries and Taylor, 2017)."""
    x, y = (int(torch.randint(limit, ())) - side // 2 for limit in (image.width, image.height))
    image.paste(colour, (max(x, 0), max(y, 0), min(x + side, image.width), min(y + side, image.height)))
    return image
