"""Images in files: what is decoded, what is only looked at, and what is refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gol_decouple.data import images as image_files
from gol_decouple.data.images import END_BYTES, BadImage, ImageFiles, decode, try_all
from gol_decouple.errors import InputError

ORIENTATION = 0x0112  # EXIF's tag


def noise(height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def blocks(colours: list[list[list[int]]]) -> np.ndarray:
    """Rows of colours as squares of eight pixels, which JPEG keeps but for rounding."""
    return np.array(colours, np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def images(root: Path, *names: str) -> ImageFiles:
    """Files that were looked at, as `load_data` does before any training."""
    files = ImageFiles(root, names)
    files.look()
    return files


# Pixels


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif"])
def test_colour_comes_as_it_was_stored(tmp_path: Path, suffix: str) -> None:
    decoded = decode(save(tmp_path / f"a.{suffix}", noise()))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable, "torch warns of memory that is not"
    np.testing.assert_array_equal(decoded, noise())


def test_grey_is_the_same_in_every_channel(tmp_path: Path) -> None:
    grey = noise()[..., 0]
    np.testing.assert_array_equal(decode(save(tmp_path / "grey.png", grey)), np.stack([grey] * 3, axis=-1))
    black_and_white = grey > 100
    expected = np.where(black_and_white[..., None], 255, 0).repeat(3, axis=2)
    np.testing.assert_array_equal(decode(save(tmp_path / "two.png", black_and_white)), expected)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    palette = noise(1, 7, seed=1)[0]
    indices = np.random.default_rng(2).integers(0, 7, (6, 5), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name)
        with Image.open(tmp_path / name) as stored:
            assert stored.mode == "P"
        np.testing.assert_array_equal(decode(tmp_path / name), palette[indices])


def test_transparency_is_left_out(tmp_path: Path) -> None:
    alpha = noise(seed=1)[..., :1]
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", np.concatenate([noise(), alpha], axis=2))), noise())


def test_grey_with_transparency_is_grey(tmp_path: Path) -> None:
    grey, alpha = noise()[..., 0], noise(seed=1)[..., 0]
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "LA"
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), np.stack([grey] * 3, axis=-1))


def test_one_bit_is_black_or_white(tmp_path: Path) -> None:
    bits = noise()[..., 0] > 100
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(bits).save(tmp_path / name)
        with Image.open(tmp_path / name) as stored:
            assert stored.mode == "1"
        np.testing.assert_array_equal(decode(tmp_path / name), np.where(bits[..., None], 255, 0).repeat(3, axis=2))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    """Adobe's JPEGs hold the inks inverted, and say so; TIFFs hold them as they are."""
    path = tmp_path / f"a.{suffix}"
    inks = np.array([[0, 255, 255, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0], [51, 0, 102, 0]], np.uint8)
    image = Image.frombytes("CMYK", (40, 8), np.tile(inks.repeat(8, axis=0), (8, 1, 1)).tobytes())
    image.save(path, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
        assert ("adobe" in stored.info) == (suffix == "jpg")
    colours = [[[255, 0, 0], [0, 255, 255], [0, 0, 0], [255, 255, 255], [204, 255, 153]]]
    np.testing.assert_allclose(decode(path).astype(int), blocks(colours), atol=2)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_not_cut_off(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256, 511], [0x7FFF, 0x8000, 0xFEFF, 0xFFFF]], np.uint16)
    expected = np.array([[0, 0, 1, 1], [127, 128, 254, 255]])
    decoded = decode(save(tmp_path / f"a.{suffix}", deep))
    np.testing.assert_array_equal(decoded, np.stack([expected] * 3, axis=-1))


