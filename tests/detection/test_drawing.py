"""Detections drawn into pictures of any size: what is where, in which colour, and that text stays inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from gol_decouple.detection import drawing
from gol_decouple.detection.drawing import PALETTE, Rectangle, colour_of, drawn, enlargement, score_text, text_colour
from gol_decouple.predictions import ImageDetections

GREY = 128


def detections(
    size: tuple[int, int], boxes: list[list[float]], classes: list[int], names: list[str] | None = None
) -> ImageDetections:
    """Objects of falling scores whose masks are the left halves of their boxes."""
    masks = []
    for x, y, width, height in boxes:
        inside = np.zeros(size, np.uint8, order="F")
        inside[int(y) : int(y + height), int(x) : int(x + width / 2)] = 1
        rle = coco.encode(inside)
        masks.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    scores = [0.9 - 0.01 * at for at in range(len(boxes))]
    names = names or [f"c{label}" for label in classes]
    return ImageDetections(Path("a.png"), size, classes, classes, names, scores, boxes, masks)


def on_grey(size: tuple[int, int], found: ImageDetections) -> np.ndarray:
    return np.asarray(drawn(np.full((*size, 3), GREY, np.uint8), found))


@pytest.fixture
def rectangles(monkeypatch: pytest.MonkeyPatch) -> list[Rectangle]:
    """Where labels are written."""
    seen: list[Rectangle] = []
    write = drawing._Labels.write

    def written(self: drawing._Labels, draw: object, told: str, where: Rectangle, colour: object) -> None:
        seen.append(where)
        write(self, draw, told, where, colour)  # type: ignore[arg-type]

    monkeypatch.setattr(drawing._Labels, "write", written)
    return seen


def test_masks_are_translucent_and_boxes_are_frames() -> None:
    size = (400, 500)
    picture = on_grey(size, detections(size, [[100, 100, 200, 240]], [0]))
    assert picture.shape == (400, 500, 3)
    colour = np.array(PALETTE[0])
    mixed = np.rint(0.6 * GREY + 0.4 * colour)
    assert picture[200, 150].tolist() == mixed.tolist(), "in the mask"
    assert picture[200, 250].tolist() == [GREY] * 3, "in the box, beside the mask"
    for row, column in ((200, 100), (200, 299), (100, 200), (339, 200)):
        assert picture[row, column].tolist() == colour.tolist(), "the frame is the box's outermost pixels"
    assert (picture[:90] == GREY).reshape(90, -1).mean() > 0.9
    assert (picture[200, [99, 300]] == GREY).all(), "nothing of it is outside"


def test_better_detections_lie_above() -> None:
    size = (400, 400)
    boxes = [[100.0, 100, 200, 200], [100.0, 100, 200, 200]]
    assert on_grey(size, detections(size, boxes, [2, 4]))[200, 100].tolist() == list(PALETTE[2])
    assert on_grey(size, detections(size, boxes, [4, 2]))[200, 100].tolist() == list(PALETTE[4])


def test_classes_have_colours_of_their_own() -> None:
    assert len({colour_of(label) for label in range(21)}) == 21
    assert [colour_of(label) for label in range(21, 42)] == [colour_of(label) for label in range(21)]
    for label in range(21):
        ground = np.array([colour_of(label), text_colour(colour_of(label))]) / 255.0
        linear = np.where(ground <= 0.04045, ground / 12.92, ((ground + 0.055) / 1.055) ** 2.4)
        dark, bright = sorted(linear @ (0.2126, 0.7152, 0.0722))
        assert (bright + 0.05) / (dark + 0.05) > 4.5, "what WCAG 2.1 asks of text"


@pytest.mark.parametrize(
    ("size", "factor"), [((1, 1), 320), ((32, 48), 10), ((319, 500), 2), ((320, 500), 1), ((3000, 4000), 1)]
)
def test_small_pictures_are_enlarged(size: tuple[int, int], factor: int) -> None:
    assert enlargement(*size) == enlargement(*reversed(size)) == factor
    if size[0] < 3000:
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        picture = np.asarray(drawn(pixels, detections(size, [], [])))
        assert np.array_equal(picture, pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def test_long_pictures_do_not_become_longer_than_that() -> None:
    assert enlargement(10, 1500) == 2
    assert enlargement(10, 5000) == 1


def test_lines_and_text_grow_with_the_picture(rectangles: list[Rectangle]) -> None:
    heights = []
    for side in (32, 320, 1600, 3200):
        size, box = (side, side), [side / 4, side / 4, side / 2, side / 2]
        on_grey(size, detections(size, [box], [0]))
        heights.append(rectangles[-1].bottom - rectangles[-1].top + 1)
    assert heights[0] == heights[1] >= 12
    assert 1.7 < heights[3] / heights[2] < 2.3
    large = on_grey((3200, 3200), detections((3200, 3200), [[800, 800, 1600, 1600]], [0]))
    assert (large[1600, 800:813] == PALETTE[0]).all()


@pytest.mark.parametrize("size", [(8, 8), (20, 900), (900, 20), (64, 80), (480, 640)])
def test_labels_stay_inside(size: tuple[int, int], rectangles: list[Rectangle]) -> None:
    height, width = size
    edges = [[0, 0, 2, 2], [width - 2, 0, 2, 2], [0, height - 2, 2, 2], [width - 2, height - 2, 2, 2], [-9, -9, 3, 3]]
    boxes = [[float(side) for side in box] for box in [*edges, [0, 0, width, height], [width + 9, 3, 5, 5]]]
    names = ["a", "b" * 200, "c d", "e" * 30, "f", "", "h" * 9]
    found = detections(size, boxes, list(range(7)), names)
    picture = drawn(np.full((*size, 3), GREY, np.uint8), found)
    assert len(rectangles) == 7
    for where in rectangles:
        assert where.left >= 0
        assert where.top >= 0
        assert where.right < picture.width
        if height > 20:
            assert where.bottom < picture.height


def test_labels_keep_out_of_each_others_way(rectangles: list[Rectangle]) -> None:
    size = (400, 600)
    on_grey(size, detections(size, [[200.0, 200 + at, 150, 100] for at in range(6)], list(range(6))))
    for at, one in enumerate(rectangles):
        assert all(one.shared(other) == 0 for other in rectangles[:at])
    assert Rectangle(0, 0, 9, 9).shared(Rectangle(9, 5, 20, 20)) == 5
    assert Rectangle(0, 0, 9, 9).shared(Rectangle(10, 0, 20, 9)) == 0


def test_labels_say_name_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(drawing._Labels, "write", lambda _self, _draw, text, *_: told.append(text))
    size = (320, 400)
    on_grey(size, detections(size, [[9.0, 9, 30, 30]] * 3, [0, 1, 2], ["stop sign", "x" * 90, "two\nlines"]))
    assert told[::-1][0] == "stop sign 0.90"
    assert told[::-1][1].startswith("xxxxxxx")
    assert told[::-1][1].endswith("x… 0.89")
    assert told[::-1][2] == "two lines 0.88"
    assert [score_text(score) for score in (1.0, 0.1234, 0.005, 0.0032, 1e-4, 0.0)] == [
        *("1.00", "0.12", "0.01", "3e-03", "1e-04", "0.00")
    ]


def test_text_can_be_read() -> None:
    """Text is black or white on the colour of the class, and neither all nor nothing of it."""
    size = (400, 500)
    picture = on_grey(size, detections(size, [[100, 100, 200, 240]], [0], ["person"]))
    label = picture[80:100, 100:180].reshape(-1, 3)
    assert (label == PALETTE[0]).all(axis=1).mean() > 0.3
    assert 0.03 < (label.max(axis=1) < 120).mean() < 0.4


def test_without_masks_there_are_boxes() -> None:
    size = (400, 500)
    found = detections(size, [[100, 100, 200, 240]], [0])
    plain = ImageDetections(found.image, size, [0], [0], ["c"], [0.9], found.boxes, [])
    picture = on_grey(size, plain)
    assert picture[200, 150].tolist() == [GREY] * 3
    assert picture[200, 100].tolist() == list(PALETTE[0])
    assert isinstance(drawn(np.zeros((3, 3, 3), np.uint8), detections((3, 3), [], [])), Image.Image)
