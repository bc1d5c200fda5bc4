"""Streaming: every block of a pass once, in its order, in buffers that are read ahead and then used again."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_reader import ROWS_PER_BLOCK, D, N, V, X, flip, hand_made, offset_of, write_small

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features.blocked import FeatureArray
from gol_decouple.features.stream import Pass, ShuffleBuffer, read_ahead

BLOCKS_PER_VIEW = 4  # of 8, 8, 8 and 6 rows
BLOCK_BYTES = ROWS_PER_BLOCK * D * 4
# Of the twelve blocks of all views.
AT_ONCE = [1, 5, 12]
# Seconds until a thread that should do something has failed to.
PATIENCE = 20


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("written"))


@pytest.fixture
def damaged(written: Path, tmp_path: Path) -> Path:
    """Row 17 of view 1, which is in the seventh block, is not what it was."""
    path = Path(shutil.copy(written, tmp_path / "copy.h5"))
    flip(path, offset_of(path, "train/features") + (N + 17) * D * 4)
    return path


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No test leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def until_error(items: Generator[Any, None, None], message: str) -> int:
    """How many items come before the error."""
    good = 0

    def count_all() -> None:
        nonlocal good
        for _ in items:
            good += 1

    with pytest.raises(InputError, match=message):
        count_all()
    return good


def views_of(path: Path, count: int) -> list[tuple[FeatureArray, int]]:
    train = features.open(path)["train"].features
    return [(train, view) for view in range(count)]


def shuffle(path: Path, at_once: int, num_views: int = V) -> ShuffleBuffer:
    """A buffer for as many blocks as `at_once`, and as many that are read next."""
    return ShuffleBuffer(views_of(path, num_views), at_once * 2 * BLOCK_BYTES)


def shuffled_pass(path: Path, at_once: int, num_views: int = V, seed: int = 0) -> Pass:
    return shuffle(path, at_once, num_views).plan(np.random.default_rng(seed))


# Memory


@pytest.mark.parametrize(
    ("num_bytes", "at_once"),
    [(0, 1), (1, 1), (2 * BLOCK_BYTES, 1), (4 * BLOCK_BYTES - 1, 1), (4 * BLOCK_BYTES, 2), (10**9, 12)],
)
def test_buffers_take_the_memory_they_are_given(written: Path, num_bytes: int, at_once: int) -> None:
    buffer = ShuffleBuffer(views_of(written, V), num_bytes)
    assert buffer.blocks_at_once == at_once
    assert [memory.shape for memory in buffer.memory] == [(at_once * ROWS_PER_BLOCK, D)] * 2
    assert sum(memory.nbytes for memory in buffer.memory) <= max(num_bytes, 2 * BLOCK_BYTES)


def test_rows_that_are_shuffled_among_each_other(written: Path) -> None:
    assert [shuffle(written, at_once).num_rows for at_once in (1, 5)] == [8, 40]


def test_as_many_buffers_as_the_blocks_fill(written: Path) -> None:
    assert [shuffled_pass(written, at_once).num_buffers for at_once in (1, 5, 6, 11, 12)] == [12, 3, 2, 2, 1]


# A pass


@pytest.mark.parametrize("num_views", [1, 2, V])
@pytest.mark.parametrize("at_once", AT_ONCE)
def test_a_pass_has_every_block_once_in_its_order(
    written: Path, at_once: int, num_views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, read, real = shuffled_pass(written, at_once, num_views), [], FeatureArray.read_block

    def told(self: FeatureArray, view: int, index: int, *into: Any) -> int:
        read.append((view, index))
        return real(self, view, index, *into)

    monkeypatch.setattr(FeatureArray, "read_block", told)
    found = [block for buffer in plan.buffers() for block in np.split(buffer.copy(), len(buffer) // ROWS_PER_BLOCK)]
    assert sorted(plan.order) == list(range(num_views * BLOCKS_PER_VIEW))
    assert read == [divmod(block, BLOCKS_PER_VIEW) for block in plan.order.tolist()]
    for (view, index), rows in zip(read, found, strict=False):
        wanted = X[view, index * ROWS_PER_BLOCK : (index + 1) * ROWS_PER_BLOCK]
        np.testing.assert_array_equal(rows[: len(wanted)], wanted)


@pytest.mark.parametrize("num_views", [1, 2, V])
@pytest.mark.parametrize("at_once", AT_ONCE)
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_where_they_are_said_to_be(written: Path, at_once: int, num_views: int, seed: int) -> None:
    plan = shuffled_pass(written, at_once, num_views, seed)
    rows = np.random.default_rng(seed).permutation(np.arange(2 * num_views * N) // 2)
    number, place = plan.locate(rows)
    assert set(number.tolist()) == set(range(plan.num_buffers))
    for at, buffer in enumerate(plan.buffers()):
        np.testing.assert_array_equal(buffer[place[number == at]], X.reshape(-1, D)[rows[number == at]])


def test_equal_draws_give_equal_orders_and_others_do_not(written: Path) -> None:
    first, same, other = (shuffled_pass(written, 5, seed=seed).order.tolist() for seed in (3, 3, 4))
    assert first == same
    assert first != other
    assert sorted(first) == sorted(other)


def test_one_pass_comes_after_the_other_from_the_same_memory(written: Path) -> None:
    buffer, draws = shuffle(written, 5), np.random.default_rng(0)
    first, second = buffer.plan(draws), buffer.plan(draws)
    assert first.order.tolist() != second.order.tolist()
    for plan in (first, second, first):
        rows = np.arange(V * N)
        number, place = plan.locate(rows)
        for at, read in enumerate(plan.buffers()):
            assert any(read is memory for memory in buffer.memory)
            np.testing.assert_array_equal(read[place[number == at]], X.reshape(-1, D)[rows[number == at]])


@pytest.mark.parametrize("at_once", [1, 5])
def test_the_next_buffer_is_read_meanwhile(written: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = threading.Semaphore(0), FeatureArray.read_block

    def told(self: FeatureArray, *block: Any) -> int:
        read.release()
        return real(self, *block)

    monkeypatch.setattr(FeatureArray, "read_block", told)
    with closing(shuffled_pass(written, at_once).buffers()) as buffers:
        next(buffers)
        assert all(read.acquire(timeout=PATIENCE) for _ in range(2 * at_once))
        assert not read.acquire(timeout=0.01)


@pytest.mark.parametrize("at_once", [1, 5])
def test_a_buffer_stays_until_the_next_is_asked_for(written: Path, at_once: int) -> None:
    for buffer in shuffled_pass(written, at_once).buffers():
        before = buffer.copy()
        time.sleep(0.002)
        np.testing.assert_array_equal(buffer, before)


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_a_damaged_block_is_told_where_it_comes(damaged: Path, at_once: int) -> None:
    plan = shuffled_pass(damaged, at_once)
    message = r"copy\.h5 is damaged: train rows 16\.\.23 of view 1 do not match their checksum"
    for _ in range(2):
        good = until_error(plan.buffers(), message)
        assert good == plan.order.tolist().index(BLOCKS_PER_VIEW + 2) // at_once


def test_damage_in_views_that_are_not_read_is_none(damaged: Path) -> None:
    assert len(list(shuffled_pass(damaged, 1, num_views=1).buffers())) == BLOCKS_PER_VIEW


def test_a_file_that_goes_away_before_a_pass(damaged: Path) -> None:
    plan = shuffled_pass(damaged, 1)
    damaged.unlink()
    assert until_error(plan.buffers(), r"copy\.h5 can no longer be read: No such file") == 0


def test_a_file_that_ends_early_in_the_midst_of_a_pass(damaged: Path) -> None:
    buffers = shuffled_pass(damaged, 1).buffers()
    next(buffers)
    os.truncate(damaged, offset_of(damaged, "train/features") + 1)
    assert until_error(buffers, r"copy\.h5 is truncated in train") < V * BLOCKS_PER_VIEW


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 7, 2), "compression": "gzip"}], ids=["contiguous", "chunked"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_a_file_written_elsewhere(tmp_path: Path, storage: dict[str, object], bad: float) -> None:
    x = X.copy()
    x[2, 25, 1] = bad
    with hand_made(tmp_path / "f.h5", x, **storage) as file:
        file["train"].attrs["rows_per_block"] = ROWS_PER_BLOCK
    with pytest.raises(InputError, match=r"f\.h5: train features of row 25, view 2 hold NaN or infinity"):
        list(shuffled_pass(tmp_path / "f.h5", 5).buffers())
    assert len(list(shuffled_pass(tmp_path / "f.h5", 5, num_views=2).buffers())) == 2


# Reading ahead


def counting(made: list[int], stop: int | None = None) -> Generator[int, None, None]:
    """0, 1, 2 and so on; each is put down when it is begun."""
    for item in count() if stop is None else range(stop):
        made.append(item)
        yield item


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("stop", [0, 1, 4, 50])
def test_items_come_in_order(depth: int, stop: int) -> None:
    assert list(read_ahead(counting([], stop), depth)) == list(range(stop))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_never_more_items_than_the_depth_are_there_and_no_fewer(depth: int) -> None:
    made = threading.Semaphore(0)

    def items() -> Generator[int, None, None]:
        for item in range(20):
            made.release()
            yield item

    reading = read_ahead(items(), depth)
    for step in range(20):
        assert next(reading) == step
        for _ in range(depth if step == 0 else int(step + depth <= 20)):
            assert made.acquire(timeout=PATIENCE)
        assert not made.acquire(timeout=0.005)
    assert list(reading) == []


def test_nothing_is_made_before_the_first_item_is_asked_for() -> None:
    made: list[int] = []
    reading = read_ahead(counting(made), 2)
    assert made == []
    reading.close()


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("good", [0, 1, 3, 7])
def test_an_exception_comes_after_the_items_before_it(depth: int, good: int) -> None:
    def items() -> Generator[int, None, None]:
        yield from range(good)
        raise InputError("no more")

    reading = read_ahead(items(), depth)
    assert until_error(reading, "no more") == good
    assert list(reading) == []


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_early_ends_the_maker_and_its_thread(taken: int) -> None:
    ended: list[bool] = []

    def items() -> Generator[int, None, None]:
        try:
            yield from count()
        finally:
            ended.append(True)

    before, maker = threading.active_count(), items()
    reading = read_ahead(maker, 3)
    assert list(islice(reading, taken)) == list(range(taken))
    assert (ended, threading.active_count()) == ([], before + 1)
    reading.close()
    assert (ended, threading.active_count()) == ([True], before)


def test_closing_waits_for_the_item_that_is_being_made_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made, begun, cancelled, cancel = [], threading.Event(), threading.Event(), Future.cancel

    def told(self: Future[int]) -> bool:
        done = cancel(self)
        if done:
            cancelled.set()
        return done

    def items() -> Generator[int, None, None]:
        for item in count():
            made.append(item)
            if item == 1:
                begun.set()
                cancelled.wait(PATIENCE)
            yield item

    monkeypatch.setattr(Future, "cancel", told)
    reading = read_ahead(items(), 3)
    next(reading)
    assert begun.wait(PATIENCE)
    reading.close()
    assert made == [0, 1]


def alternating(buffers: list[np.ndarray], pause: float) -> Generator[np.ndarray, None, None]:
    """0, 1, 2 and so on to 11, each all over the next of the buffers; with a pause in the midst."""
    for item in range(12):
        buffer = buffers[item % len(buffers)]
        half = len(buffer) // 2
        buffer[:half] = item
        time.sleep(pause)
        buffer[half:] = item
        yield buffer


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("slow", ["caller", "maker"])
def test_a_maker_with_as_many_buffers_as_the_depth_overwrites_none_in_use(depth: int, slow: str) -> None:
    pauses = {"caller": 0.0, "maker": 0.0} | {slow: 0.005}
    buffers = [np.full(100, -1) for _ in range(depth)]
    for item, buffer in enumerate(read_ahead(alternating(buffers, pauses["maker"]), depth)):
        assert set(buffer.tolist()) == {item}
        time.sleep(pauses["caller"])
        assert set(buffer.tolist()) == {item}


def test_what_is_kept_longer_is_overwritten() -> None:
    kept = list(read_ahead(alternating([np.full(100, -1) for _ in range(2)], 0.0), 2))
    assert all(buffer is kept[item % 2] for item, buffer in enumerate(kept))
    assert [set(buffer.tolist()) for buffer in kept[:2]] == [{10}, {11}]
