"""Every block is checked before anything is trained, whoever wrote the file, and none is checked twice."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import RunCli
from rich.console import Console
from roi_files import PER_IMAGE, arguments, make
from test_reader import LABELS, ROWS_PER_BLOCK, D, N, V, X, flip, hand_made, offset_of, write_small

from gol_decouple import features, retrain
from gol_decouple.errors import InputError
from gol_decouple.features import layout, verification
from gol_decouple.progress import Progress


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that are read, as a list that fills."""
    found: list[int] = []
    real = os.preadv

    def read(descriptor: int, buffers: Any, offset: int) -> int:
        found.append(real(descriptor, buffers, offset))
        return found[-1]

    monkeypatch.setattr(os, "preadv", read)
    return found


def rois(path: Path) -> Path:
    """Blocks of two images, 12 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", 2 * PER_IMAGE * 8 * 4 + 1)
        return features.write(path, **arguments(make(6), make(4, 1, 1000)))


def test_every_block_of_every_split_and_view_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = features.open(write_small(tmp_path))
    read = count_reads(monkeypatch)
    features.verify(opened)
    assert sum(read) == (V + 1) * N * D * 4
    features.verify(opened)
    opened["train"].features.read_block(1, 2, np.empty((ROWS_PER_BLOCK, D), np.float32))
    assert len(read) == (V + 1) * 4 + 1, "nothing is read again but what is asked for"
    monkeypatch.setattr("zlib.crc32", lambda *_: -1)
    opened["train"].features[:]
    with pytest.raises(InputError, match="checksum"):
        features.open(opened.path)["train"].features[:]


@pytest.mark.parametrize(
    ("split", "view", "row", "rows"), [("train", 0, 0, "0..7"), ("train", 2, 29, "24..29"), ("test", 0, 12, "8..15")]
)
def test_a_changed_bit_is_named(tmp_path: Path, split: str, view: int, row: int, rows: str) -> None:
    path = write_small(tmp_path)
    flip(path, offset_of(path, f"{split}/features") + (view * N + row) * D * 4 + 5, 3)
    told = rf"^{re.escape(str(path))} is damaged: {split} rows {rows} of view {view} do not match their checksum$"
    with pytest.raises(InputError, match=told) as caught:
        features.verify(features.open(path))
    assert caught.value.hint


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 7, 3), "compression": "gzip"}])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_that_are_not_finite_without_any_checksum(tmp_path: Path, storage: dict[str, Any], bad: float) -> None:
    x = X.copy()
    x[2, 17, 1] = bad
    path = tmp_path / "f.h5"
    hand_made(path, x, **storage).close()
    with pytest.raises(InputError, match=r"train features of row 17, view 2 hold NaN or infinity"):
        features.verify(features.open(path))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("boxes", np.nan, "test boxes of row 13 hold NaN or infinity"),
        ("boxes", 1e9, r"test boxes of row 13 are \[1000000000.0, .* expected x1, y1, x2, y2"),
        ("iou", 2.0, "test iou of row 13 are 2.0, expected 0 to 1"),
    ],
)
def test_boxes_and_ious_are_checked(tmp_path: Path, column: str, value: float, message: str) -> None:
    path = rois(tmp_path / "rois.h5")
    at = offset_of(path, f"test/{column}") + 13 * (16 if column == "boxes" else 4)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(np.float32(value).tobytes())
    with pytest.raises(InputError, match=rf"test {column} of rows 12..23 do not match their checksum"):
        features.verify(features.open(path))
    with h5py.File(path, "r+") as file:
        for name in ("fingerprint", "complete", "test/boxes_crc32", "test/iou_crc32"):
            del file[name]
    with pytest.raises(InputError, match=message):
        features.verify(features.open(path))


def test_all_damage_is_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_small(tmp_path)
    for split, view, row in (("test", 0, 0), ("train", 1, 9), ("train", 0, 29)):
        flip(path, offset_of(path, f"{split}/features") + (view * N + row) * D * 4)
    found = [error.message.partition(": ")[2] for error in verification.damage(features.open(path))]
    assert [message.removesuffix(" do not match their checksum") for message in found] == [
        "train rows 24..29 of view 0",
        "train rows 8..15 of view 1",
        "test rows 0..7 of view 0",
    ]


def test_a_bar_is_shown_where_it_takes_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = features.write(tmp_path / "f.h5", {"train": (np.ones((5, 2**19), np.float32), [0, 0, 1, 1, 1])})

    def said() -> str:
        console = Console(file=io.StringIO(), width=200)
        features.verify(features.open(path), Progress(console))
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    assert said() == ""
    monkeypatch.setattr(verification, "SECONDS_WITHOUT_BAR", 0.0)
    assert said().startswith(f"checking {path}: 10/10 MiB (100%)")


# Stage two


def not_finite_in_the_end(path: Path) -> Path:
    """Where no training would have come: the last row of test."""
    test = X[0].copy()
    test[-1, -1] = np.inf
    with hand_made(path) as file:
        file["test/features"], file["test/labels"] = test[None], LABELS
    return path


@pytest.mark.parametrize("command", ["stage2", "tune"])
def test_it_is_found_before_any_training(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = not_finite_in_the_end(tmp_path / "bad.h5")
    monkeypatch.setattr("gol_decouple.stages.saved.Saved.run", lambda *_: pytest.fail("trained"))
    outcome = run_cli(command, path, "--method", "gumbel", "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {path}: test features of row 29, view 0 hold NaN or infinity\n" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_so_it_is_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = not_finite_in_the_end(tmp_path / "bad.h5")
    monkeypatch.setattr("gol_decouple.stages.retrain.open_rows", lambda *_: pytest.fail("trained"))
    with pytest.raises(InputError, match="test features of row 29, view 0 hold NaN or infinity"):
        retrain(path, "gumbel", evaluate=False)


def test_so_it_is_in_a_cascade(tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    from gol_decouple.stages import cascade, classifier

    paths = [rois(tmp_path / f"mine_stage{stage}.h5") for stage in (1, 2)]
    flip(paths[1], offset_of(paths[1], "test/iou") + 4 * 15)
    monkeypatch.setattr(classifier, "DetectionEvaluation", lambda *_: None)
    monkeypatch.setattr(cascade, "retrain_all", lambda *_: pytest.fail("trained"))
    outcome = run_cli("stage2", *paths, "--method", "gumbel", "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {paths[1]} is damaged: test iou of rows 12..23 do not match their checksum\n" in outcome.err
    assert not (tmp_path / "runs").exists()
