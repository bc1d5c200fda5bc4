"""FeatureWriter: no interruption loses a block, mixes two files, or shows half a file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gol_decouple import features
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import store
from gol_decouple.features.layout import Block, Header, LinearWeights, Samples, SplitLayout
from gol_decouple.features.writer import FeatureWriter

D, PER_BLOCK = 4, 8
ROWS = {
    "train": np.random.default_rng(0).normal(size=(2, 20, D)).astype(np.float32),
    "test": np.random.default_rng(1).normal(size=(1, 10, D)).astype(np.float32),
}
ALL_BLOCKS = 2 * 3 + 2


def make_writer(path: Path, bias: float = 0, relabelled: int = 0, **options: Any) -> FeatureWriter:
    """A writer of train [2, 20, 4], six blocks, and test [1, 10, 4], two blocks."""
    labels = {name: np.arange(rows.shape[1]) % 3 for name, rows in ROWS.items()}
    labels["test"][0] = relabelled
    header = Header(
        ["a", "b", "c"],
        "float32",
        D,
        LinearWeights(np.ones((3, D), np.float32), np.full(3, bias, np.float32)),
        row_order_seed=7,
    )
    layouts = {
        name: SplitLayout(Samples(labels[name], np.arange(rows.shape[1])), len(rows), PER_BLOCK)
        for name, rows in ROWS.items()
    }
    return FeatureWriter(path, header, layouts, **options)


def rows_of(block: Block) -> np.ndarray:
    return ROWS[block.split][block.view, block.start : block.stop]


def fill(path: Path, count: int | None = None, **options: Any) -> list[Block]:
    """Write `count` of the pending blocks, or all and publish; returns those written."""
    with make_writer(path, **options) as writer:
        todo = writer.pending[:count]
        for block in todo:
            writer.write(block, rows_of(block))
        if count is None:
            writer.publish()
    return todo


def write_slowly(path: str) -> None:
    """What the process that is killed runs: says which block it has written."""
    with make_writer(Path(path)) as writer:
        for block in writer.pending:
            writer.write(block, rows_of(block))
            print(block.index, flush=True)
            time.sleep(0.02)


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def log_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial.0.log")


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """One test sees to it that the calls are made, and when."""
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the file when nothing interrupts its writing."""
    path = tmp_path_factory.mktemp("whole") / "f.h5"
    assert len(fill(path)) == ALL_BLOCKS
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.h5"


def test_nothing_is_at_path_before_publish(path: Path) -> None:
    with make_writer(path) as writer:
        for block in writer.pending:
            assert not path.exists()
            writer.write(block, rows_of(block))
        assert writer.pending == []
        assert not path.exists()
        writer.publish()
        assert files_in(path.parent) == ["f.h5"]
    file = features.open(path)
    assert file.checked
    for name, rows in ROWS.items():
        np.testing.assert_array_equal(file[name].features[:], rows)


def test_the_next_writer_continues(path: Path, whole: bytes) -> None:
    first = fill(path, 3)
    assert files_in(path.parent) == ["f.h5.partial", "f.h5.partial.0.log"]
    second = fill(path, 2)
    third = fill(path)
    assert len(first) + len(second) + len(third) == len({*first, *second, *third}) == ALL_BLOCKS
    assert path.read_bytes() == whole
    assert files_in(path.parent) == ["f.h5"]


