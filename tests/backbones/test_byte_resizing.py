"""Images resized as bytes, against OpenCV and Pillow themselves and their sizes by the frameworks' formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gol_decouple.backbones.byte_resizing import resized, size_of


def pixels_of(kind: str, number: int) -> np.ndarray:
    stream = np.random.default_rng(number)
    height, width = stream.integers(1, 90, 2)
    if kind == "noise":
        return stream.integers(0, 256, (height, width, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 2, columns * 2, (rows + columns) % 256], axis=2).astype(np.uint8)


IMAGES = [pixels_of(kind, number) for kind in ("noise", "slope") for number in range(12)]
SIZES = [(40, 63), (7, 5), (200, 133), (1, 1), (90, 180)]


def ours(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    found = resized(torch.from_numpy(image).permute(2, 0, 1), size, how)
    assert found.dtype == torch.uint8
    return found.permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> list[np.ndarray]:
    paths = sorted((real_data / "coco_lt" / "images").glob("*.jpg"))[:4]
    assert paths
    return [np.array(Image.open(path).convert("RGB")) for path in paths]


def same_as_opencv(images: list[np.ndarray]) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(0)  # its threads would not be there in worker processes, which then wait for them
    for image in images:
        for size in [*SIZES, (image.shape[0] // 2, image.shape[1] // 2 + 1), (2 * image.shape[0], 2 * image.shape[1])]:
            wanted = (max(1, size[0]), max(1, size[1]))
            expected = cv2.resize(image, wanted[::-1], interpolation=cv2.INTER_LINEAR)
            found = ours(image, wanted, "opencv")
            assert np.abs(found.astype(int) - expected).max() <= 1, (image.shape, wanted)
            assert (found != expected).mean() < 1e-3, "this release of OpenCV has all bytes so"


def same_as_pillow(images: list[np.ndarray]) -> None:
    for image in images:
        for height, width in SIZES:
            expected = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
            assert np.array_equal(ours(image, (height, width), "pillow"), expected)


def test_opencvs_bytes() -> None:
    same_as_opencv(IMAGES)


def test_opencvs_bytes_of_photographs(photographs: list[np.ndarray]) -> None:
    same_as_opencv(photographs)


def test_pillows_bytes() -> None:
    same_as_pillow(IMAGES)


def test_pillows_bytes_of_photographs(photographs: list[np.ndarray]) -> None:
    same_as_pillow(photographs)


def test_opencv_looks_at_two_pixels_and_pillow_at_all() -> None:
    row = np.repeat(np.array([[0, 0, 0, 200, 0, 0, 0, 0]], np.uint8)[..., None], 3, axis=2)
    # Two of eight, at 1.5 and 5.5: between pixels 1 and 2, and 5 and 6.
    assert ours(row, (1, 2), "opencv")[0, :, 0].tolist() == [0, 0]
    assert ours(row, (1, 2), "pillow")[0, :, 0].min() > 0
    # Twice as large: at -0.25, 0.25, 0.75, ...
    step = np.repeat(np.array([[10, 90]], np.uint8)[..., None], 3, axis=2)
    assert ours(step, (1, 4), "opencv")[0, :, 0].tolist() == [10, 30, 70, 90]
    assert ours(step, (1, 4), "pillow")[0, :, 0].tolist() == [10, 30, 70, 90]


def test_the_same_size_changes_nothing() -> None:
    for how in ("opencv", "pillow"):
        assert np.array_equal(ours(IMAGES[0], IMAGES[0].shape[:2], how), IMAGES[0])


def test_sizes_are_the_nearest() -> None:
    for how in ("opencv", "pillow"):
        for old, expected in [
            ((480, 640), (800, 1067)),  # 1066.67; torchvision's is 1066
            ((640, 480), (1067, 800)),
            ((427, 640), (800, 1199)),
            ((300, 1000), (400, 1333)),  # by the longer side
            ((1000, 300), (1333, 400)),
            ((800, 800), (800, 800)),
        ]:
            assert size_of(old, 800, 1333, how) == expected, how


def test_sizes_of_half_a_pixel_follow_each_frameworks_order() -> None:
    # 1333 / 78 * 39 is 666.5: the order of the steps decides which way it goes.
    assert size_of((39, 78), 800, 1333, "opencv") == (667, 1333)
    assert size_of((39, 78), 800, 1333, "pillow") == (666, 1333)
