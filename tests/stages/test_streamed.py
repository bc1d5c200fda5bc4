"""Streamed batches: the rows that are in memory's, buffer by buffer, and in a buffer in their feed's order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rows import BLOCKS_PER_VIEW, CPU, LABELS, ROWS_PER_BLOCK, D, N, V, feed, kept, told_features, told_rows
from test_rows import write_told as write_told_features

from gol_decouple import features
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.stages.feed import Batch, Feed
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.streamed import PIECES_AHEAD, Streamed

# Of the 48 blocks of all views.
AT_ONCE = [1, 5, 48]
FEEDS = {
    "random views": feed(),
    "clean views": feed(views="clean"),
    "class balanced": feed((3,), "class_balanced"),
    "class balanced and clean": feed((3,), "class_balanced", "clean"),
    "small bfloat16 batches": feed((1,), size=7, dtype=torch.bfloat16),
    "batches of more than a buffer": feed((2,), size=333),
    "one batch": feed((4,), size=4096),
}


@pytest.fixture(scope="module", params=["float16", "float32"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    return features.open(write_told_features(tmp_path_factory.mktemp("told"), request.param))


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """No test leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """These files have few rows; pieces should be several all the same."""
    monkeypatch.setattr("gol_decouple.stages.streamed.ROWS_A_PIECE", 50)


def streamed(file: FeaturesFile, at_once: int = 5, num_views: int = V) -> Streamed:
    """Rows with a buffer for so many blocks."""
    block_bytes = ROWS_PER_BLOCK * D * file["train"].features.dtype.itemsize
    return Streamed(file, CPU, num_views, 2 * at_once * block_bytes)


def order_of(batches: Iterable[Batch]) -> np.ndarray:
    """The rows of all batches, by what their features tell."""
    return np.concatenate([told_rows(batch.x[0]) for batch in batches])


def blocks_of(rows: np.ndarray) -> np.ndarray:
    return rows // N * BLOCKS_PER_VIEW + rows % N // ROWS_PER_BLOCK


def buffers_of(rows: Streamed, epoch: int, seed: int = 0) -> list[set[int]]:
    """The blocks in each buffer, as the rows of a feed that has some of every block tell them."""
    met = list(dict.fromkeys(blocks_of(order_of(rows.batches([feed((seed,))], epoch))).tolist()))
    assert len(met) == rows.num_views * BLOCKS_PER_VIEW
    at_once = rows.shuffled_rows // ROWS_PER_BLOCK if rows.shuffled_rows < rows.num_views * N else len(met)
    return [set(met[start : start + at_once]) for start in range(0, len(met), at_once)]


