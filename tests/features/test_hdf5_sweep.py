"""One changed bit anywhere in a small features file: it is refused or means the same; HDF5 neither hangs nor crashes.

Files are read in forked processes, which are killed if they take too long.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from test_reader import read_all, write_small

from gol_decouple import features
from gol_decouple.doctor.features import features_file
from gol_decouple.doctor.findings import State
from gol_decouple.features.blocked import FeatureArray
from gol_decouple.progress import SILENT

SECONDS = 20
FINE, OTHER_CONTENT, RAISED = range(3)


def read_changed(content: bytes, bits: Iterable[int], folder: Path) -> int:
    """Read the file with each of the bits changed, as stage two and doctor do; how that went."""
    path = folder / "f.h5"
    path.write_bytes(content)
    original = read_all(features.open(path))
    for bit in bits:
        signal.alarm(SECONDS)
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        found = features_file(path, SILENT)
        if found.state is State.in_order:
            if not all(map(np.array_equal, read_all(features.open(path)), original)):
                return OTHER_CONTENT
        elif found.state is not State.damaged or str(path) not in found.told:
            return RAISED
    return FINE


def in_child(content: bytes, bits: Iterable[int], folder: Path) -> int:
    """What `read_changed` gives in a process of its own; negative: the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(read_changed(content, bits, folder))
        finally:
            os._exit(RAISED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_small(tmp_path_factory.mktemp("written")).read_bytes()


def test_a_bit_anywhere(content: bytes, tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    meaningful = np.flatnonzero(np.frombuffer(content, np.uint8))
    bits = 8 * stream.choice(meaningful, 120) + stream.integers(8, size=120)
    assert in_child(content, bits.tolist(), tmp_path) == FINE


@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_a_bit_of_every_byte(content: bytes, tmp_path: Path, part: int) -> None:
    stream = np.random.default_rng(part)
    places = np.arange(part, len(content), 16)
    bits = 8 * places + stream.integers(8, size=len(places))
    assert in_child(content, bits.tolist(), tmp_path) == FINE


def test_the_sweep_would_notice(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = [8 * content.index(features_of(content, tmp_path))]
    assert in_child(content, bits, tmp_path) == FINE
    with monkeypatch.context() as patch:
        patch.setattr(FeatureArray, "_verify_block", lambda *_: None)
        assert in_child(content, bits, tmp_path) == OTHER_CONTENT
    monkeypatch.setattr(features, "open", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert in_child(content, bits, tmp_path) == -signal.SIGKILL


def features_of(content: bytes, folder: Path) -> bytes:
    path = folder / "whole.h5"
    path.write_bytes(content)
    return features.open(path)["train"].features[0, 0].tobytes()
