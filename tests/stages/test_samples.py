"""Which samples are trained on and held out, and that stage two's rows are those and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from gol_decouple import features
from gol_decouple.class_stats import class_counts
from gol_decouple.features import FeaturesFile
from gol_decouple.features.stream import ShuffleBuffer
from gol_decouple.stages.feed import Batch, Feed, TrainRows
from gol_decouple.stages.rows import InMemory, open_rows
from gol_decouple.stages.samples import HELD_OUT, TRAIN, Holdout, Samples
from gol_decouple.stages.streamed import Streamed
from tests.conftest import write_gaussians

V, N, D = 3, 200, 5
COUNTS = (120, 50, 24, 5, 1)
C = len(COUNTS)
LABELS = np.repeat(np.arange(C), COUNTS)[np.random.default_rng(0).permutation(N)]
VAL_LABELS = {size: np.random.default_rng(size).integers(0, C, size) for size in (20, 70)}
ROWS_PER_BLOCK = 32
CPU = torch.device("cpu")
LEFT_OUT = np.sort(np.random.default_rng(3).permutation(N)[:41])

# A row by what its features tell: the split (0 train, 1 val), the view, the sample and the label.
Told = tuple[int, int, int, int]


def told_rows(split: int, views: int, labels: np.ndarray) -> np.ndarray:
    """[views, N, D] features that tell them, exactly in float16."""
    view, sample = np.meshgrid(np.arange(views), np.arange(len(labels)), indexing="ij")
    parts = [np.full_like(view, split), view, sample // 16, sample % 16, np.broadcast_to(labels, view.shape)]
    return np.stack(parts, axis=-1).astype(np.float16)


def read(x: torch.Tensor) -> list[Told]:
    split, view, high, low, label = x.reshape(-1, D).long().T.tolist()
    return list(zip(split, view, [16 * a + b for a, b in zip(high, low, strict=True)], label, strict=True))


@pytest.fixture(scope="module", params=list(VAL_LABELS), ids="val of {} rows".format)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    """Train in blocks of 32 rows; val in one of 20, or in three of which the last has 6."""
    labels = VAL_LABELS[request.param]
    splits = {
        "train": (told_rows(0, V, LABELS), LABELS),
        "val": (told_rows(1, 1, labels)[0], labels),
        "test": (told_rows(2, 1, LABELS)[0], LABELS),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", ROWS_PER_BLOCK * D * 2)
        path = features.write(tmp_path_factory.mktemp("told") / "told.h5", splits)
    found = features.open(path)
    assert found["train"].features.rows_per_block == ROWS_PER_BLOCK
    assert found["val"].features.rows_per_block == min(ROWS_PER_BLOCK, request.param)
    return found


SAMPLES = {
    "train": TRAIN,
    "some of train": Samples(left_out=LEFT_OUT),
    "train and val": Samples(with_val=True),
    "some of train and val": Samples(left_out=LEFT_OUT, with_val=True),
    "none left out": Samples(left_out=np.empty(0, np.int64)),
}
EVERY_CHOICE = pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)


def wanted_rows(file: FeaturesFile, samples: Samples, views: int) -> dict[tuple[int, int], set[Told]]:
    """For each sample (its split and place) the rows that may be met: of train any view, of val the one there is."""
    out = set() if samples.left_out is None else set(samples.left_out.tolist())
    found = {
        (0, place): {(0, view, place, label) for view in range(views)}
        for place, label in enumerate(LABELS.tolist())
        if place not in out
    }
    if samples.with_val:
        val = VAL_LABELS[len(file["val"])].tolist()
        found |= {(1, place): {(1, 0, place, label)} for place, label in enumerate(val)}
    return found


def rows_of(kind: str, file: FeaturesFile, samples: Samples, views: int = V) -> TrainRows:
    if kind == "in memory":
        return InMemory(file, CPU, views, samples)
    if kind == "in memory as stored":
        return InMemory(file, CPU, views, samples, decoded=False)
    blocks = int(kind.split()[1])
    return Streamed(file, CPU, views, 2 * blocks * ROWS_PER_BLOCK * D * 2, samples)


def epoch_of(rows: TrainRows, feed: Feed, epoch: int) -> list[Told]:
    """An epoch's rows as their features tell them, whose labels are those of the batches."""
    met: list[Told] = []
    for batch in rows.batches([feed], epoch):
        told = read(batch.x)
        assert [label for *_, label in told] == batch.labels.flatten().tolist()
        met += told
    return met


