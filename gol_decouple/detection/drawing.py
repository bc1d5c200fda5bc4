"""Detections drawn into their picture: masks, boxes, names and scores, to be read at any size of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gol_decouple.data.masks import pixels_of, to_rle
from gol_decouple.predictions import ImageDetections

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]

# Okabe and Ito's colours without black, which people of all kinds of colour vision can tell apart.
PALETTE: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
# Then again lighter and darker: how much of which grey is in them.
TONES = ((0.0, 0), (0.5, 255), (0.45, 0))
OPACITY = 0.4  # of masks
SMALLEST, LARGEST = 320, 4000  # pixels: a shorter side below is enlarged, unless the longer one would get too long
LINE, TEXT = 240, 38  # the shorter side is so many line widths, and so many text heights
LEAST_LINE, LEAST_TEXT = 2, 12  # pixels
SHORTEST = 8  # text heights that a label may take, however small the picture is


class Rectangle(NamedTuple):
    """Pixels from `left` to `right` and from `top` to `bottom`, these included."""

    left: int
    top: int
    right: int
    bottom: int

    def shared(self, other: Rectangle) -> int:
        """How many pixels both have."""
        width = min(self.right, other.right) - max(self.left, other.left) + 1
        height = min(self.bottom, other.bottom) - max(self.top, other.top) + 1
        return max(width, 0) * max(height, 0)


def drawn(pixels: Pixels, found: ImageDetections) -> Image.Image:
    """A picture, uint8 [H, W, 3], with detections in it; the better ones lie above the others.

    Lines and text are as large as the picture makes them. A small picture is enlarged by a whole number, so that there
    is room for text.
    """
    factor = enlargement(pixels.shape[0], pixels.shape[1])
    canvas = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    size = Rectangle(0, 0, canvas.shape[1] - 1, canvas.shape[0] - 1)
    shorter = min(canvas.shape[:2])
    line, text = max(LEAST_LINE, round(shorter / LINE)), max(LEAST_TEXT, round(shorter / TEXT))
    colours = [colour_of(label) for label in found.classes]
    for mask, colour in reversed(list(zip(found.masks, colours, strict=False))):
        inside = pixels_of(to_rle(mask, *mask["size"]))
        _blend(canvas, inside.repeat(factor, axis=0).repeat(factor, axis=1), colour, line)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    boxes = [_rectangle(box, factor, size) for box in found.boxes]
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        _outline(draw, box, colour, line)
    labels = _Labels(size, text)
    placed = [labels.place(name, score, box) for name, score, box in zip(found.names, found.scores, boxes, strict=True)]
    for (told, where), colour in reversed(list(zip(placed, colours, strict=True))):
        labels.write(draw, told, where, colour)
    return image


def colour_of(label: int) -> Colour:
    """The colour of a class, in all pictures the same; there are 21, which then begin anew."""
    base = PALETTE[label % len(PALETTE)]
    share, grey = TONES[label // len(PALETTE) % len(TONES)]
    red, green, blue = (round(value + share * (grey - value)) for value in base)
    return red, green, blue


def text_colour(ground: Colour) -> Colour:
    """Black or white, whichever has more contrast (WCAG 2.1) with a colour behind it."""
    parts = np.array(ground) / 255.0
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)


def enlargement(height: int, width: int) -> int:
    """How many times larger a picture is drawn."""
    shorter, longer = min(height, width), max(height, width)
    return max(1, min(-(-SMALLEST // shorter), LARGEST // longer))


def score_text(score: float) -> str:
    """A score to two decimals, or one digit where that would be 0.00."""
    return f"{score:.2f}" if score >= 0.005 or score == 0 else f"{score:.0e}"


class _Labels:
    """Texts on filled grounds that stay inside a picture, and out of each other's way where there is room."""

    def __init__(self, picture: Rectangle, text: int) -> None:
        self._picture = picture
        self._font = ImageFont.load_default(text)
        self._margin = max(2, text // 5)
        _, top, _, bottom = self._font.getbbox("Ágjy|")
        self._top, self._height = round(top), round(bottom - top) + self._margin
        self._placed: list[Rectangle] = []

    def place(self, name: str, score: float, box: Rectangle) -> tuple[str, Rectangle]:
        """What to write for a box, and where: of the places at its corners that which covers least of other labels."""
        told = self._fitting(name, score_text(score))
        width = round(self._font.getlength(told)) + 2 * self._margin
        lefts = (box.left, box.right - width + 1)
        above, below = box.top - self._height, box.bottom + 1
        inside = box.top, box.bottom - self._height + 1
        tops = (above, inside[0], below, inside[1], above - self._height, below + self._height)
        places = [self._inside(left, top, width) for left in lefts for top in tops]
        found = min(places, key=lambda place: sum(place.shared(other) for other in self._placed))
        self._placed.append(found)
        return told, found

    def write(self, draw: ImageDraw.ImageDraw, told: str, where: Rectangle, colour: Colour) -> None:
        """Draw a label in black or white, whichever differs more from its ground."""
        at = where.left + self._margin, where.top + self._margin // 2 - self._top
        draw.rectangle(where, fill=colour)
        draw.text(at, told, fill=text_colour(colour), font=self._font)

    def _inside(self, left: int, top: int, width: int) -> Rectangle:
        """A label moved into the picture; of one that is too large for it, the beginning."""
        left = max(0, min(left, self._picture.right - width + 1))
        top = max(0, min(top, self._picture.bottom - self._height + 1))
        return Rectangle(left, top, left + width - 1, top + self._height - 1)

    def _fitting(self, name: str, score: str) -> str:
        """The name, cut short where it would take more than half of the picture, and the score."""
        width = self._picture.right + 1
        room = min(width, max(width // 2, SHORTEST * self._height)) - 2 * self._margin
        name = " ".join(name.split())
        if self._font.getlength(f"{name} {score}") <= room:
            return f"{name} {score}"
        while name and self._font.getlength(f"{name}… {score}") > room:
            name = name[:-1]
        return f"{name}… {score}" if name else score


def _blend(canvas: Pixels, mask: NDArray[np.bool_], colour: Colour, line: int) -> None:
    """Colour what is in a mask, its edge entirely."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, pixels = mask[part], canvas[part]
    mixed = pixels[inside] * (1 - OPACITY) + np.array(colour) * OPACITY
    pixels[inside] = np.rint(mixed).astype(np.uint8)
    width = max(1, line // 2)
    framed = np.pad(inside, width)
    deep = inside.copy()
    for shift, axis in ((width, 0), (-width, 0), (width, 1), (-width, 1)):
        deep &= np.roll(framed, shift, axis)[width:-width, width:-width]
    pixels[inside & ~deep] = colour


def _rectangle(box: list[float], factor: int, picture: Rectangle) -> Rectangle:
    """The pixels of a box x, y, width, height that are in the picture, at least one."""
    left, top = (max(0, int(np.floor(value * factor))) for value in box[:2])
    right, bottom = (int(np.ceil((start + side) * factor)) - 1 for start, side in zip(box[:2], box[2:], strict=True))
    left, top = min(left, picture.right), min(top, picture.bottom)
    return Rectangle(left, top, min(max(right, left), picture.right), min(max(bottom, top), picture.bottom))


def _outline(draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, line: int) -> None:
    """A frame along the inside of a box, with a dark rim that shows it on ground of its own colour."""
    draw.rectangle(box, outline=(0, 0, 0), width=line + 1)
    draw.rectangle(box, outline=colour, width=line)