def test_16_bits_with_the_high_byte_first_are_scaled(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256, 511], [0x7FFF, 0x8000, 0xFEFF, 0xFFFF]], np.uint16)
    Image.frombytes("I;16B", (4, 2), deep.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.mode == "I;16B"
    expected = np.array([[0, 0, 1, 1], [127, 128, 254, 255]])
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_32_bits_a_pixel_are_refused_with_the_reason(tmp_path: Path, kind: type, mode: str) -> None:
    """No number is white in them: as pixels they would be cut off at 255, or scaled by what each image holds."""
    path = save(tmp_path / "a.tif", np.arange(12, dtype=kind).reshape(3, 4))
    reason = f"32 bits a pixel (mode {mode}) have no known white: convert it to 8 or 16 bits"
    with pytest.raises(InputError) as error:
        decode(path)
    assert error.value.message == f"{path} cannot be decoded: {reason}"
    with pytest.raises(InputError) as error:
        images(tmp_path, "a.tif")
    assert error.value.message == f"{tmp_path}: 1 of 1 images cannot be decoded: a.tif ({reason})"


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.transpose(1, 0, 2)),
        (6, lambda stored: stored[::-1].transpose(1, 0, 2)),
        (7, lambda stored: stored[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda stored: stored[:, ::-1].transpose(1, 0, 2)),
    ],
)
def test_a_photograph_is_turned_as_its_camera_was_held(
    tmp_path: Path, orientation: int, upright: Callable[[np.ndarray], np.ndarray]
) -> None:
    stored = blocks([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[10, 10, 10], [120, 120, 120], [250, 250, 250]]])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    decoded = decode(save(tmp_path / "a.jpg", stored, exif=exif, quality=100, subsampling=0))
    assert decoded.shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    np.testing.assert_allclose(decoded.astype(int), upright(stored), atol=3)


def test_odd_metadata_do_not_hide_the_orientation(tmp_path: Path) -> None:
    stored = blocks([[[200, 0, 0], [0, 200, 0], [0, 0, 200]]])
    width = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc")  # a width that is a text
    orientation = struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + width + orientation + bytes(4)
    decoded = decode(save(tmp_path / "a.jpg", stored, exif=exif, quality=100, subsampling=0))
    np.testing.assert_allclose(decoded.astype(int), np.rot90(stored, -1), atol=3)


def test_a_palette_with_transparency_is_looked_up_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    first, second = [10, 20, 30], [200, 100, 50]
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), [[first, second], [second, first]])


def test_a_palette_with_one_transparent_colour_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    first, second = [10, 20, 30], [200, 100, 50]
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name, transparency=0)
        with Image.open(tmp_path / name) as stored:
            assert "transparency" in stored.info
        np.testing.assert_array_equal(decode(tmp_path / name), [[first, second], [second, first]])


# Lists of files


def test_trying_all_tells_sizes_upright_and_why_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "FILES_AT_A_TIME", 2)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "a.jpg", noise(8, 3), exif=exif)
    (tmp_path / "b.jpg").write_text("hello")
    names = ["a.jpg", "b.jpg", "c.jpg"]
    missing = BadImage("No such file or directory", missing=True)
    assert list(try_all(tmp_path, names)) == [[(3, 8), BadImage("not an image", missing=False)], [missing]]


def test_no_file_is_opened_before_it_is_asked_for(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path, ["a.png", "b.png"])
    chosen = files[np.array([1])]
    assert (len(files), chosen.names) == (2, ["b.png"])
    for ask in (chosen.look, lambda: chosen.sizes, lambda: chosen.sha256):
        with pytest.raises(InputError, match=r"1 of 1 images cannot be decoded: b.png \(No such file"):
            ask()
    save(tmp_path / "b.png", noise(4, 5))
    assert chosen.sizes == {(4, 5)}


def test_an_integer_decodes_and_an_array_selects(tmp_path: Path) -> None:
    for seed, name in enumerate("abcd"):
        save(tmp_path / f"{name}.png", noise(4 + seed, 5, seed))
    files = images(tmp_path, "a.png", "b.png", "c.png", "d.png")
    assert len(files) == 4
    np.testing.assert_array_equal(files[1], noise(5, 5, 1))
    chosen = files[np.array([3, 0])]
    assert chosen.names == ["d.png", "a.png"]
    np.testing.assert_array_equal(chosen[0], noise(7, 5, 3))
    assert chosen.sizes == {(4, 5), (7, 5)}
    assert len(files[np.array([], dtype=np.int64)]) == 0
    assert len(files) == 4


def test_selecting_reads_no_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(4, 5))
    save(tmp_path / "b.png", noise(6, 7))
    files, alone = images(tmp_path, "a.png", "b.png"), images(tmp_path, "b.png")
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    chosen = files[np.array([1])]
    assert chosen.sizes == {(6, 7)}
    assert chosen.sha256 == alone.sha256


def test_sizes_are_heights_and_widths_before_any_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "a.png", noise(4, 9))
    save(tmp_path / "b.png", noise(4, 9, seed=1))
    save(tmp_path / "c.jpg", noise(8, 3), exif=exif)
    files = images(tmp_path, "a.png", "b.png", "c.jpg")
    assert files.sizes == {(4, 9), (8, 3)}
    assert files[2].shape == (3, 8, 3)


