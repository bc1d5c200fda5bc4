"""Compressed run lengths: what pycocotools writes is read, of many masks at once; and what is malformed is found."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from gol_decouple.data.run_lengths import decode


def written(runs: list[int], size: tuple[int, int]) -> bytes:
    """pycocotools' compressed form."""
    text: bytes = coco.frPyObjects({"size": list(size), "counts": runs}, *size)["counts"]
    return text


def random_runs(stream: np.random.Generator) -> tuple[list[int], tuple[int, int]]:
    """Run lengths from 0 to many thousands, which may begin inside, and the size of the image."""
    runs = (10 ** stream.uniform(0, 4.5, stream.integers(1, 30))).astype(int)
    runs[0] *= stream.integers(0, 2)
    return runs.tolist(), (int(runs.sum()), 1)


def test_many_masks_at_once_are_each_what_was_written() -> None:
    stream = np.random.default_rng(0)
    made = [random_runs(stream) for _ in range(200)]
    found = decode([written(*one) for one in made])
    assert not found.malformed.any()
    assert [found.lengths[found.owners == at].tolist() for at in range(len(made))] == [runs for runs, _ in made]


def test_no_masks() -> None:
    found = decode([])
    assert (found.lengths.tolist(), found.owners.tolist(), found.malformed.tolist()) == ([], [], [])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"P",  # says that more follows
        b"1P",
        b"1/",  # one before "0"
        b"/1",
        b"1p",  # one after the last character
        b"1\xff",
        b"@",  # a first run of -16
        b"05@",  # 0, 5, then -16
        b"0550G",  # a fourth run of 5 - 9 ... less than none
        b"oooooo0",  # seven characters
        b"o" * 100 + b"0",
    ],
)
def test_malformed_ones_are_found_among_others(text: bytes) -> None:
    good = written([3, 4, 5, 68], (8, 10))
    for texts in ([text], [text, good], [good, text], [good, text, good, text]):
        found = decode(texts)
        assert found.malformed.tolist() == [one is text for one in texts]
        whole = [at for at, one in enumerate(texts) if one is good]
        assert found.owners.tolist() == [at for at in whole for _ in range(4)]
        assert found.lengths.tolist() == [3, 4, 5, 68] * len(whole)


def test_the_longest_run_is_read() -> None:
    runs = [2**29 - 1]
    assert decode([written(runs, (2**29 - 1, 1))]).lengths.tolist() == runs
    assert decode([written([2**29], (2**29, 1))]).malformed.tolist() == [True]