KINDS = ["in memory", "in memory as stored", "streamed 1", "streamed 3", "streamed 99"]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@EVERY_CHOICE
@EVERY_KIND
@pytest.mark.parametrize("views", [1, V])
def test_an_epoch_has_each_sample_that_is_trained_on_once_and_no_other(
    file: FeaturesFile, samples: Samples, kind: str, views: int
) -> None:
    rows, wanted = rows_of(kind, file, samples, views), wanted_rows(file, samples, views)
    assert rows.num_samples == len(wanted)
    met_views = set()
    for epoch in range(2):
        met = epoch_of(rows, Feed("random", "random", 16, (4,), torch.float32), epoch)
        assert len(met) == len(wanted)
        assert {(split, place) for split, _, place, _ in met} == set(wanted)
        assert all(row in wanted[row[0], row[2]] for row in met)
        met_views |= {view for split, view, *_ in met if split == 0}
    assert met_views == set(range(views))


@EVERY_CHOICE
@EVERY_KIND
def test_clean_views_are_the_first(file: FeaturesFile, samples: Samples, kind: str) -> None:
    met = epoch_of(rows_of(kind, file, samples), Feed("random", "clean", 16, (4,), torch.float32), 1)
    assert {view for _, view, *_ in met} == {0}
    assert len(set(met)) == len(met) == len(wanted_rows(file, samples, 1))


@EVERY_CHOICE
@pytest.mark.parametrize("sampler", ["random", "class_balanced", "square_root", "progressive"])
def test_streamed_rows_are_those_in_memory_in_another_order(file: FeaturesFile, samples: Samples, sampler: str) -> None:
    feed = Feed(sampler, "random", 16, (4,), torch.float32, 10)
    in_memory, *streamed = (epoch_of(rows_of(kind, file, samples), feed, 2) for kind in (KINDS[0], *KINDS[2:]))
    allowed = set().union(*wanted_rows(file, samples, V).values())
    assert set(in_memory) <= allowed
    for order in streamed:
        assert Counter(order) == Counter(in_memory)
    assert streamed[0] != in_memory
    assert streamed[-1] == in_memory, "all blocks in one buffer"


@EVERY_CHOICE
def test_labels_and_counts_are_those_of_what_is_trained_on(file: FeaturesFile, samples: Samples) -> None:
    labels = [label for rows in wanted_rows(file, samples, 1).values() for *_, label in rows]
    counts = [labels.count(label) for label in range(C)]
    assert samples.labels(file).tolist() == labels
    assert samples.counts(file).tolist() == counts
    for kind in KINDS:
        rows = rows_of(kind, file, samples)
        assert rows.labels.tolist() == labels
        assert rows.class_counts.tolist() == counts


@EVERY_CHOICE
def test_rows_are_stored_one_view_of_train_after_the_other_and_val_last(file: FeaturesFile, samples: Samples) -> None:
    rows, wanted = rows_of("in memory", file, samples), list(wanted_rows(file, samples, V))
    for view in range(V):
        stored = [view * N + place if split == 0 else V * N + place for split, place in wanted]
        assert rows.places(view * len(wanted) + torch.arange(len(wanted))).tolist() == stored


@EVERY_CHOICE
def test_what_is_opened_by_its_size_has_the_samples(file: FeaturesFile, samples: Samples) -> None:
    from gol_decouple import methods

    size = (V * N + (len(file["val"]) if samples.with_val else 0)) * D * 2
    for num_bytes, kind in ((size + 0.5, InMemory), (size - 0.5, Streamed)):
        rows = open_rows(file, CPU, [methods.get("softmax")], num_bytes / 1e9, samples)
        assert type(rows) is kind
        assert rows.num_samples == len(wanted_rows(file, samples, 1))


def test_what_is_trained_on_tells_itself_from_the_rest() -> None:
    assert [str(samples) for samples in list(SAMPLES.values())[:3]] == [
        "train",
        "train without 41 samples",
        "train + val",
    ]
    assert [samples.key for samples in list(SAMPLES.values())[:3]] == ["", "train without 41 samples", "train + val"]


# What is held out


def carved(path: Path, labels: np.ndarray) -> tuple[FeaturesFile, Holdout]:
    x = np.random.default_rng(0).normal(size=(len(labels), 2)).astype(np.float32)
    file = features.open(features.write(path, {"train": (x, labels), "test": (x, labels)}))
    return file, Holdout.of(file)