def test_sha256_follows_names_lengths_and_order(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name, noise())
    before = images(tmp_path, "a.png", "b.png").sha256
    assert images(tmp_path, "a.png", "b.png").sha256 == before
    assert images(tmp_path, "a.png", "c.png").sha256 != before, "another name"
    assert images(tmp_path, "b.png", "a.png").sha256 != before, "another order of names"
    assert images(tmp_path, "a.png", "b.png", "c.png").sha256 != before, "one more"
    with (tmp_path / "a.png").open("ab") as file:
        file.write(b"\0")
    longer = images(tmp_path, "a.png", "b.png").sha256
    assert longer != before, "another length"
    (tmp_path / "a.png").rename(tmp_path / "a.tmp")
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    (tmp_path / "a.tmp").rename(tmp_path / "b.png")
    assert images(tmp_path, "a.png", "b.png").sha256 not in (before, longer), "another order of lengths"


def test_sha256_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    digests = set()
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.png", noise())
        digests.add(images(tmp_path / folder, "a.png").sha256)
    assert len(digests) == 1


# Bad files


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def saved_then(suffix: str, spoil: Callable[[Path], object]) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        spoil(save(root / f"bad.{suffix}", noise(64, 64)))
        return f"bad.{suffix}"

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (saved_then("jpg", lambda path: path.write_text("hello")), "not an image"),
        (saved_then("jpg", lambda path: path.write_bytes(b"")), "not an image"),
        (saved_then("jpg", halve), "image file is truncated"),
        (saved_then("png", halve), "image file is truncated"),
        (saved_then("bmp", halve), "image file is truncated"),
        (saved_then("jpg", lambda path: path.unlink()), "No such file or directory"),
        (saved_then("jpg", lambda path: (path.unlink(), path.mkdir())), "Is a directory"),
    ],
    ids=["text", "empty", "half a JPEG", "half a PNG", "half a BMP", "missing", "folder"],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path: Path, make: Callable[[Path], str], reason: str) -> None:
    save(tmp_path / "good.png", noise())
    bad = make(tmp_path)
    with pytest.raises(InputError) as error:
        images(tmp_path, "good.png", bad)
    assert error.value.message.startswith(f"{tmp_path}: 1 of 2 images cannot be decoded: {bad} ({reason}")
    assert error.value.hint == (
        "replace these files; or gol-decouple check CONFIG ... > bad.txt, then --set data.skip=bad.txt leaves them out"
    )


def test_five_bad_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(9)]
    for number, name in enumerate(names):
        if number in (0, 4):
            save(tmp_path / name, noise())
        else:
            (tmp_path / name).write_text("hello")
    with pytest.raises(InputError) as error:
        images(tmp_path, *names)
    first = ", ".join(f"{number}.png (not an image)" for number in (1, 2, 3, 5, 6))
    assert error.value.message == f"{tmp_path}: 7 of 9 images cannot be decoded: {first} and 2 more"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("junk", [1, END_BYTES + 1000])
def test_what_follows_the_end_of_an_image_does_no_harm(tmp_path: Path, suffix: str, junk: int) -> None:
    path = save(tmp_path / f"a.{suffix}", noise(16, 16))
    clean = decode(path)
    with path.open("ab") as file:
        file.write(b"\0" * junk)
    np.testing.assert_array_equal(images(tmp_path, path.name)[0], clean)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (halve, "image file is truncated"),
        (lambda path: path.write_text("hello"), "not an image"),
        (lambda path: path.unlink(), "No such file or directory"),
    ],
    ids=["half", "text", "missing"],
)
def test_an_image_damaged_after_it_was_listed_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    path = save(tmp_path / "a.jpg", noise(64, 64))
    files = images(tmp_path, "a.jpg")
    spoil(path)
    with pytest.raises(InputError) as error:
        files[0]
    assert error.value.message.startswith(f"{path} cannot be decoded: {reason}")
    assert error.value.hint == "replace the file, or remove it"


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A header of 30,000 x 30,000 pixels: the limit of `limits.PIXELS`, which is Pillow's unless it is raised."""
    header = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(header)
    with pytest.raises(InputError, match=r"a.bmp \(900,000,000 pixels, more than 178,956,970; if"):
        images(tmp_path, "a.bmp")
