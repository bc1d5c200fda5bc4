"""Compressed run lengths of masks (RLE), as pycocotools writes them: of many masks at once, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LONGEST = 6  # characters of a run: no image has 2^29 pixels


class Runs(NamedTuple):
    """Run lengths in pixels of N masks end to end, columns of pixels in turn outside and inside of the mask.

    Attributes:
        lengths: [R].
        owners: [R], the mask of every run, ascending.
        malformed: [N], masks whose text is none of run lengths; they have no runs here.
    """

    lengths: NDArray[np.int64]
    owners: NDArray[np.int64]
    malformed: NDArray[np.bool_]


def decode(texts: Sequence[bytes]) -> Runs:
    """Run lengths from their compressed form.

    A run is one or more characters from "0" on, of five bits each, the lowest first: 32 says that another follows, 16
    in the last that it is negative. From a mask's fourth run on, each is told as its difference to the one two before.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int32) - 48
    owners = np.repeat(np.arange(len(texts)), lengths)
    malformed = lengths == 0
    malformed[owners[(codes < 0) | (codes > 63)]] = True
    malformed[owners[((codes & 32) != 0) & (np.diff(owners, append=-1) != 0)]] = True
    if malformed.any():  # where one run ends and the next begins can be told of the others only
        whole = ~malformed[owners]
        codes, owners = codes[whole], owners[whole]
    if not len(codes):
        return Runs(np.zeros(0, np.int64), np.zeros(0, np.int64), malformed)
    stops = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], stops[:-1] + 1])
    digits = stops - starts + 1
    owners = owners[stops]
    shifts = 5 * np.minimum(np.arange(len(codes)) - np.repeat(starts, digits), _LONGEST - 1).astype(np.int32)
    values = np.add.reduceat((codes & 31) << shifts, starts).astype(np.int64)
    values -= np.where(codes[stops] & 16, np.int64(1) << 5 * np.minimum(digits, _LONGEST), 0)
    runs = _summed(values, owners, len(texts))
    malformed[owners[(digits > _LONGEST) | (runs < 0)]] = True
    whole = ~malformed[owners]
    return Runs(runs[whole], owners[whole], malformed)


def _summed(values: NDArray[np.int64], owners: NDArray[np.int64], masks: int) -> NDArray[np.int64]:
    """Run lengths from differences: in each mask, sums over its runs 1, 3, 5, ... and over its runs 2, 4, 6, ..."""
    places = np.arange(len(values)) - np.searchsorted(owners, np.arange(masks))[owners]
    runs = values.copy()
    for chain in (places % 2 == 1, (places % 2 == 0) & (places > 0)):
        rows = np.flatnonzero(chain)
        first = np.diff(owners[rows], prepend=-1) != 0
        sums = np.cumsum(values[rows])
        runs[rows] = sums - (sums - values[rows])[first][np.cumsum(first) - 1]
    return runs
