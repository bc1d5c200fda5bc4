"""Training on streamed rows: what it would be in memory in the same order, through the library and the program."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli
from test_cli import snapshot
from test_rows import CPU, D, N, V, write_told
from test_streamed import streamed, streamed_order

import gol_decouple
from gol_decouple import features, methods
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.runs import read_manifest
from gol_decouple.stages.feed import Batch, Feed, TrainRows
from gol_decouple.stages.jobs import Job, Retrained, State
from gol_decouple.stages.together import train_together

# Bytes of a block of 32 rows.
BLOCK = 32 * 8 * 4
# Two blocks at once.
MEMORY_GB = 4 * BLOCK / 1e9


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    return features.open(write_told(tmp_path_factory.mktemp("told"), "float16"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """These files have few rows; pieces should be several all the same."""
    monkeypatch.setattr("gol_decouple.stages.streamed.ROWS_A_PIECE", 100)


class Replayed(TrainRows):
    """All rows in memory, in batches of the order in which others are streamed."""

    shuffled_rows = 1

    def __init__(self, file: FeaturesFile, at_once: int) -> None:
        super().__init__(file, CPU, V)
        self._x = torch.from_numpy(file["train"].features[:].astype(np.float32)).view(-1, D)
        self._streamed = streamed(file, at_once)

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        for one in feeds:
            for rows in torch.from_numpy(streamed_order(self._streamed, one, epoch)).split(one.batch_size):
                yield Batch(one, self._x[rows].to(one.dtype)[None], self.labels[rows % N][None])


def some_jobs() -> list[Job]:
    stream = np.random.default_rng(0)
    start = (torch.from_numpy(stream.normal(0, 0.01, (3, D)).astype(np.float32)), torch.zeros(3))
    softmax, gumbel, crt = (methods.get(name).with_settings(epochs=2) for name in ("softmax", "gumbel", "crt"))
    chosen = [
        *(softmax.with_settings(lr=lr) for lr in (1e-3, 1e-4)),
        softmax.with_settings(lr=1e-3, epochs=3, batch_size=50, views="clean"),
        softmax.with_settings(lr=1e-3, precision="bfloat16"),
        *(gumbel.with_settings(lr=lr) for lr in (1e-4, 1e-5)),
        crt.with_settings(lr=1e-3, batch_size=333, weight_decay=1e-3, clip_norm=0.5),
    ]
    return [Job(method, seed, start) for method in chosen for seed in (0, 1)]


def trained(rows: TrainRows, jobs: Sequence[Job]) -> list[Retrained]:
    results = dict(train_together(rows, jobs))
    assert not any(isinstance(result, InputError) for result in results.values())
    return [results[job] for job in jobs]


def assert_same(first: Retrained, second: Retrained) -> None:
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert first.history == second.history


@pytest.mark.parametrize("at_once", [1, 5, 48])
def test_training_is_bit_for_bit_that_on_rows_in_memory_in_the_same_order(told: FeaturesFile, at_once: int) -> None:
    jobs = some_jobs()
    for one, other in zip(trained(streamed(told, at_once), jobs), trained(Replayed(told, at_once), jobs), strict=True):
        assert_same(one, other)


def test_training_that_goes_on_from_a_state_is_the_same(told: FeaturesFile) -> None:
    jobs = [job for job in some_jobs() if job.method.epochs == 2]
    of_epochs: list[dict[Job, State]] = []
    for _ in train_together(streamed(told), jobs, on_epoch=lambda states: of_epochs.append(dict(states))):
        pass
    states = of_epochs[0]
    assert {len(state.history) for state in states.values()} == {1}
    left = [Job(job.method, job.seed, job.stage_one, state=states[job]) for job in jobs]
    for one, other in zip(trained(streamed(told), left), trained(streamed(told), jobs), strict=True):
        assert_same(one, other)


# The library


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that lie apart, of 400, 120 and 40 samples in two views, in blocks of 32 rows, 18 a view."""
    stream = np.random.default_rng(0)
    centres = stream.normal(0, 3, (3, 8))

    def draw(counts: tuple[int, ...], num_views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = stream.permutation(np.repeat(np.arange(3), counts))
        return (centres[labels] + stream.normal(size=(num_views, len(labels), 8))).astype(np.float32), labels

    path = tmp_path_factory.mktemp("features") / "separable.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", BLOCK)
        classifier = (stream.normal(0, 0.1, (3, 8)), np.zeros(3))
        splits = {"train": draw((400, 120, 40), 2), "test": draw((100, 100, 100), 1)}
        return features.write(path, splits, classifier=classifier)


