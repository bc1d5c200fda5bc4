"""Images as a detector takes them: resized by its framework's rules, normalised, padded; and its boxes turned back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from gol_decouple.backbones import byte_resizing
from gol_decouple.backbones.conventions import MEAN, STD, filled
from gol_decouple.backbones.mask_pasting import paste
from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.settings import TransformConfig

Target = dict[str, Tensor]


class Resizing(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's normalisation and resizing, with one size of its own for evaluation.

    By other conventions than torchvision's, images are resized as bytes before they are normalised, and masks are
    pasted as `mask_pasting` does.
    """

    def __init__(self, settings: DetectorConfig, transform: TransformConfig) -> None:
        mean, std = list(transform.mean or MEAN), list(transform.std or STD)
        super().__init__((settings.min_size,), settings.max_size, mean, std)
        conventions = filled(settings.conventions)
        self._of_bytes = None if conventions.resize == "float" else conventions.resize
        self._pastes = conventions.framework != "torchvision"
        self._sizes = {True: settings.train_min_sizes, False: (settings.min_size,)}
        self.train(self.training)

    def train(self, mode: bool = True) -> Resizing:
        """Random sizes in training, one size else."""
        super().train(mode)
        self.min_size = self._sizes[mode]
        return self

    def normalize(self, image: Tensor) -> Tensor:
        """torchvision's, which comes before resizing; bytes are resized first, and left here as they are."""
        return image if self._of_bytes is not None else super().normalize(image)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        """An image [3, H, W] and its target, if any, resized; bytes are normalised then."""
        if self._of_bytes is None:
            return super().resize(image, target)  # type: ignore[no-any-return]
        old = (int(image.shape[1]), int(image.shape[2]))
        shorter = self.torch_choice(self.min_size) if self.training else self.min_size[0]
        size = byte_resizing.size_of(old, shorter, self.max_size, self._of_bytes)
        pixels = byte_resizing.resized((255 * image).round().to(torch.uint8), size, self._of_bytes)
        if target is not None:
            target = _resized_target(target, old, size)
        return super().normalize(pixels.to(image.dtype) / 255), target

    def postprocess(
        self, result: list[Target], image_shapes: list[tuple[int, int]], original_image_sizes: list[tuple[int, int]]
    ) -> list[Target]:
        """Boxes and masks of images as they were resized, in those as they were."""
        if self.training or not self._pastes:
            return super().postprocess(result, image_shapes, original_image_sizes)  # type: ignore[no-any-return]
        masks = [found.pop("masks", None) for found in result]
        placed: list[Target] = super().postprocess(result, image_shapes, original_image_sizes)
        for found, own, size in zip(placed, masks, original_image_sizes, strict=True):
            if own is not None:
                found["masks"] = paste(own, found["boxes"], size)
        return placed


def _resized_target(target: Target, old: tuple[int, int], size: tuple[int, int]) -> Target:
    resized = target | {"boxes": resize_boxes(target["boxes"], old, size)}
    if "masks" in target:
        resized["masks"] = F.interpolate(target["masks"][:, None].float(), size=size)[:, 0].byte()
    return resized