def test_every_step_is_on_the_disk_before_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes before their log line; everything before `complete`; all of that before the name; the name at last."""
    steps: list[str] = []

    def note(step: str, real: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            steps.append(f"folder {step}" if step == "fsync" and is_folder(arguments[0]) else step)
            return real(*arguments)

        return call

    def is_folder(descriptor: int) -> bool:
        return os.path.isdir(f"/proc/self/fd/{descriptor}")

    for name, real in (("pwrite", os.pwrite), ("replace", os.replace)):
        monkeypatch.setattr(os, name, note(name, real))
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, note(name))
    with make_writer(path) as writer:
        monkeypatch.setattr(writer, "_log", type("Log", (), {"write": staticmethod(note("log"))}))
        for block in writer.pending:
            writer.write(block, rows_of(block))
        writer.publish()
    tables, seal = ["pwrite", "pwrite"], ["pwrite", "fsync", "pwrite", "fsync"]
    assert steps == ["pwrite", "fdatasync", "log"] * ALL_BLOCKS + tables + seal + ["replace", "folder fsync"]


def test_order_of_blocks_does_not_matter(path: Path, whole: bytes) -> None:
    with make_writer(path) as writer:
        for block in reversed(writer.pending):
            writer.write(block, rows_of(block))
        writer.publish()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InputError])
def test_an_exception_keeps_what_is_written(path: Path, whole: bytes, stop: type[BaseException]) -> None:
    def interrupted() -> None:
        with make_writer(path) as writer:
            writer.write(writer.pending[0], rows_of(writer.pending[0]))
            raise stop("enough")

    with pytest.raises(stop, match="enough"):
        interrupted()
    assert len(fill(path)) == ALL_BLOCKS - 1
    assert path.read_bytes() == whole


def test_a_killed_process_loses_no_block(path: Path, whole: bytes) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_writer; test_writer.write_slowly(sys.argv[2])"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline(), "the process failed"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(InputError, match="is incomplete"):
        features.open(partial_of(path))
    assert 1 <= len(fill(path)) <= ALL_BLOCKS - 3
    assert path.read_bytes() == whole


def test_a_block_whose_bytes_changed_is_written_again(path: Path, whole: bytes) -> None:
    fill(path, 4)
    with h5py.File(partial_of(path)) as file:
        offset = file["train/features"].id.get_offset()
    second_block = offset + PER_BLOCK * D * 4
    with partial_of(path).open("r+b") as file:
        file.seek(second_block)
        byte = file.read(1)[0]
        file.seek(second_block)
        file.write(bytes([byte ^ 1]))
    again = fill(path)
    assert [(block.split, block.view, block.index) for block in again] == [
        ("train", 0, 1),
        ("train", 1, 1),
        ("train", 1, 2),
        ("test", 0, 0),
        ("test", 0, 1),
    ]
    assert path.read_bytes() == whole


GARBAGE = {
    "empty": b"",
    "bytes": b"\xff\xfe\x00 garbage \x00",
    "half a line": b"train 0",
    "no number": b"\ntrain 0 1 x\n",
    "superscript": "\ntrain 0 1 ²\n".encode(),
    "too long a number": b"\ntrain 0 1 " + b"9" * 5000 + b"\n",
    "wrong crc": b"\ntrain 0 1 4294967295\n",
    "unknown split": b"\nval 0 0 1\n",
    "block beyond the end": b"\ntrain 7 7 1\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("position", ["alone", "before", "after"])
def test_a_damaged_log_costs_only_the_blocks_it_lost(path: Path, whole: bytes, garbage: bytes, position: str) -> None:
    fill(path, 1)
    good = log_of(path).read_bytes()
    log_of(path).write_bytes({"alone": garbage, "before": garbage + good, "after": good + garbage}[position])
    assert len(fill(path)) == ALL_BLOCKS - (position != "alone")
    assert path.read_bytes() == whole


def test_a_line_cut_short_does_not_spoil_the_next(path: Path) -> None:
    fill(path, 2)
    log_of(path).write_bytes(log_of(path).read_bytes()[:-4])
    assert len(fill(path, 3)) == 3
    assert len(fill(path)) == ALL_BLOCKS - 4


def test_a_lost_log_costs_time_only(path: Path, whole: bytes) -> None:
    fill(path, 5)
    log_of(path).unlink()
    assert len(fill(path)) == ALL_BLOCKS
    assert path.read_bytes() == whole


def replace_labels(partial: Path) -> None:
    with h5py.File(partial) as file:
        offset = file["train/labels"].id.get_offset()
    with partial.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\x02")


def foreign_hdf5(partial: Path) -> None:
    partial.unlink()
    with h5py.File(partial, "w") as file:
        file["train/features"] = [1]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda partial: partial.write_bytes(b""),
    "garbage": lambda partial: partial.write_bytes(b"garbage" * 1000),
    "zeros": lambda partial: partial.write_bytes(bytes(partial.stat().st_size)),
    "half": lambda partial: os.truncate(partial, partial.stat().st_size // 2),
    "foreign HDF5": foreign_hdf5,
    "other labels": replace_labels,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_partial_file_is_started_afresh(path: Path, whole: bytes, damage: Callable[[Path], object]) -> None:
    fill(path, 3)
    damage(partial_of(path))
    assert len(fill(path)) == ALL_BLOCKS
    assert path.read_bytes() == whole


def test_another_plan_starts_afresh(path: Path, whole: bytes) -> None:
    fill(path, 3, bias=1)
    fill(path, 3, relabelled=2)
    assert len(fill(path)) == ALL_BLOCKS
    assert path.read_bytes() == whole
    fill(path, bias=1)
    classifier = features.open(path).classifier
    assert classifier is not None
    assert classifier.bias.tolist() == [1, 1, 1]


def test_without_resuming_nothing_is_taken_over_or_left(path: Path, whole: bytes) -> None:
    fill(path, 3)

    def interrupted() -> None:
        with make_writer(path, resume=False) as writer:
            assert len(writer.pending) == ALL_BLOCKS
            writer.write(writer.pending[0], rows_of(writer.pending[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files_in(path.parent) == []
    assert len(fill(path, resume=False)) == ALL_BLOCKS
    assert path.read_bytes() == whole


def test_publishing_with_blocks_missing_is_an_error(path: Path) -> None:
    with make_writer(path) as writer:
        writer.write(writer.pending[0], rows_of(writer.pending[0]))
        with pytest.raises(EnvironmentFailure, match="lacks 7 blocks") as caught:
            writer.publish()
    assert caught.value.hint == "run the same command again: it continues"
    assert not path.exists()
    assert len(fill(path)) == ALL_BLOCKS - 1


def test_what_was_at_path_stays_until_publish(path: Path) -> None:
    fill(path, bias=1)
    before = path.read_bytes()
    fill(path, 7)
    assert path.read_bytes() == before
    fill(path)
    assert path.read_bytes() != before


def test_two_writers_of_one_file(path: Path, whole: bytes) -> None:
    with make_writer(path) as writer:
        for bias in (0, 1):
            with (
                pytest.raises(EnvironmentFailure, match=r"another process is writing .*f\.h5$"),
                make_writer(path, bias),
            ):
                pass
        for block in writer.pending:
            writer.write(block, rows_of(block))
        writer.publish()
    assert path.read_bytes() == whole


def test_a_file_system_without_locks_is_written_all_the_same(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    fill(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:3], r"^train rows 8\.\.15 have features of \[3, 4\], expected \[8, 4\]$"),
        (lambda rows: rows * np.inf, "^train features of row 8, view 1 hold NaN or infinity$"),
        (lambda rows: rows * np.float64(1e300), "which overflows float32$"),
    ],
)
def test_unusable_rows_are_refused_and_the_rest_kept(path: Path, change: Callable[..., Any], message: str) -> None:
    block = Block("train", 1, 1, 8, 16)
    with make_writer(path) as writer:
        writer.write(writer.pending[0], rows_of(writer.pending[0]))
        with pytest.raises(InputError, match=message):
            writer.write(block, change(rows_of(block)))
        assert block in writer.pending
    assert len(fill(path)) == ALL_BLOCKS - 1


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_found_before_the_first_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.posix_fallocate", full_disk)
    with pytest.raises(EnvironmentFailure, match="the disk is full") as caught, make_writer(path):
        pass
    assert caught.value.hint is not None
    assert "free some space" in caught.value.hint
    assert files_in(path.parent) == []


def test_a_full_disk_that_hdf5_tells_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError(
            "Can't decrement id ref count (file write failed: time = now, errno = 28, error message = .."
        )

    monkeypatch.setattr(store, "_reserve", fail)
    with pytest.raises(EnvironmentFailure, match="the disk is full"), make_writer(path):
        pass
    assert files_in(path.parent) == []


def test_other_errors_of_hdf5_are_not_taken_for_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("something else")

    monkeypatch.setattr(store, "_reserve", fail)
    with pytest.raises(RuntimeError, match="something else"), make_writer(path):
        pass


@pytest.mark.parametrize("after", [0, 3, ALL_BLOCKS, ALL_BLOCKS + 1, ALL_BLOCKS + 3])
def test_a_disk_that_fills_up_on_the_way(path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Blocks, block tables, fingerprint and `complete` are one write each."""
    path.write_bytes(b"before")
    real, calls = os.pwrite, 0

    def fills_up(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        return real(descriptor, data, offset) if calls <= after else full_disk()  # type: ignore[return-value]

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", fills_up)
        with pytest.raises(EnvironmentFailure, match="the disk is full"):
            fill(path)
    assert path.read_bytes() == b"before"
    assert len(fill(path)) == max(ALL_BLOCKS - after, 0)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_publishing(path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", full_disk)
        with pytest.raises(EnvironmentFailure, match="the disk is full"):
            fill(path)
    assert not path.exists()
    assert fill(path) == []
    assert path.read_bytes() == whole


def test_a_disk_that_has_no_room_for_the_log(path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_writer(path) as writer:
        block = writer.pending[0]
        with monkeypatch.context() as patch:
            patch.setattr(writer, "_log", type("Full", (), {"write": staticmethod(full_disk)}))
            with pytest.raises(EnvironmentFailure, match="the disk is full"):
                writer.write(block, rows_of(block))
    assert len(fill(path)) == ALL_BLOCKS
    assert path.read_bytes() == whole


def test_short_writes_are_continued(path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda descriptor, data, offset: real(descriptor, data[:7], offset))
    fill(path)
    assert path.read_bytes() == whole


def test_no_descriptor_stays_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fill(path, 2)
    with make_writer(path), pytest.raises(EnvironmentFailure), make_writer(path):
        pass
    fill(path)
    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full_disk)
        with pytest.raises(EnvironmentFailure):
            fill(path)
    features.open(path)["train"].features[:]
    assert len(os.listdir("/proc/self/fd")) == before