@pytest.mark.parametrize("method", ["softmax", "crt", "gumbel"])
def test_streamed_classifiers_are_as_good(separable: Path, method: str) -> None:
    settings = {"start": "fresh", "lr": 0.01, "epochs": 12, "batch_size": 16}
    in_memory, streaming, again = (
        gol_decouple.retrain(separable, method, memory_gb=memory_gb, **settings)
        for memory_gb in (None, MEMORY_GB, MEMORY_GB)
    )
    assert not torch.equal(in_memory.weight, streaming.weight)
    assert torch.equal(streaming.weight, again.weight)
    assert streaming.num_views == 2
    assert streaming.metrics["top1"] > 95
    assert streaming.metrics["top1"] == pytest.approx(in_memory.metrics["top1"], abs=2)
    assert streaming.history[-1]["loss"] == pytest.approx(in_memory.history[-1]["loss"], rel=0.1)


def test_enough_memory_changes_nothing(separable: Path) -> None:
    plain, roomy = (gol_decouple.retrain(separable, epochs=2, memory_gb=memory_gb) for memory_gb in (None, 1.0))
    assert torch.equal(plain.weight, roomy.weight)


def test_the_softmax_classifier_to_start_from_is_streamed_too(separable: Path, tmp_path: Path) -> None:
    train = features.open(separable)["train"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gol_decouple.features.layout.BLOCK_BYTES", BLOCK)
        bare = features.write(tmp_path / "bare.h5", {"train": (train.features[:], train.labels)})
    softmax = gol_decouple.retrain(bare, "softmax", start="fresh", memory_gb=MEMORY_GB)
    gumbel = gol_decouple.retrain(bare, "gumbel", lr=1e-12, epochs=1, memory_gb=MEMORY_GB)
    torch.testing.assert_close(gumbel.weight, softmax.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory_gb", [0, -1.0])
def test_memory_is_more_than_none(separable: Path, memory_gb: float) -> None:
    with pytest.raises(InputError, match=f"memory_gb = {memory_gb}: Input should be greater than 0"):
        gol_decouple.retrain(separable, memory_gb=memory_gb)


def test_a_file_whose_blocks_are_larger_than_its_views(tmp_path: Path) -> None:
    """Other writers choose `rows_per_block`; the format bounds it from below only."""
    import h5py

    stream = np.random.default_rng(0)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.attrs["format"], file.attrs["version"] = np.bytes_("gol-decouple features"), 1
        file["train/features"] = stream.normal(size=(1, 90, 4)).astype(np.float32)
        file["train/labels"] = np.arange(90) % 3
        file["train"].attrs["rows_per_block"] = 2**44
    trained_ones = [
        gol_decouple.retrain(tmp_path / "f.h5", "crt", epochs=1, memory_gb=memory_gb) for memory_gb in (None, 1e-9)
    ]
    assert torch.equal(trained_ones[0].weight, trained_ones[1].weight)


# The program


class TestCommandLine:
    """`stage2.memory_gb` through the program: what it says and writes, and what is left when it fails."""

    SETTINGS = ("--device", "cpu", "--set", "stage2.epochs=2")
    STREAMING = (*SETTINGS, "--set", f"stage2.memory_gb={MEMORY_GB}")

    @pytest.fixture
    def own(self, tmp_path: Path, separable: Path) -> Path:
        """A copy of the features that a test may change."""
        path = tmp_path / "separable.h5"
        path.write_bytes(separable.read_bytes())
        return path

    @pytest.fixture
    def runs_dir(self, tmp_path: Path) -> Path:
        return tmp_path / "runs"

    def said(self, outcome: Outcome) -> str:
        return " ".join(outcome.err.split())

    def test_streaming_is_said_and_written_down(self, run_cli: RunCli, own: Path, runs_dir: Path) -> None:
        outcome = run_cli("stage2", own, "--method", "softmax", *self.STREAMING, "--seeds", 2, "--runs-dir", runs_dir)
        assert outcome.code == 0, outcome.err
        said = f"{own} is streamed, 64 rows shuffled at a time (stage2.memory_gb)"
        assert self.said(outcome).count(said) == 1
        folders = sorted((runs_dir / "separable" / "stage2").iterdir())
        assert len(folders) == 2
        for seed, folder in enumerate(folders):
            assert folder.name.startswith(f"softmax-epochs2-seed{seed}-")
            manifest = read_manifest(folder)
            assert (manifest["shuffled_rows"], manifest["views"]) == (64, 2)
            assert manifest["changed_settings"] == {"epochs": 2}

    def test_rows_in_memory_are_not_spoken_of(self, run_cli: RunCli, own: Path, runs_dir: Path) -> None:
        outcome = run_cli("stage2", own, "--method", "softmax", *self.SETTINGS, "--runs-dir", runs_dir)
        assert outcome.code == 0, outcome.err
        assert "streamed" not in outcome.err
        (folder,) = (runs_dir / "separable" / "stage2").iterdir()
        assert read_manifest(folder)["shuffled_rows"] is None
        before = snapshot(runs_dir)
        again = run_cli("stage2", own, "--method", "softmax", *self.STREAMING, "--runs-dir", runs_dir)
        assert again.code == 0, again.err
        assert "is finished and kept as it is" in self.said(again)
        assert snapshot(runs_dir) == before

    def test_a_grid_has_one_memory(self, run_cli: RunCli, own: Path, runs_dir: Path) -> None:
        outcome = run_cli("stage2", own, "--method", "softmax", "--set", "stage2.memory_gb=[1,2]")
        assert (outcome.code, outcome.out) == (2, "")
        assert "error: stage2.memory_gb takes one value" in outcome.err
        assert not runs_dir.exists()

    def test_a_damaged_block_is_an_error_that_names_file_and_rows(
        self, run_cli: RunCli, own: Path, runs_dir: Path
    ) -> None:
        """Row 100 of view 1 is in rows 96..127."""
        first = run_cli("stage2", own, "--method", "softmax", *self.STREAMING, "--runs-dir", runs_dir)
        assert first.code == 0, first.err
        before = snapshot(runs_dir)
        content, row = own.read_bytes(), features.open(own)["train"].features[1, 100].tobytes()
        place = content.index(row) + 1
        own.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        both = ("--method", "softmax", "--method", "crt")
        outcome = run_cli("stage2", own, *both, *self.STREAMING, "--runs-dir", runs_dir)
        assert (outcome.code, outcome.out) == (2, "")
        message = f"error: {own} is damaged: train rows 96..127 of view 1 do not match their checksum\n"
        assert message in outcome.err
        assert "hint: " in outcome.err
        assert snapshot(runs_dir) == before

    def test_what_is_done_before_the_file_fails_is_kept(
        self, run_cli: RunCli, own: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file ends early as soon as the first classifier is finished."""
        real = os.preadv

        def read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            return 0 if any(runs_dir.rglob("manifest.json")) else real(descriptor, buffers, offset)

        settings = (
            "--keep-grid",
            "--method",
            "softmax",
            *self.STREAMING,
            "--set",
            "stage2.epochs=[1,3]",
            "--runs-dir",
            runs_dir,
        )
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", read)
            outcome = run_cli("stage2", own, *settings)
        assert (outcome.code, outcome.out) == (2, "")
        assert f"error: {own} is truncated in train" in outcome.err
        (finished,) = (path.parent for path in runs_dir.rglob("manifest.json"))
        assert read_manifest(finished)["settings"]["epochs"] == 1
        before = snapshot(finished)
        again = run_cli("stage2", own, *settings)
        assert again.code == 0, again.err
        assert snapshot(finished) == before
        assert len(list(runs_dir.rglob("manifest.json"))) == 2
