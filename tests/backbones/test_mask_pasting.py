"""Pasted masks, against loops over pixels in float64."""

from __future__ import annotations

import numpy as np
import torch

from gol_decouple.backbones.mask_pasting import paste

SIZE = (40, 60)
# Inside, over two edges, below a pixel, the whole image, between pixel centres, and outside.
BOXES = torch.tensor(
    [
        [10.2, 5.7, 33.9, 30.1],
        [-8.0, 30.0, 12.5, 55.0],
        [20.1, 20.2, 20.9, 20.8],
        [0.0, 0.0, 60.0, 40.0],
        [7.5, 9.5, 8.5, 22.5],
        [70.0, 50.0, 80.0, 60.0],
    ]
)


def at(mask: np.ndarray, row: int, column: int) -> float:
    inside = 0 <= row < len(mask) and 0 <= column < len(mask)
    return float(mask[row, column]) if inside else 0.0


def by_hand(mask: np.ndarray, box: list[float]) -> np.ndarray:
    result = np.zeros(SIZE)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            # In pixels of the mask, whose centres are at whole numbers.
            down = (y + 0.5 - box[1]) / (box[3] - box[1]) * len(mask) - 0.5
            along = (x + 0.5 - box[0]) / (box[2] - box[0]) * len(mask) - 0.5
            top, left = int(np.floor(down)), int(np.floor(along))
            below, after = down - top, along - left
            result[y, x] = (
                at(mask, top, left) * (1 - below) * (1 - after)
                + at(mask, top, left + 1) * (1 - below) * after
                + at(mask, top + 1, left) * below * (1 - after)
                + at(mask, top + 1, left + 1) * below * after
            )
    return result


def test_pixels_have_the_probability_at_their_centre() -> None:
    masks = torch.rand(len(BOXES), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = paste(masks, BOXES, SIZE)
    assert found.shape == (len(BOXES), 1, *SIZE)
    for mask, box, whole in zip(masks[:, 0].double().numpy(), BOXES.tolist(), found[:, 0].numpy(), strict=True):
        expected = by_hand(mask, box)
        x1, y1, x2, y2 = box
        rows = slice(max(int(np.floor(y1)), 0), max(int(np.ceil(y2)), 0))
        columns = slice(max(int(np.floor(x1)), 0), max(int(np.ceil(x2)), 0))
        np.testing.assert_allclose(whole[rows, columns], expected[rows, columns], atol=2e-4)
        assert (expected[whole == 0] < 0.5).all(), "what is left out is no part of the mask"
        assert np.count_nonzero(whole) <= expected[rows, columns].size


def test_a_full_mask_covers_the_pixels_whose_centres_are_in_the_box() -> None:
    boxes = torch.tensor([[10.4, 5.6, 20.4, 9.4], [10.5, 5.5, 12.5, 7.5]])
    covered = paste(torch.ones(2, 1, 28, 28), boxes, SIZE)[:, 0] >= 0.5
    rows, columns = torch.nonzero(covered[0], as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (6, 8)
    assert (int(columns.min()), int(columns.max())) == (10, 19)
    # One centre is inside, four are on an edge, where it is a half, and four on a corner, where it is a quarter.
    assert int(covered[1].sum()) == 5


def test_no_mask() -> None:
    assert paste(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), SIZE).shape == (0, 1, *SIZE)
