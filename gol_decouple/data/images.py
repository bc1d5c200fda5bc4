"""Images in files, decoded when they are asked for: a dataset of photographs need not fit in memory."""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gol_decouple.data.layouts import missing_hint
from gol_decouple.errors import InputError, few
from gol_decouple.limits import PIXELS

T = TypeVar("T")

THREADS = 16  # files are looked at over a network as often as not: what counts is waiting, not computing
FILES_AT_A_TIME = 1024  # handed to the threads: what is stopped then ends soon, and a million files need little memory
END_BYTES = 4096
LEAVE_OUT = "gol-decouple check CONFIG ... > bad.txt, then --set data.skip=bad.txt leaves them out"
# What a whole file of these formats has near its end; others are decoded to know.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
# What Pillow raises for bytes that are no image, beside OSError; which of them where is documented nowhere.
_UNDECODABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, struct.error),
    *(ArithmeticError, AttributeError, AssertionError, RecursionError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
# What is decoded. Among Pillow's others is PostScript, a program, which Ghostscript would be asked to run.
_FORMATS = {
    *("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP", "AVIF"),
}
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ours is an error, in `_opened`
_known_formats: list[str] = []
_PIXELS_TOLD = re.compile(r"\((\d+) pixels\)")
_16_BITS_IN_I = ("PNG", "PPM")  # Pillow gives their 16 bits as 32-bit integers, or did in older versions
_ORIENTATION = 0x0112  # the EXIF tag; Pillow's exif_transpose writes all tags anew, and fails where any of them is odd
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(NamedTuple):
    """Why a file gives no pixels; `missing`: there is no such file."""

    reason: str
    missing: bool


class ImageFiles:
    """N images in files below a folder. An integer index decodes one, [H, W, 3]; an array of them selects.

    No file is opened before it is asked for: `look` and `sizes` look at all of them, once.
    """

    def __init__(self, root: Path, names: Sequence[str], measures: NDArray[np.int64] | None = None) -> None:
        self.root = root
        self.names = list(names)
        self._measures = measures

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: NDArray[np.int64]) -> ImageFiles: ...
    def __getitem__(self, index: int | NDArray[np.int64]) -> NDArray[np.uint8] | ImageFiles:
        if isinstance(index, np.ndarray):
            measures = None if self._measures is None else self._measures[index]
            return ImageFiles(self.root, [self.names[i] for i in index.tolist()], measures)
        return decode(self.root / self.names[index])

    def look(self) -> NDArray[np.int64]:
        """Height, width and bytes of each file, [N, 3], from its header and its end: not all of it is decoded.

        Raises:
            InputError: files that are missing, no images, or not whole; how many, and the first by name.
        """
        if self._measures is None:
            self._measures = _measure_all(self.root, self.names)
        return self._measures

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Every height and width that a file's header tells, before any rotation that it asks for."""
        return {(int(height), int(width)) for height, width in np.unique(self.look()[:, :2], axis=0)}

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each file, [N], without opening any; -1 of those that are not there."""
        if self._measures is not None:
            return self._measures[:, 2]
        found = [length for some in _some_at_a_time(_length, self.root, self.names) for length in some]
        return np.array(found, dtype=np.int64)

    @property
    def sha256(self) -> str:
        """Of the files' names and lengths: reading every byte of a large dataset would take as long as an epoch.

        Raises:
            InputError: files that are missing.
        """
        if (self.lengths < 0).any():
            self.look()  # tells which
        digest = hashlib.sha256("\n".join(self.names).encode(errors="surrogateescape"))
        digest.update(np.ascontiguousarray(self.lengths).data)
        return digest.hexdigest()


Images = NDArray[np.uint8] | ImageFiles


def decode(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file, uint8 [H, W, 3], upright, in RGB whatever it was stored in.

    Raises:
        InputError: the file is missing or cannot be decoded.
    """
    try:
        return _pixels(path)
    except _UNDECODABLE as error:
        raise InputError(f"{path} cannot be decoded: {_reason(error)}", "replace the file, or remove it") from None


