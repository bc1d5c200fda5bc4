"""Train rows: kept in memory where they fit, and then in the batches that their feeds say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from gol_decouple import features, methods, runtime
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.stages.feed import Batch, Feed
from gol_decouple.stages.rows import InMemory, open_rows
from gol_decouple.stages.streamed import Streamed

V, N, D = 3, 500, 4
COUNTS = (350, 110, 40)
LABELS = np.repeat(np.arange(3), COUNTS)[np.random.default_rng(0).permutation(N)]
ROWS_PER_BLOCK = 32
BLOCKS_PER_VIEW = 16  # the last of 20 rows
CPU = torch.device("cpu")
RANDOM = methods.get("softmax")
CLEAN = RANDOM.with_settings(views="clean")


def told_features() -> np.ndarray:
    """[V, N, D] that tell view, sample and label, each of them exact in bfloat16."""
    view, sample = np.meshgrid(np.arange(V), np.arange(N), indexing="ij")
    return np.stack([view, sample // 16, sample % 16, np.broadcast_to(LABELS, view.shape)], axis=-1)


def told_rows(x: torch.Tensor) -> np.ndarray:
    """The rows (view * N + sample) that features [..., D] tell."""
    view, high, low, _ = x.long().unbind(-1)
    return (view * N + high * 16 + low).numpy()


def write_told(folder: Path, dtype: str = "float32") -> Path:
    """A file of those features in blocks of 32 rows, 16 a view."""
    x = told_features().astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", ROWS_PER_BLOCK * D * x.itemsize)
        return features.write(folder / "told.h5", {"train": (x, LABELS), "test": (x[0, :90], LABELS[:90])})


@pytest.fixture(scope="module", params=["float16", "float32"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    return features.open(write_told(tmp_path_factory.mktemp("told"), request.param))


def feed(
    seeds: tuple[int, ...] = (0,),
    sampler: str = "random",
    views: str = "random",
    size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Feed:
    return Feed(sampler, views, size, seeds, dtype)


def kept(batches: Iterable[Batch]) -> list[Batch]:
    """Batches whose memory is their own."""
    return [Batch(batch.feed, batch.x.clone(), batch.labels.clone()) for batch in batches]


# Where they are


def needed(file: FeaturesFile, num_views: int) -> int:
    return num_views * N * D * file["train"].features.dtype.itemsize


@pytest.mark.parametrize(("chosen", "num_views"), [([CLEAN], 1), ([CLEAN, RANDOM], V), ([RANDOM], V)])
def test_rows_are_streamed_if_they_are_more_than_the_memory_that_is_given(
    told: FeaturesFile, chosen: list[methods.Method], num_views: int
) -> None:
    size = needed(told, num_views)
    for num_bytes, kind in ((size + 0.5, InMemory), (size - 0.5, Streamed), (10 * size, InMemory), (1, Streamed)):
        rows = open_rows(told, CPU, chosen, num_bytes / 1e9)
        assert type(rows) is kind
        assert (rows.num_views, rows.num_samples, rows.feature_size) == (num_views, N, D)
        assert rows.class_counts.tolist() == list(COUNTS)
        np.testing.assert_array_equal(rows.labels, LABELS)


def test_rows_are_streamed_if_they_are_more_than_half_of_what_is_free(
    told: FeaturesFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, kind in ((2 * needed(told, V), InMemory), (2 * needed(told, V) - 1, Streamed)):
        monkeypatch.setattr(runtime, "free_memory", lambda device, free=free: free)
        assert type(open_rows(told, CPU, [RANDOM], None)) is kind


def test_streamed_rows_take_their_buffer_from_the_cpus_memory(
    told: FeaturesFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = ROWS_PER_BLOCK * D * told["train"].features.dtype.itemsize
    monkeypatch.setattr(runtime, "free_memory", lambda device: {"cuda": block, "cpu": 28 * block}[device.type])
    rows = open_rows(told, torch.device("cuda"), [RANDOM], None)
    assert isinstance(rows, Streamed)
    assert rows.shuffled_rows == 7 * ROWS_PER_BLOCK
    assert open_rows(told, torch.device("cuda"), [RANDOM], 6 * block / 1e9).shuffled_rows == 3 * ROWS_PER_BLOCK


def test_only_rows_in_memory_are_all_shuffled_among_each_other(told: FeaturesFile) -> None:
    assert open_rows(told, CPU, [RANDOM], None).shuffled_rows is None
    assert open_rows(told, CPU, [RANDOM], 1e-9).shuffled_rows == ROWS_PER_BLOCK


def test_rows_to_stream_are_not_read_before(told: FeaturesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", read)
        rows = open_rows(told, CPU, [RANDOM], 1e-9)
    assert sum(batch.labels.numel() for batch in rows.batches([feed()], 0)) == N


def test_damage_is_found_before_rows_are_in_memory(tmp_path: Path) -> None:
    path = write_told(tmp_path)
    content = path.read_bytes()
    # Row 40 of view 2.
    place = content.index(told_features()[2, 40].astype(np.float32).tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    with pytest.raises(InputError, match=r"told\.h5 is damaged: train rows 32\.\.63 of view 2"):
        open_rows(features.open(path), CPU, [RANDOM], None)
    assert isinstance(open_rows(features.open(path), CPU, [CLEAN], None), InMemory)


# Batches of rows in memory


SEEDS = [(0,), (3, 1, 4)]


@pytest.mark.parametrize("seeds", SEEDS, ids=["one seed", "three seeds"])
@pytest.mark.parametrize("views", ["clean", "random"])
@pytest.mark.parametrize("sampler", ["random", "class_balanced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_are_the_features_and_labels_of_the_feeds_rows(
    told: FeaturesFile, seeds: tuple[int, ...], views: str, sampler: str, dtype: torch.dtype
) -> None:
    rows, asked = InMemory(told, CPU, V), feed(seeds, sampler, views, dtype=dtype)
    order = asked.rows(rows.labels, V, 2)
    assert order.shape == (len(seeds), N)
    batches = kept(rows.batches([asked], 2))
    assert [batch.x.shape for batch in batches] == [(len(seeds), size, D) for size in (64,) * 7 + (52,)]
    assert all(batch.feed is asked and batch.x.dtype == dtype for batch in batches)
    x, labels = torch.cat([batch.x for batch in batches], 1), torch.cat([batch.labels for batch in batches], 1)
    np.testing.assert_array_equal(x.double(), told_features().reshape(-1, D)[order])
    np.testing.assert_array_equal(labels, LABELS[order % N])
    np.testing.assert_array_equal(told_rows(x), order)


@pytest.mark.parametrize("size", [1, 250, 499, 500, 501, 4096])
def test_the_last_batch_has_what_is_left(told: FeaturesFile, size: int) -> None:
    wanted = [min(size, N - start) for start in range(0, N, size)]
    sizes = [batch.x.shape[1] for batch in InMemory(told, CPU, V).batches([feed((0, 1), size=size)], 0)]
    assert sizes == wanted


def test_several_feeds_have_the_batches_that_each_has_alone(told: FeaturesFile) -> None:
    rows = InMemory(told, CPU, V)
    feeds = [feed((0,)), feed((1, 2)), feed((0,), "class_balanced", "clean", 100, torch.bfloat16)]
    together = kept(rows.batches(feeds, 1))
    for one in feeds:
        alone = kept(rows.batches([one], 1))
        mine = [batch for batch in together if batch.feed == one]
        for first, second in zip(mine, alone, strict=True):
            assert torch.equal(first.x, second.x)
            assert torch.equal(first.labels, second.labels)


def test_rows_of_one_epoch_are_not_those_of_another(told: FeaturesFile) -> None:
    rows = InMemory(told, CPU, V)
    first, same, other = (
        np.concatenate([told_rows(batch.x[0]) for batch in kept(rows.batches([feed()], epoch))]) for epoch in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.9


def test_a_feed_is_one_for_equal_seeds() -> None:
    crt = methods.get("crt").with_settings(precision="bfloat16", batch_size=7)
    assert Feed.of(crt, (4, 4, 4), 90) == feed((4,), "class_balanced", "random", 7, torch.bfloat16)
    assert Feed.of(crt, (4, 5, 4), 90).seeds == (4, 5, 4)
    assert Feed.of(CLEAN, (4,), 90) == feed((4,), views="clean")