def test_a_share_of_every_class_is_held_out_and_something_of_it_stays(tmp_path: Path) -> None:
    file, holdout = carved(tmp_path / "carved.h5", LABELS)
    assert holdout.split == "train"
    positions = holdout.positions
    assert sorted(set(positions.tolist())) == positions.tolist()
    held = class_counts(LABELS[positions], C)
    assert held.tolist() == [24, 10, 5, 1, 0]
    assert held.tolist() == [min(max(round(HELD_OUT * count), 1), count - 1) for count in COUNTS]
    rest = holdout.rest
    assert rest.counts(file).tolist() == [96, 40, 19, 4, 1]
    assert sorted([*rest.kept(file), *positions]) == list(range(N))
    assert (str(holdout), str(rest)) == ("40 train samples held out", "train without 40 samples")
    assert (holdout.everything.left_out, holdout.everything.with_val) == (None, False)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_held_out_is_random_and_the_same_in_every_call(tmp_path: Path, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), (30, 3, 2, 1)))
    file, holdout = carved(tmp_path / "a.h5", labels)
    for again in (Holdout.of(file), Holdout.of(features.open(file.path)), carved(tmp_path / "b.h5", labels)[1]):
        np.testing.assert_array_equal(again.positions, holdout.positions)
    assert holdout.rest.counts(file).tolist() == [24, 2, 1, 1]
    of_first = np.flatnonzero(labels[holdout.positions] == 0)
    members = np.flatnonzero(labels == 0)
    assert not np.array_equal(holdout.positions[of_first], members[: len(of_first)])


def test_a_val_split_is_what_is_held_out_where_there_is_one(file: FeaturesFile) -> None:
    holdout = Holdout.of(file)
    assert (holdout.split, holdout.positions, str(holdout)) == ("val", None, "val")
    assert (holdout.rest.left_out, holdout.rest.with_val, holdout.rest.key) == (None, False, "")
    assert holdout.everything.with_val


def test_the_test_split_is_never_held_out(tmp_path: Path) -> None:
    file = features.open(write_gaussians(tmp_path / "some.h5"))
    assert Holdout.of(file).split == "train"


# A buffer over several arrays


@pytest.mark.parametrize("at_once", [1, 2, 5, 99])
@pytest.mark.parametrize(
    "views",
    [[("train", 0), ("val", 0)], [("val", 0), ("train", 2), ("train", 0)], [("train", 1), ("val", 0), ("test", 0)]],
    ids=str,
)
def test_rows_of_arrays_of_different_lengths_are_where_they_are_said_to_be(
    file: FeaturesFile, views: list[tuple[str, int]], at_once: int
) -> None:
    stored = [(file[split].features, view) for split, view in views]
    x = np.concatenate([file[split].features[view] for split, view in views])
    buffer = ShuffleBuffer(stored, 2 * at_once * ROWS_PER_BLOCK * D * 2)
    num_blocks = sum(-(-len(file[split]) // ROWS_PER_BLOCK) for split, _ in views)
    assert buffer.blocks_at_once == min(at_once, num_blocks)
    assert buffer.num_rows == min(at_once * ROWS_PER_BLOCK, len(x))
    for seed in range(3):
        plan = buffer.plan(np.random.default_rng(seed))
        assert sorted(plan.order) == list(range(num_blocks))
        assert plan.num_buffers == -(-num_blocks // min(at_once, num_blocks))
        rows = np.random.default_rng(seed).permutation(np.arange(2 * len(x)) // 2)
        number, place = plan.locate(rows)
        met = np.zeros(len(rows), bool)
        for at, memory in enumerate(plan.buffers()):
            np.testing.assert_array_equal(memory[place[number == at]], x[rows[number == at]])
            met |= number == at
        assert met.all()


def test_seeds_side_by_side_have_the_batches_that_each_has_alone(file: FeaturesFile) -> None:
    """In memory, where several seeds are one feed, with samples that are not the file's order."""
    rows = rows_of("in memory", file, SAMPLES["some of train and val"])

    def batches(*seeds: int) -> Iterable[Batch]:
        for batch in rows.batches([Feed("random", "random", 16, seeds, torch.float32)], 1):
            yield Batch(batch.feed, batch.x.clone(), batch.labels.clone())

    for together, first, second in zip(batches(1, 2), batches(1), batches(2), strict=True):
        assert torch.equal(together.x, torch.cat([first.x, second.x]))
        assert torch.equal(together.labels, torch.cat([first.labels, second.labels]))