def try_all(root: Path, names: Sequence[str]) -> Iterator[list[tuple[int, int] | BadImage]]:
    """Decode every file, some at a time: height and width of each image as `decode` gives it, or why there is none."""
    return _some_at_a_time(_try, root, names)


def _measure_all(root: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """Height, width and bytes of each file, [N, 3]; files that are no images, or not whole, are refused by name."""
    found = [measure for some in _some_at_a_time(_measure, root, names) for measure in some]
    bad = [(name, why) for name, why in zip(names, found, strict=True) if isinstance(why, BadImage)]
    if bad:
        named = few([f"{name} ({why.reason})" for name, why in bad], 5)
        raise InputError(
            f"{root}: {len(bad)} of {len(names)} images cannot be decoded: {named}",
            missing_hint(root, [name for name, why in bad if why.missing]) or f"replace these files; or {LEAVE_OUT}",
        )
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _some_at_a_time(look: Callable[[Path], T], root: Path, names: Sequence[str]) -> Iterator[list[T]]:
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(names), FILES_AT_A_TIME):
            yield list(pool.map(look, (root / name for name in names[start : start + FILES_AT_A_TIME])))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _measure(path: Path) -> tuple[int, int, int] | BadImage:
    """Height, width and bytes of an image file; of one that is no image or not whole, why."""
    try:
        _refuse_no_file(path)
        with path.open("rb") as file, _opened(file) as image:
            _refuse_without_white(image)
            size, length = image.size, file.seek(0, 2)
            file.seek(max(0, length - END_BYTES))
            if image.format not in _ENDS or _ENDS[image.format] not in file.read():
                file.seek(0)
                with _opened(file) as whole:
                    whole.load()
            return size[1], size[0], length
    except _UNDECODABLE as error:
        return BadImage(_reason(error), isinstance(error, FileNotFoundError))


def _try(path: Path) -> tuple[int, int] | BadImage:
    try:
        height, width, _ = _pixels(path).shape
        return height, width
    except _UNDECODABLE as error:
        return BadImage(_reason(error), isinstance(error, FileNotFoundError))


def _pixels(path: Path) -> NDArray[np.uint8]:
    _refuse_no_file(path)
    with path.open("rb") as file, _opened(file) as image:
        _refuse_without_white(image)
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
        rgb = _rgb(image)
        return np.array(rgb if turn is None else rgb.transpose(turn))


def _refuse_no_file(path: Path) -> None:
    """Opening a pipe that nobody writes into would wait for ever, and a device may have no end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder is an error of its own
        raise ValueError("no file, but a pipe or a device")


def _opened(file: IO[bytes]) -> Image.Image:
    """An image of which only the header is read yet, of no more pixels than `limits.PIXELS`."""
    most = PIXELS.value()
    if Image.MAX_IMAGE_PIXELS is not None and most > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most  # Pillow's own, which it looks at twice as many of, and of parts within a file
    if not _known_formats:
        Image.init()
        _known_formats.extend(sorted(_FORMATS & Image.OPEN.keys()))
    try:
        image = Image.open(file, formats=_known_formats)
        pixels = image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        told = _PIXELS_TOLD.search(str(error))
        if told is None:
            raise
        pixels = int(told[1])
    if pixels > most:
        raise ValueError(f"{pixels:,} pixels, more than {most:,}; {PIXELS.way_out(pixels)}")
    return image


def _refuse_without_white(image: Image.Image) -> None:
    """32-bit integers and floats are measurements: no number is white, and scaling each image by its own range would
    make the same value another grey in another image.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in _16_BITS_IN_I):
        raise ValueError(f"32 bits a pixel (mode {image.mode}) have no known white: convert it to 8 or 16 bits")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255 instead of scaling
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # straight to RGB, Pillow would warn
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not an image" if "cannot identify" in str(error) else str(error) or type(error).__name__
