"""Segmentations as masks: polygons and run lengths, by the oracle of pycocotools; and what is malformed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from lvis_files import SQUARE
from pycocotools import mask as coco

from gol_decouple.data.lvis_json import read_annotations
from gol_decouple.data.masks import areas_of, mask_of, to_rle
from gol_decouple.errors import InputError


def decoded(rle: object) -> np.ndarray:
    """pycocotools' own decoding, which warns with NumPy 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco.decode(rle).astype(bool)


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, the plain way."""
    flat = mask.T.ravel().tolist()
    runs, value = [0], False
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def test_a_square() -> None:
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(mask_of([SQUARE], 8, 10, 1), expected)
    right = [value + (3 if at % 2 == 0 else 0) for at, value in enumerate(SQUARE)]
    expected[1:4, 5:9] = True
    assert np.array_equal(mask_of([SQUARE, right], 8, 10, 1), expected)
    rle = {"size": [8, 10], "counts": [70, 10]}
    several = [[SQUARE, right], rle, [SQUARE], [[3, 3] * 3]]
    assert areas_of([to_rle(some, 8, 10) for some in several]).tolist() == [21, 10, 12, 0]


def test_more_areas_than_pycocotools_takes_at_once() -> None:
    assert areas_of([to_rle([SQUARE], 8, 10)] * 300).tolist() == [12] * 300


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (61, 83), (700, 900)])
def test_run_lengths_compressed_and_not_give_the_mask_they_were_made_of(share: float, size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < share
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (rle["counts"], rle["counts"].decode(), runs_of(mask)):
        segmentation = {"size": list(size), "counts": counts}
        assert np.array_equal(mask_of(segmentation, *size, 1), mask)
        assert np.array_equal(decoded(to_rle(segmentation, *size)), mask)
        assert areas_of([to_rle(segmentation, *size)]).tolist() == [mask.sum()]


@pytest.mark.parametrize(
    "name", ["coco_lt/coco_lt_train.json", "coco_lt/coco_lt_val.json", "lvis/lvis_v0.5_val_3.json"]
)
def test_real_polygons_are_the_masks_of_pycocotools(real_data: Path, name: str) -> None:
    data = read_annotations(real_data / name)
    annotations = data.annotations
    for at in range(0, len(annotations), 4):
        image, polygons = annotations.images[at], annotations.segmentations[at]
        size = int(data.images.heights[image]), int(data.images.widths[image])
        expected = decoded(coco.merge(coco.frPyObjects(polygons, *size)))
        assert np.array_equal(mask_of(polygons, *size, 1), expected)


GOOD = {"size": [8, 10], "counts": coco.encode(np.asfortranarray(np.eye(8, 10, dtype=np.uint8)))["counts"].decode()}
MALFORMED = [
    (None, "segmentation is missing"),
    ("abc", 'segmentation is "abc", expected polygons or RLE'),
    ([], "segmentation is an empty list"),
    ([[]], "a polygon is [], expected at least three corners"),
    ([SQUARE[:4]], "a polygon is [2.0, 1.0, 6.0, 1.0], expected at least three corners"),
    ([[*SQUARE, 3]], "expected at least three corners"),
    ([3], "a polygon is 3, expected at least three corners"),
    ([[*SQUARE, 3, float("nan")]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, float("inf")]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, -1e9]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, 1e9]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, "4"]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, None]], "expected finite numbers of at most 100,000"),
    ([[*SQUARE, 3, 10**400]], "expected finite numbers of at most 100,000"),
    ({"counts": [80]}, "its RLE is of size null, its image [8, 10]"),
    ({"size": [10, 8], "counts": [80]}, "its RLE is of size [10, 8], its image [8, 10]"),
    ({"size": [8, 10]}, "its RLE counts are null, expected run lengths"),
    ({"size": [8, 10], "counts": 80}, "its RLE counts are 80, expected run lengths"),
    ({"size": [8, 10], "counts": [80.0]}, "its RLE counts are [80.0], expected run lengths"),
    ({"size": [8, 10], "counts": [-1, 81]}, "its RLE counts are [-1, 81], expected run lengths"),
    ({"size": [8, 10], "counts": [3, 4]}, "its RLE is of 7 pixels, its image of 80"),
    ({"size": [8, 10], "counts": []}, "its RLE is of 0 pixels, its image of 80"),
    ({"size": [8, 10], "counts": [3, 2**62]}, "pixels, its image of 80"),
    ({"size": [8, 10], "counts": ""}, 'its RLE counts are "", expected run lengths'),
    ({"size": [8, 10], "counts": b""}, 'its RLE counts are "", expected run lengths'),
    ({"size": [8, 10], "counts": GOOD["counts"][:-1]}, "its RLE is of "),
    ({"size": [8, 10], "counts": "P"}, 'its RLE counts are "P", expected run lengths'),  # says that more follows
    ({"size": [8, 10], "counts": "oooooooooooooooooooooo0"}, "its RLE"),
    ({"size": [8, 10], "counts": "~~"}, 'its RLE counts are "~~", expected run lengths'),
    ({"size": [8, 10], "counts": "\ud800ä"}, "its RLE counts are "),
    ({"size": [8, 10], "counts": "@"}, 'its RLE counts are "@", expected run lengths'),  # -16
]


@pytest.mark.parametrize(("segmentation", "reason"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_segmentations_are_refused_with_the_annotations_id(segmentation: object, reason: str) -> None:
    with pytest.raises(InputError, match="^annotation 17: ") as caught:
        mask_of(segmentation, 8, 10, 17)
    assert reason in caught.value.message
    assert "gol-decouple check" in str(caught.value.hint)
