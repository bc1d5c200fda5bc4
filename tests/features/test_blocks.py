"""Blocks: each is read into memory that is given, and is checked before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from test_reader import LABELS, ROWS_PER_BLOCK, D, N, V, X, flip, hand_made, offset_of, write_small

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features.blocked import FeatureArray, _all_finite

BLOCKS_PER_VIEW = 4  # of 8, 8, 8 and 6 rows


def stored_in(path: Path, dtype: str, kind: str) -> FeatureArray:
    x = X.astype(dtype)
    if kind == "ours":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", ROWS_PER_BLOCK * D * x.itemsize)
            features.write(path, {"train": (x, LABELS)})
    else:
        stored = x.astype(x.dtype.newbyteorder(">")) if kind == "big-endian" else x
        with hand_made(path, stored, **({"chunks": (2, 7, 3)} if kind == "chunked" else {})) as file:
            file["train"].attrs["rows_per_block"] = ROWS_PER_BLOCK
    return features.open(path)["train"].features


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kind", ["ours", "contiguous", "chunked", "big-endian"])
def test_blocks_are_read_into_the_first_rows_of_an_array(tmp_path: Path, dtype: str, kind: str) -> None:
    array = stored_in(tmp_path / "f.h5", dtype, kind)
    assert (array.rows_per_block, array.blocks_per_view, array.dtype) == (ROWS_PER_BLOCK, BLOCKS_PER_VIEW, dtype)
    for view in range(V):
        for index, wanted in enumerate((8, 8, 8, 6)):
            out = np.full((ROWS_PER_BLOCK + 3, D), -77, array.dtype)
            assert array.read_block(view, index, out) == wanted
            first = index * ROWS_PER_BLOCK
            np.testing.assert_array_equal(out[:wanted], X[view, first : first + wanted].astype(dtype))
            assert (out[wanted:] == -77).all()


def test_a_block_is_checked_before_it_is_given(tmp_path: Path) -> None:
    path = write_small(tmp_path)
    flip(path, offset_of(path, "train/features") + (N + 17) * D * 4)
    array, out = features.open(path)["train"].features, np.empty((ROWS_PER_BLOCK, D), np.float32)
    for _ in range(2):
        with pytest.raises(InputError, match=r"train rows 16\.\.23 of view 1 do not match their checksum"):
            array.read_block(1, 2, out)
    assert array.read_block(1, 3, out) == 6


@pytest.mark.parametrize("kind", ["ours", "chunked"])
def test_many_blocks_are_read_from_a_file_that_is_opened_once(tmp_path: Path, kind: str) -> None:
    array, out = stored_in(tmp_path / "f.h5", "float32", kind), np.empty((ROWS_PER_BLOCK, D), np.float32)
    before = os.listdir("/proc/self/fd")
    with array.opened() as descriptor:
        for index, wanted in enumerate((8, 8, 8, 6)):
            assert array.read_block(2, index, out, descriptor) == wanted
            np.testing.assert_array_equal(out[:wanted], X[2, index * ROWS_PER_BLOCK :][:wanted])
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_gone_cannot_be_opened(tmp_path: Path) -> None:
    array = stored_in(tmp_path / "f.h5", "float32", "ours")
    (tmp_path / "f.h5").unlink()
    with pytest.raises(InputError, match=r"f\.h5 can no longer be read: No such file"), array.opened():
        raise AssertionError("opened")


def test_every_half_precision_number_is_finite_or_not() -> None:
    numbers = np.arange(2**16, dtype="<u2").view("<f2").reshape(-1, 1)
    finite = [_all_finite(number) for number in np.split(numbers, len(numbers))]
    np.testing.assert_array_equal(finite, np.isfinite(numbers[:, 0]))


def test_single_precision_numbers_are_finite_or_not() -> None:
    patterns = [0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF]
    drawn = np.random.default_rng(0).integers(0, 2**31, 1000)
    bits = np.concatenate([np.array(patterns), drawn, drawn | 0x7F800000]).astype("<u4")
    numbers = np.concatenate([bits, bits | 0x80000000]).astype("<u4").view("<f4").reshape(-1, 1)
    finite = [_all_finite(number) for number in np.split(numbers, len(numbers))]
    np.testing.assert_array_equal(finite, np.isfinite(numbers[:, 0]))
    assert 0 < sum(finite) < len(finite)


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_one_bad_number_spoils_a_block(dtype: str) -> None:
    block = np.full((7, 5), np.finfo(dtype).max, dtype)
    block[::2] = np.finfo(dtype).smallest_subnormal
    block[1] = -np.finfo(dtype).max
    assert _all_finite(block)
    for row, column, bad in ((0, 0, np.nan), (6, 4, -np.inf), (3, 2, np.inf)):
        spoilt = block.copy()
        spoilt[row, column] = bad
        assert not _all_finite(spoilt)
