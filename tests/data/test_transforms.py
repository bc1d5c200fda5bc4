"""What is done to an image: the clean view, each augmentation alone, and the formula of the network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from gol_decouple.data.transforms import Augmentation, CleanView, Normalise
from gol_decouple.settings import TransformConfig

ALL = TransformConfig(crop_padding=4, flip=True, auto_augment="cifar10", cutout=8)


def noise(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def positions(height: int, width: int) -> np.ndarray:
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


# The clean view


@pytest.mark.parametrize("shape", [(32, 32), (20, 33)])
def test_size_resizes_for_training_and_evaluation(shape: tuple[int, int]) -> None:
    config = TransformConfig(size=16)
    expected = bilinear(noise(*shape), 16, 16)
    np.testing.assert_array_equal(CleanView(config)(noise(*shape)), expected)
    np.testing.assert_array_equal(Augmentation(config)(noise(*shape), seed=0), expected)


def test_resize_keeps_the_proportions_and_the_centre_is_cropped() -> None:
    unscaled = CleanView(TransformConfig(resize=6, size=4))
    np.testing.assert_array_equal(unscaled(noise(6, 10)), noise(6, 10)[1:5, 3:7])
    np.testing.assert_array_equal(unscaled(noise(12, 6)), noise(12, 6)[4:8, 1:5])
    halved = CleanView(TransformConfig(resize=10, size=6))
    np.testing.assert_array_equal(halved(noise(32, 20)), bilinear(noise(32, 20), 16, 10)[5:11, 2:8])
    doubled = CleanView(TransformConfig(resize=10, size=10))
    np.testing.assert_array_equal(doubled(noise(5, 7)), bilinear(noise(5, 7), 10, 14)[:, 2:12])


def test_without_a_size_the_image_stays() -> None:
    np.testing.assert_array_equal(CleanView(TransformConfig())(noise(5, 7)), noise(5, 7))
    np.testing.assert_array_equal(Augmentation(TransformConfig())(noise(5, 7), seed=0), noise(5, 7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": 16}, "resize needs a size"),
        ({"resize": 16, "random_resized_crop": True}, "resize needs a size"),
        ({"resize": 15, "size": 16}, "resize should not be smaller than size"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TransformConfig(**settings)


@pytest.mark.parametrize("interpolation", [None, "bilinear", "bicubic"])
def test_images_are_resized_with_the_interpolation(interpolation: str | None) -> None:
    image, how = noise(20, 30), Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    squeezed = np.array(Image.fromarray(image).resize((10, 10), how))
    np.testing.assert_array_equal(CleanView(TransformConfig(size=10, interpolation=interpolation))(image), squeezed)
    cropped = np.array(Image.fromarray(image).resize((18, 12), how))[1:11, 4:14]
    config = TransformConfig(size=10, resize=12, interpolation=interpolation)
    np.testing.assert_array_equal(CleanView(config)(image), cropped)
    crops = [
        Augmentation(TransformConfig(size=10, random_resized_crop=True, interpolation=chosen))(image, seed=3)
        for chosen in (interpolation, "bilinear")
    ]
    assert (crops[0] == crops[1]).all() is np.bool_(interpolation != "bicubic")


# Augmentation


def test_augmentation_leaves_the_global_stream_and_the_image_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    image = noise()
    augmented = Augmentation(ALL)(image, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(image, noise())
    assert not np.array_equal(augmented, image)


def test_augmentation_starts_from_the_clean_view() -> None:
    sized = TransformConfig(resize=20, size=16)
    augmented = Augmentation(TransformConfig(resize=20, size=16, flip=True))
    clean = CleanView(sized)(noise(40, 50))
    drawn = {augmented(noise(40, 50), seed).tobytes() for seed in range(20)}
    assert drawn == {clean.tobytes(), clean[:, ::-1].tobytes()}


def test_crop_and_flip_are_the_only_changes_they_claim() -> None:
    image = noise()
    flipped = {Augmentation(TransformConfig(flip=True))(image, seed).tobytes() for seed in range(20)}
    assert flipped == {image.tobytes(), image[:, ::-1].tobytes()}
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    crops = {padded[y : y + 32, x : x + 32].tobytes() for y in range(5) for x in range(5)}
    drawn = {Augmentation(TransformConfig(crop_padding=2))(image, seed).tobytes() for seed in range(60)}
    assert drawn <= crops
    assert len(drawn) > 10


def test_a_crop_keeps_the_shape_of_an_image_that_is_not_square() -> None:
    assert Augmentation(TransformConfig(crop_padding=2))(noise(20, 32), seed=0).shape == (20, 32, 3)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (7, 9)])
def test_a_random_part_is_resized_to_the_size(shape: tuple[int, int]) -> None:
    augmentation = Augmentation(TransformConfig(random_resized_crop=True, size=10))
    parts = {augmentation(noise(*shape), seed).tobytes() for seed in range(10)}
    assert {len(part) for part in parts} == {10 * 10 * 3}
    assert augmentation(noise(*shape), seed=0).shape == (10, 10, 3)
    assert len(parts) == 10


def test_a_random_part_is_of_the_whole_image_not_of_its_centre() -> None:
    augmentation = Augmentation(TransformConfig(random_resized_crop=True, resize=20, size=10))
    parts = [augmentation(positions(20, 60), seed) for seed in range(40)]
    for part in parts:
        columns, rows = part[..., 0].astype(int), part[..., 1].astype(int)
        assert (columns == columns[:1]).all(), "an upright rectangle"
        assert (rows == rows[:, :1]).all()
        assert (np.diff(columns[0]) >= 0).all()
        assert (np.diff(rows[:, 0]) >= 0).all()
    assert min(int(part[..., 0].min()) for part in parts) < 10, "the clean view begins at column 25"
    assert max(int(part[..., 0].max()) for part in parts) > 50, "and ends at column 34"


@pytest.mark.parametrize("side", [1, 3, 4, 20])
def test_cutout_paints_a_square_around_any_pixel_cut_off_at_the_borders(side: int) -> None:
    height, width = 6, 9
    image = noise(height, width) // 4  # below 64: not the colour
    expected = set()
    for row in range(height):
        for column in range(width):
            painted = image.copy()
            for y in range(row - side // 2, row - side // 2 + side):
                for x in range(column - side // 2, column - side // 2 + side):
                    if 0 <= y < height and 0 <= x < width:
                        painted[y, x] = (26, 115, 204)  # 255 times the mean: 25.5 and 114.75, to even and up
            expected.add(painted.tobytes())
    augmentation = Augmentation(TransformConfig(cutout=side, mean=(0.1, 0.45, 0.8)))
    assert {augmentation(image, seed).tobytes() for seed in range(1000)} == expected


def test_cutout_comes_last() -> None:
    config = TransformConfig(cutout=4, mean=(0.2, 0.4, 0.6), auto_augment="imagenet", crop_padding=2, flip=True)
    for seed in range(20):
        augmented = Augmentation(config)(noise(16, 16), seed)
        assert 4 <= (augmented == (51, 102, 153)).all(axis=-1).sum() <= 16 + 1, "a corner at least, or all"


@pytest.mark.parametrize(
    ("settings", "is_random"),
    [
        ({}, False),
        ({"size": 8, "resize": 9}, False),
        ({"size": 8, "random_resized_crop": True}, True),
        ({"crop_padding": 1}, True),
        ({"flip": True}, True),
        ({"auto_augment": "svhn"}, True),
        ({"cutout": 1}, True),
    ],
)
def test_what_makes_views_differ(settings: dict[str, object], is_random: bool) -> None:
    config = TransformConfig(**settings)
    assert config.is_random is is_random
    views = {Augmentation(config)(noise(16, 16), seed).tobytes() for seed in range(20)}
    assert (len(views) > 1) is is_random


# The network's input


def test_without_a_mean_and_deviation_pixels_become_numbers_between_minus_one_and_one() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3)
    assert Normalise(TransformConfig())(pixels).flatten().tolist() == pytest.approx([-1, 1] * 3)


def test_normalise() -> None:
    config = TransformConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    pixels = np.stack([noise(5, 5), noise(5, 5)[::-1], noise(5, 5) // 2])
    wanted = (pixels / 255.0 - np.array(config.mean)) / np.array(config.std)
    out = Normalise(config)(torch.from_numpy(pixels))
    np.testing.assert_allclose(out.numpy(), wanted.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
