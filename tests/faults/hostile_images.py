"""Image files that are damaged or made to do harm, in a folder of good ones."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Corpus, Good
from PIL import Image

IMAGES = Corpus()
HARMLESS = (0, 2)  # what is flipped may be an image still
_PIXELS = np.random.default_rng(0).integers(0, 255, (12, 14, 3), dtype=np.uint8)
_SUFFIX = {"jpeg": "jpg", "png": "png", "gif": "gif", "tiff": "tif", "webp": "webp", "bmp": "bmp", "ppm": "ppm"}


def encoded(form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_PIXELS).save(file, form.upper(), **how)
    return file.getvalue()


def config_of_folder(folder: Path) -> Path:
    """Good images in folders, and a config of them."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(_PIXELS).save(folder / "images" / split / label / f"{number}.png")
    path = folder / "mine.toml"
    path.write_text(
        f'[data]\nkind = "folder"\npath = "{folder / "images"}"\n[transform]\nsize = 8\n[backbone]\nname = "resnet32"\n'
        '[stage1]\nepochs = 1\nbatch_size = 4\nlr = 0.01\nprecision = "float32"\nnum_workers = 0\n',
        encoding="utf-8",
    )
    return path


def image(
    name: str, content: Callable[[], bytes], suffix: str, codes: tuple[int, ...] = (2,), says: str = "bad."
) -> None:
    """A case: this file among good ones, when every image is decoded."""

    def make(folder: Path, good: Good) -> list[Any]:
        config = config_of_folder(folder)
        (folder / "images" / "train" / "cat" / f"bad.{suffix}").write_bytes(content())
        return ["check", config]

    IMAGES.add(f"image {name}", make, codes, says if codes == (2,) else "")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes = b"", *before: bytes, colour: int = 2) -> bytes:
    """A PNG whose header says this size, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *before, _chunk(b"IDAT", zlib.compress(content)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def gif(width: int, height: int, frames: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of one directory: tag, type, count, value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def _grey(width: int, height: int, *more: tuple[int, int, int, int]) -> bytes:
    plain = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    known = {tag[0] for tag in more}
    return tiff(*[tag for tag in plain if tag[0] not in known], *more)


def flipped(data: bytes, seed: int) -> bytes:
    """A few bits changed, beyond the signature."""
    changed, stream = bytearray(data), np.random.default_rng(seed)
    for place in stream.integers(8, len(data), 3):
        changed[place] ^= 1 << int(stream.integers(0, 8))
    return bytes(changed)


# Truncated, flipped, of another kind

for _form, _end in _SUFFIX.items():
    _data = encoded(_form)
    for _part in (4, 2):
        image(f"{_form} cut after 1/{_part}", lambda data=_data, part=_part: data[: len(data) // part], _end)
    for _seed in range(2):
        image(f"{_form} flipped {_seed}", lambda data=_data, seed=_seed: flipped(data, seed), _end, HARMLESS)
image("empty", bytes, "png")
image("one byte", lambda: b"\x89", "png")
image("signature alone", lambda: b"\x89PNG\r\n\x1a\n", "png")
image("text", lambda: b"<html>not found</html>", "jpg")
image("zeros", lambda: bytes(5000), "jpg")
image("noise", lambda: np.random.default_rng(1).bytes(5000), "gif")
image("svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "png")
image("a pickle", lambda: b"\x80\x04cposix\nsystem\n(U\x0ctouch canaryR.", "png")
image("of pixels alone", lambda: b"P6\n99999 99999\n255\n" + bytes(9), "ppm")
image("of negative size", lambda: b"P6\n-1 -1\n255\n" + bytes(9), "ppm")
image("of a number without an end", lambda: b"P6\n" + b"9" * 10_000, "ppm")


# Bombs: small files of many pixels

image("png of 50,000 x 50,000", lambda: png(50_000, 50_000), "png", says="GOL_DECOUPLE_MAX_PIXELS=2500000000")
image("png of 2^31 x 2^31", lambda: png(2**31 - 1, 2**31 - 1), "png")
image("png of no pixel", lambda: png(0, 5), "png")
image("png deflated to gigabytes", lambda: png(8, 8, bytes(2**25)), "png", HARMLESS)
image(
    "png of a palette too large",
    lambda: png(8, 8, bytes(72), _chunk(b"PLTE", bytes(3 * 9999)), colour=3),
    "png",
    HARMLESS,
)
image("png of a text bomb", lambda: png(8, 8, b"", _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))), "png")
image("png of a profile bomb", lambda: png(8, 8, b"", _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26)))), "png")
image("png of a chunk that claims 2 GB", lambda: png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT", "png")
image("png without data", lambda: png(8, 8).replace(b"IDAT", b"iDAT"), "png")
image("gif of 65,535 x 65,535", lambda: gif(65_535, 65_535, 1), "gif")
image("gif of 20,000 frames", lambda: gif(1, 1, 20_000), "gif", HARMLESS)
image("gif without a frame", lambda: gif(9, 9, 0), "gif")
image("tiff of 2^31 x 2^31", lambda: _grey(2**31, 2**31, (273, 4, 1, 8), (279, 4, 1, 1)), "tif")
image("tiff of a strip beyond its end", lambda: _grey(9, 9, (273, 4, 1, 2**31), (279, 4, 1, 81)), "tif")
image("tiff of a strip of 4 GB", lambda: _grey(9, 9, (259, 3, 1, 5), (273, 4, 1, 8), (279, 4, 1, 2**32 - 1)), "tif")
image(
    "tiff of a huge tile",
    lambda: _grey(9, 9, (259, 3, 1, 8), (322, 4, 1, 2**20), (323, 4, 1, 2**20), (324, 4, 1, 8), (325, 4, 1, 9)),
    "tif",
)
image("tiff of a tag of 4 billion values", lambda: _grey(9, 9, (273, 4, 2**32 - 1, 8)), "tif")
image("tiff whose directory is itself", lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 8), "tif")
image(
    "bmp of 2^31 x 2^31",
    lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, *[0] * 6),
    "bmp",
)
image(
    "bmp of runs beyond its end",
    lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 9, 9, 1, 8, 1, *[0] * 5) + b"\xff\xff" * 99,
    "bmp",
)
image(
    "webp of a size that lies",
    lambda: encoded("webp")[:4] + b"\xff\xff\xff\x7f" + encoded("webp")[8:],
    "webp",
    HARMLESS,
)
image("jpeg of 65,535 x 65,535", lambda: _jpeg_of(65_535, 65_535), "jpg")
image("jpeg of no line", lambda: _jpeg_of(14, 0), "jpg")
image(
    "ico within ico",
    lambda: b"\0\0\1\0\1\0\0\0\0\0\0\0\x20\0" + struct.pack("<II", 99, 22) + png(50_000, 50_000),
    "png",
)


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encoded("jpeg"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


# What is beside the pixels


def _with_exif(exif: bytes) -> bytes:
    data = encoded("jpeg")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]


image("exif of noise", lambda: _with_exif(np.random.default_rng(2).bytes(999)), "jpg", HARMLESS)
image("exif cut off", lambda: _with_exif(b"II*\0\x08\0\0\0\xff\xff"), "jpg", HARMLESS)
image("exif of an odd rotation", lambda: _with_exif(tiff((0x0112, 3, 1, 99))), "jpg", HARMLESS)
image("exif of a rotation that is text", lambda: _with_exif(tiff((0x0112, 2, 4, 0x41414141))), "jpg", HARMLESS)
image("exif of 4 billion values", lambda: _with_exif(tiff((0x0112, 3, 2**32 - 1, 8))), "jpg", HARMLESS)
image("exif that leads to itself", lambda: _with_exif(tiff((0x8769, 4, 1, 8))), "jpg", HARMLESS)


# PostScript is a program: Ghostscript would run it

_POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    b"(canary) (w) file dup (x) writestring closefile\nshowpage\n%%EOF\n"
)
image("postscript", lambda: _POSTSCRIPT, "png", says="not an image")
image(
    "postscript of its own suffix",
    lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 99) + bytes(20) + _POSTSCRIPT,
    "jpg",
)


# What is no file


def _odd(name: str, put: Callable[[Path], object], codes: tuple[int, ...] = (2,)) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        config = config_of_folder(folder)
        put(folder / "images" / "train" / "cat" / "odd.png")
        return ["check", config]

    IMAGES.add(f"image {name}", make, codes)


_odd("that is a pipe", os.mkfifo)
_odd("that leads to /dev/zero", lambda path: path.symlink_to("/dev/zero"))
_odd("that leads to itself", lambda path: path.symlink_to(path))
_odd("that leads nowhere", lambda path: path.symlink_to("/nowhere/at/all.png"))
_odd("that leads to /etc/passwd", lambda path: path.symlink_to("/etc/passwd"))
_odd("that is a folder", lambda path: path.mkdir(), HARMLESS)
_odd("folder that leads above", lambda path: path.symlink_to(path.parent.parent), HARMLESS)
_odd("whose name clears the screen", lambda path: path.with_name("\x1b[2J\x1b]0;x\x07.png").write_bytes(b"no"))
_odd("whose name has a line break", lambda path: path.with_name("a\nerror: b.png").write_bytes(b"no"))
_odd("whose name is markup", lambda path: path.with_name("[red]:skull:[nothing].png").write_bytes(b"no"))
_odd("whose name is no text", lambda path: (path.parent / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"no"))
_odd("that may not be read", lambda path: (path.write_bytes(b"no"), path.chmod(0)))


def _class_called(name: str, label: str, codes: tuple[int, ...] = HARMLESS) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        config = config_of_folder(folder)
        (folder / "images" / "train" / label).mkdir(parents=True)
        (folder / "images" / "train" / label / "1.png").write_bytes(encoded("png"))
        return ["check", config]

    IMAGES.add(f"class called {name}", make, codes)


_class_called("by an escape sequence", "\x1b[31mred\x1b[0m")
_class_called("by an 8-bit escape", "\x9b31m")
_class_called("by markup", "[bold red]x[bold]")
_class_called("like no text", os.fsdecode(b"\xff\xfe"))
_class_called("by a formula", "=cmd(1+1)")


def _predicted(name: str, content: Callable[[], bytes], suffix: str) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        (folder / f"shown.{suffix}").write_bytes(content())
        return ["predict", good.run, folder / f"shown.{suffix}", "--device", "cpu"]

    IMAGES.add(f"predicted {name}", make)


_predicted("bomb", lambda: png(50_000, 50_000), "png")
_predicted("noise", lambda: np.random.default_rng(3).bytes(999), "jpg")
_predicted("postscript", lambda: _POSTSCRIPT, "png")
_predicted("list of a pipe", lambda: b"/dev/stdin/x\n\0.png 3\n../../..\n", "txt")
_predicted("list of long lines", lambda: b"a" * 10**6 + b"\n" + b"../" * 10**5 + b"x.png 7\n", "txt")