def streamed_order(rows: Streamed, asked: Feed, epoch: int) -> np.ndarray:
    """The feed's rows, first those in the first buffer, then those in the second, and so on."""
    (order,) = asked.rows(rows.labels, rows.num_views, epoch).numpy()
    blocks = blocks_of(order)
    return np.concatenate([order[np.isin(blocks, list(buffer))] for buffer in buffers_of(rows, epoch)])


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert first
    for one, other in zip(first, second, strict=True):
        assert one.feed == other.feed
        assert one.x.dtype == other.x.dtype
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("asked", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("at_once", AT_ONCE)
@pytest.mark.parametrize("num_views", [1, V])
def test_an_epoch_has_the_feeds_rows_buffer_by_buffer_in_the_feeds_order(
    told: FeaturesFile, asked: Feed, at_once: int, num_views: int
) -> None:
    rows = streamed(told, at_once, num_views)
    batches = kept(rows.batches([asked], 1))
    order = order_of(batches)
    feeds_rows = asked.rows(rows.labels, num_views, 1)
    np.testing.assert_array_equal(np.sort(order), np.sort(feeds_rows[0]))
    np.testing.assert_array_equal(order, streamed_order(rows, asked, 1))

    x, labels = torch.cat([batch.x for batch in batches], 1), torch.cat([batch.labels for batch in batches], 1)
    np.testing.assert_array_equal(x[0].double(), told_features().reshape(-1, D)[order])
    np.testing.assert_array_equal(labels[0], LABELS[order % N])
    size = asked.batch_size
    wanted = [(1, min(size, N - start), D) for start in range(0, N, size)]
    assert [tuple(batch.x.shape) for batch in batches] == wanted
    assert all(batch.feed is asked and batch.x.dtype == asked.dtype for batch in batches)


def test_blocks_are_in_the_same_random_order_for_all_seeds(told: FeaturesFile) -> None:
    rows = streamed(told)
    first = buffers_of(rows, 0, seed=0)
    assert [len(buffer) for buffer in first] == [5] * 9 + [3]
    assert all(buffers_of(rows, 0, seed) == first for seed in (1, 2))
    assert first != [set(range(start, min(start + 5, 48))) for start in range(0, 48, 5)]
    orders = [order_of(rows.batches([feed((seed,))], 0)) for seed in (0, 1)]
    assert (orders[0] != orders[1]).mean() > 0.9


def test_epochs_have_other_orders_of_blocks_and_of_rows(told: FeaturesFile) -> None:
    rows = streamed(told)
    buffers = [buffers_of(rows, epoch) for epoch in range(4)]
    assert all(one != other for place, one in enumerate(buffers) for other in buffers[:place])
    orders = [order_of(streamed(told, 48).batches([feed()], epoch)) for epoch in (0, 1)]
    assert (orders[0] != orders[1]).mean() > 0.9


def test_files_have_orders_of_blocks_of_their_own(told: FeaturesFile, tmp_path: Path) -> None:
    x = told_features().astype(told["train"].features.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", ROWS_PER_BLOCK * D * x.itemsize)
        named = features.write(tmp_path / "named.h5", {"train": (x, LABELS)}, class_names=["a", "b", "c"])
    assert buffers_of(streamed(told), 0) != buffers_of(streamed(features.open(named)), 0)


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_the_same_epoch_has_the_same_batches_again(told: FeaturesFile, at_once: int) -> None:
    rows, asked = streamed(told, at_once), FEEDS["class balanced"]
    first = kept(rows.batches([asked], 3))
    kept(rows.batches([asked], 0))
    assert_equal(first, kept(rows.batches([asked], 3)))
    assert_equal(first, kept(streamed(features.open(told.path), at_once).batches([asked], 3)))


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_several_feeds_have_the_batches_that_each_has_alone(told: FeaturesFile, at_once: int) -> None:
    rows = streamed(told, at_once)
    asked = [*FEEDS.values(), feed((8,)), feed((9,)), feed((9,), size=7, dtype=torch.bfloat16)]
    together = kept(rows.batches(asked, 2))
    for one in asked:
        assert_equal([batch for batch in together if batch.feed == one], kept(rows.batches([one], 2)))


@pytest.mark.parametrize("num_views", [1, V])
def test_batches_from_one_buffer_are_those_in_memory(told: FeaturesFile, num_views: int) -> None:
    asked = list(FEEDS.values())
    in_memory = kept(InMemory(told, CPU, num_views).batches(asked, 5))
    assert_equal(kept(streamed(told, 48, num_views).batches(asked, 5)), in_memory)


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_pieces_do_not_show(told: FeaturesFile, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    several, asked = [], [*FEEDS.values(), feed((8,))]
    for size in (1, 50, 350, 1024):
        monkeypatch.setattr("gol_decouple.stages.streamed.ROWS_A_PIECE", size)
        batches = kept(streamed(told, at_once).batches(asked, 4))
        several.append([batch for one in asked for batch in batches if batch.feed == one])
    for batches in several[1:]:
        assert_equal(several[0], batches)


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_a_batch_stays_until_the_next_is_asked_for(told: FeaturesFile, at_once: int) -> None:
    asked = [feed((0,), size=16), feed((1,), size=16), feed((2,), size=70)]
    for batch in streamed(told, at_once).batches(asked, 0):
        (before,) = kept([batch])
        time.sleep(0.002)
        assert torch.equal(batch.x, before.x)
        assert torch.equal(batch.labels, before.labels)


def test_batches_use_the_same_memory_again(told: FeaturesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gol_decouple.stages.streamed.ROWS_A_PIECE", 8)
    asked = [feed((0,), size=4), feed((1,), size=8)]
    places = {batch.x.data_ptr() for batch in streamed(told).batches(asked, 0)}
    assert len(places) <= 2 * (PIECES_AHEAD + len(asked))


def test_rows_are_shuffled_among_no_more_than_there_are(told: FeaturesFile, tmp_path: Path) -> None:
    assert streamed(told, 7).shuffled_rows == 7 * ROWS_PER_BLOCK
    assert streamed(told, 48).shuffled_rows == V * N
    one_block = features.write(tmp_path / "one.h5", {"train": (told["train"].features[:], LABELS)})
    assert Streamed(features.open(one_block), CPU, V, 1).shuffled_rows == N


# Ends before the end


def damage(path: Path, view: int, row: int) -> None:
    """Change a byte of a row's features."""
    dtype = features.open(path)["train"].features.dtype
    place = path.read_bytes().index(told_features()[view, row].astype(dtype).tobytes())
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\x01")


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_a_damaged_block_is_told(tmp_path: Path, at_once: int) -> None:
    path = write_told_features(tmp_path)
    damage(path, 2, 40)
    rows = streamed(features.open(path), at_once)
    for _ in range(2):
        with pytest.raises(InputError, match=r"told\.h5 is damaged: train rows 32\.\.63 of view 2 do not match"):
            kept(rows.batches([feed(), feed((1,))], 0))
    kept(streamed(features.open(path), at_once, num_views=2).batches([feed()], 0))


@pytest.mark.parametrize("taken", [1, 3, 20])
def test_who_stops_early_leaves_nothing_running(told: FeaturesFile, taken: int) -> None:
    rows = streamed(told)
    batches = rows.batches([feed(size=8), feed((1,))], 0)
    first = kept(batch for _, batch in zip(range(taken), batches, strict=False))
    assert threading.active_count() > 1
    batches.close()
    again = kept(rows.batches([feed(size=8), feed((1,))], 0))
    assert_equal(first, again[:taken])
