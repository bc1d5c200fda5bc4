"""Augmentation is drawn per image and keyed; normalisation is a formula."""

from __future__ import annotations

import numpy as np
import torch

from gol_decouple.data import Split
from gol_decouple.data.transforms import Augmentation, AugmentedImages, EpochBatches, Normalise, clean_images
from gol_decouple.settings import TransformConfig

ALL = TransformConfig(crop_padding=4, flip=True, auto_augment="cifar10")


def images(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def split(count: int) -> Split:
    one = np.repeat(images(1), count, axis=0)
    return Split(one, np.arange(count), np.arange(count))


def test_augmentation_is_drawn_for_each_image_and_epoch() -> None:
    data = AugmentedImages(split(8), Augmentation(ALL), seed=0)
    views = [data[epoch, index][0].numpy().tobytes() for epoch in range(2) for index in range(8)]
    assert len(set(views)) == 16


def test_augmentation_depends_on_nothing_but_its_key() -> None:
    data = AugmentedImages(split(4), Augmentation(ALL), seed=0)
    first = data[3, 2][0]
    torch.manual_seed(99)
    data[0, 0]
    assert torch.equal(first, data[3, 2][0])
    assert not torch.equal(first, AugmentedImages(split(4), Augmentation(ALL), seed=1)[3, 2][0])


def test_augmentation_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Augmentation(ALL)(images(1)[0], seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_crop_and_flip_are_the_only_changes_they_claim() -> None:
    image = images(1)[0]
    flipped = {Augmentation(TransformConfig(flip=True))(image, seed).tobytes() for seed in range(20)}
    assert flipped == {image.tobytes(), image[:, ::-1].tobytes()}
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    crops = {padded[y : y + 32, x : x + 32].tobytes() for y in range(5) for x in range(5)}
    drawn = {Augmentation(TransformConfig(crop_padding=2))(image, seed).tobytes() for seed in range(60)}
    assert drawn <= crops
    assert len(drawn) > 10


def test_a_crop_keeps_the_shape_of_an_image_that_is_not_square() -> None:
    assert Augmentation(TransformConfig(crop_padding=2))(images(1)[0, :20], seed=0).shape == (20, 32, 3)


def test_without_augmentation_the_image_stays() -> None:
    image = images(1)[0]
    np.testing.assert_array_equal(Augmentation(TransformConfig())(image, seed=0), image)


def test_normalise() -> None:
    config = TransformConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    pixels = images(3, 5)
    wanted = (pixels / 255.0 - np.array(config.mean)) / np.array(config.std)
    out = Normalise(config)(torch.from_numpy(pixels))
    np.testing.assert_allclose(out.numpy(), wanted.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_size_resizes_for_training_and_evaluation() -> None:
    config = TransformConfig(size=16)
    assert clean_images(images(2, 32), config).shape == (2, 16, 16, 3)
    assert Augmentation(config)(images(1, 32)[0], seed=0).shape == (16, 16, 3)


def test_batches_visit_every_image_once_an_epoch_in_another_order() -> None:
    batches = EpochBatches(10, 4, seed=0)
    first = list(batches)
    batches.epoch = 1
    second = list(batches)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert len(batches) == 3
    assert sorted(key for batch in first for key in batch) == [(0, index) for index in range(10)]
    assert [key[1] for batch in first for key in batch] != [key[1] for batch in second for key in batch]
