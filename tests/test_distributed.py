"""Two processes on one run: the same result as one, each failure told once, and nothing lost when one dies."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli, colour_images
from torch import nn

from gol_decouple import features
from gol_decouple.backbones import ImageClassifier, with_sync_batchnorm
from gol_decouple.config import load_config
from gol_decouple.data.dataset import Dataset, make_split
from gol_decouple.data.loading import EpochKeys, by_labels
from gol_decouple.distributed import ALONE, FIRST_PORT, PORTS, World, first_host, joined
from gol_decouple.errors import InputError
from gol_decouple.features import layout
from gol_decouple.launch import find_place
from gol_decouple.progress import SILENT
from gol_decouple.stages.parallel import check
from gol_decouple.stages.training import Trainer

ROOT = Path(__file__).resolve().parents[1]
MAIN = "from gol_decouple.cli import main\nsys.exit(main())\n"
# Blocks of 16 rows, so that there are several of them to share.
SMALL_BLOCKS = "from gol_decouple.features import layout\nlayout.BLOCK_BYTES = 16 * 64 * 2\n"
DIE_IN_EPOCH_2 = """
from gol_decouple.stages.training import Trainer
real = Trainer._epoch
def dying(self, epoch, bar):
    if epoch == 1 and self._world.rank == 1:
        os._exit(9)
    return real(self, epoch, bar)
Trainer._epoch = dying
"""
SIGTERM_FOR_THE_SECOND_IN_STEP_7 = """
import signal
from gol_decouple.stages.training import Trainer
real = Trainer._step
def signalled(self, epoch, step):
    if (epoch, step) == (1, 1) and self._world.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    real(self, epoch, step)
Trainer._step = signalled
"""
DIE_AFTER_A_BLOCK = """
from gol_decouple.features.writer import FeatureWriter
real = FeatureWriter.write
def dying(self, block, **columns):
    real(self, block, **columns)
    if self._world.rank == 1:
        os._exit(9)
FeatureWriter.write = dying
"""


def as_torchrun(rank: int, port: int) -> dict[str, str]:
    """The environment of one of torchrun's two processes."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in told.items()}


def as_srun(rank: int, port: int) -> dict[str, str]:
    """The environment of one of srun's two tasks: who keeps the connection follows from the nodes and the job."""
    told = {"PROCID": rank, "LOCALID": rank, "STEP_NUM_TASKS": 2, "NTASKS": 2}
    told |= {"STEP_NODELIST": "localhost", "JOB_ID": 70 * PORTS + port - FIRST_PORT}
    return {f"SLURM_{name}": str(value) for name, value in told.items()}


def free_port() -> int:
    """A free port among those that jobs choose from."""
    for port in range(FIRST_PORT + os.getpid() % 10_000, FIRST_PORT + PORTS):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def two_processes(
    script: str, *arguments: object, environment: Callable[[int, int], dict[str, str]] = as_torchrun
) -> list[Outcome]:
    """What two processes of one run print, and their exit codes, by rank."""
    texts, port = [str(argument) for argument in arguments], free_port()
    code = f"import os, sys\nsys.argv = {['gol-decouple', *texts]!r}\n{script}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment(rank, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [Outcome(process.returncode, *told) for process in started if (told := process.communicate(timeout=120))]
    finally:
        for process in started:
            process.kill()


def stage1(config: Path, runs_dir: Path, *more: object) -> tuple[object, ...]:
    return ("stage1", config, "--runs-dir", runs_dir, "--name", "two", "--device", "cpu", *more)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, small_config: Path) -> Path:
    """A run that two processes trained, without interruption."""
    runs_dir = tmp_path_factory.mktemp("two")
    main, other = two_processes(SMALL_BLOCKS + MAIN, *stage1(small_config, runs_dir))
    assert (main.code, other.code) == (0, 0), main.err + other.err
    assert "3 epochs, 2 processes" in main.err
    assert "top-1" in main.out
    assert (other.out, other.err) == ("", "")
    return runs_dir / "two"


def loaded(config: Path, run: Path, runs_dir: Path) -> tuple[object, ...]:
    return stage1(config, runs_dir, "--checkpoint", run / "model.safetensors", "--set", "features.views=2")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, small_config: Path, trained: Path) -> bytes:
    """The features file of the trained model that one process writes: 5 blocks of each view of train, 2 of test."""
    from gol_decouple.stages.backbone import run_stage1

    settings = [f"stage1.checkpoint={trained / 'model.safetensors'}", "features.views=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", 16 * 64 * 2)
        config = load_config(str(small_config), settings, name="two", device="cpu")
        run = run_stage1(config, tmp_path_factory.mktemp("one"))
    assert features.open(run / "features.h5")["train"].features.shape == (2, 67, 64)
    return (run / "features.h5").read_bytes()


# The same as one process


def test_two_processes_write_the_file_that_one_writes(
    tmp_path: Path, small_config: Path, trained: Path, whole: bytes
) -> None:
    main, other = two_processes(SMALL_BLOCKS + MAIN, *loaded(small_config, trained, tmp_path))
    assert (main.code, other.code) == (0, 0), main.err + other.err
    folder = tmp_path / "two"
    assert (folder / "features.h5").read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir() if ".partial" in path.name) == []


def test_after_training_all_processes_have_the_main_ones_batchnorm_statistics(
    tmp_path: Path, trained: Path, whole: bytes
) -> None:
    # `whole` has the features of the model that was saved; here, every second block is the other process's.
    (tmp_path / "whole.h5").write_bytes(whole)
    found, wanted = features.open(trained / "features.h5"), features.open(tmp_path / "whole.h5")
    for split in ("train", "test"):
        np.testing.assert_array_equal(found[split].features[0], wanted[split].features[0])


def test_shards_are_joined_to_the_file_that_one_process_writes(
    tmp_path: Path, small_config: Path, trained: Path, whole: bytes, run_cli: RunCli
) -> None:
    folder = tmp_path / "two"
    main, other = two_processes(SMALL_BLOCKS + MAIN, *loaded(small_config, trained, tmp_path), "--shards")
    assert (main.code, other.code, main.out) == (0, 0, ""), main.err + other.err
    assert f"next: gol-decouple merge {folder}" in main.err
    assert not (folder / "features.h5").exists()
    early = run_cli("stage2", folder, "--activation", "gumbel")
    assert early.code == 2
    assert f"error: the features of {folder} are in shards\nhint: gol-decouple merge {folder}" in early.err

    (folder / "features.h5.shard.1").rename(tmp_path / "away")
    outcome = run_cli("merge", folder)
    assert outcome.code == 2
    assert f"error: no shard of {folder / 'features.h5'} has train rows 16..31, view 0\n" in outcome.err
    (tmp_path / "away").rename(folder / "features.h5.shard.1")

    with (folder / "features.h5.shard.1").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"damaged")
    outcome = run_cli("merge", folder)
    assert outcome.code == 2
    assert "features.h5.shard.1 is damaged in test rows 16..29" in outcome.err
    again = two_processes(SMALL_BLOCKS + MAIN, *loaded(small_config, trained, tmp_path), "--shards")
    assert [process.code for process in again] == [0, 0]

    left = {path.name: path.read_bytes() for path in folder.glob("*.shard.1*")}
    outcome = run_cli("merge", folder, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert (folder / "features.h5").read_bytes() == whole
    assert not list(folder.glob("*.shard.*"))

    # A merge that was stopped while it removed them.
    for name, content in left.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").unlink()
    assert run_cli("merge", folder).code == 0
    assert (folder / "features.h5").read_bytes() == whole
    assert not list(folder.glob("*.shard.*"))
    assert "top-1" in outcome.out
    assert "is finished and kept" in run_cli("merge", folder).err


def test_a_merge_tells_the_sessions_of_the_training(
    tmp_path: Path, small_config: Path, trained: Path, run_cli: RunCli
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "two"))
    for name in ("features.h5", "manifest.json"):
        (folder / name).unlink()
    outcome = run_cli(*stage1(small_config, tmp_path, "--shards"))
    assert outcome.code == 0, outcome.err
    assert run_cli("merge", folder, "--device", "cpu").code == 0
    assert sessions_in(folder) == [(0, 0)]


def test_a_start_without_shards_makes_them_needless(
    tmp_path: Path, small_config: Path, trained: Path, run_cli: RunCli
) -> None:
    arguments = loaded(small_config, trained, tmp_path)
    assert run_cli(*arguments, "--shards").code == 0
    assert list((tmp_path / "two").glob("*.shard.*"))
    assert run_cli(*arguments).code == 0
    assert not list((tmp_path / "two").glob("*.shard.*"))


TRAIN_A_MODEL_WITHOUT_BATCHNORM = """
import torch
sys.path.insert(0, "tests")
from pathlib import Path
from test_distributed import plain_trainer
from gol_decouple.distributed import joined
from gol_decouple.progress import SILENT
with joined("cpu") as (world, device):
    trainer = plain_trainer(Path(sys.argv[1]), int(sys.argv[2]), world)
    trainer.run(SILENT)
    torch.save(trainer.model.state_dict(), Path(sys.argv[1]) / f"weights{world.rank}.pt")
"""


def plain_trainer(folder: Path, passes: int = 1, world: World = ALONE) -> Trainer:
    """Two epochs of a model without BatchNorm: 37 images in steps of 9, the last one of a single image; 31 of test."""
    train, test = colour_images((20, 10, 7), 0), colour_images((11, 10, 10), 1)
    splits = {"train": make_split(*train, "train"), "test": make_split(*test, "test")}
    settings = ["stage1.epochs=2", "stage1.batch_size=9", "stage1.evaluate_every=1", f"stage1.passes={passes}"]
    settings += ["stage1.precision=float32", "stage1.lr=0.01", "stage1.num_workers=0"]
    config = load_config("digits_lt", settings, device="cpu")
    torch.manual_seed(0)
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU()), 16, 3)
    folder.mkdir(exist_ok=True)
    return Trainer(model, Dataset("colours", ["red", "green", "blue"], splits), config, folder, world)


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sessions_in(run: Path) -> list[tuple[int, int]]:
    """Where each session began that a finished run's manifest tells of: after how many epochs and steps."""
    sessions = json.loads((run / "manifest.json").read_text())["sessions"]
    assert all(one["command"][:2] == ["gol-decouple", "stage1"] for one in sessions)
    return [(one["epochs_done"], one["steps_done"]) for one in sessions]


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
    """Weights and log of one process that takes one pass a step."""
    folder = tmp_path_factory.mktemp("alone")
    trainer = plain_trainer(folder)
    trainer.run(SILENT)
    return trainer.model.state_dict(), log_of(folder)


def assert_same_training(
    folder: Path, weights: dict[str, torch.Tensor], alone: tuple[dict[str, torch.Tensor], list[dict[str, str]]]
) -> None:
    for name, tensor in alone[0].items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)
    for row, wanted in zip(log_of(folder), alone[1], strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(wanted["train_loss"]), rel=1e-5)
        # Of 31 images, which two processes cannot share evenly: each counts once.
        assert row["accuracy"] == wanted["accuracy"]
        assert round(float(row["accuracy"]) * 31 / 100, 6).is_integer()


@pytest.mark.parametrize("passes", [2, 4, 100])
def test_several_passes_make_the_step_of_one(
    tmp_path: Path, passes: int, alone: tuple[dict[str, torch.Tensor], list[dict[str, str]]]
) -> None:
    trainer = plain_trainer(tmp_path, passes)
    trainer.run(SILENT)
    assert_same_training(tmp_path, trainer.model.state_dict(), alone)


@pytest.mark.parametrize("passes", [1, 3])
def test_two_processes_make_the_step_of_one(
    tmp_path: Path, passes: int, alone: tuple[dict[str, torch.Tensor], list[dict[str, str]]]
) -> None:
    outcomes = two_processes(TRAIN_A_MODEL_WITHOUT_BATCHNORM, tmp_path, passes)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    first, second = (torch.load(tmp_path / f"weights{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert_same_training(tmp_path, first, alone)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("passes", [1, 2, 7])
def test_every_image_of_an_epoch_is_in_one_pass_of_one_process(size: int, passes: int) -> None:
    labels = np.zeros(29, np.int64)
    plain = [key for batch in EpochKeys(by_labels(labels, 4), 9) for key in batch]
    shares = [EpochKeys(by_labels(labels, 4), 9, passes, world=World(rank, size)) for rank in range(size)]
    counted = []
    for keys in shares:
        told, batches = list(keys.passes()), list(keys)
        assert len(told) == len(batches)
        for part, batch in zip(told, batches, strict=True):
            assert len(batch) == max(part.images, 1)
            counted += batch[: part.images]
        # All take as many passes, so that none waits for another in vain; the main one always has an image.
        assert [(part.step, part.number, part.is_last) for part in told] == [
            (part.step, part.number, part.is_last) for part in shares[0].passes()
        ]
    assert all(part.images for part in shares[0].passes())
    assert sorted(counted) == sorted(plain)
    steps = {part.step: part.step_images for part in shares[-1].passes()}
    assert steps == {0: 9, 1: 9, 2: 9, 3: 2}


# Failures


def test_a_process_that_dies_in_training_stops_the_run_which_then_continues(
    tmp_path: Path, small_config: Path, trained: Path
) -> None:
    arguments = stage1(small_config, tmp_path)
    main, other = two_processes(SMALL_BLOCKS + DIE_IN_EPOCH_2 + MAIN, *arguments)
    assert (main.code, other.code) == (3, 9)
    assert "error: another process of this run has stopped, or cannot be reached any more\n" in main.err
    assert "the same command continues. Told: " in main.err
    assert "Traceback" not in main.err
    main, other = two_processes(SMALL_BLOCKS + MAIN, *arguments)
    assert (main.code, other.code) == (0, 0), main.err
    assert "continuing stage one after epoch 1 of 3" in main.err
    for name in ("model.safetensors", "features.h5"):
        assert (tmp_path / "two" / name).read_bytes() == (trained / name).read_bytes()
    assert sessions_in(tmp_path / "two") == [(0, 0), (1, 0)]
    assert sessions_in(trained) == [(0, 0)]


def test_a_signal_to_one_process_stops_all_after_the_same_step(
    tmp_path: Path, small_config: Path, trained: Path
) -> None:
    arguments = stage1(small_config, tmp_path)
    main, other = two_processes(SMALL_BLOCKS + SIGTERM_FOR_THE_SECOND_IN_STEP_7 + MAIN, *arguments)
    assert (main.code, other.code) == (143, 143), main.err + other.err
    assert main.err.endswith("error: stopped\nhint: run the same command again: it continues where it was\n")
    assert other.err == ""
    main, other = two_processes(SMALL_BLOCKS + MAIN, *arguments)
    assert (main.code, other.code) == (0, 0), main.err
    assert "continuing stage one after epoch 1 of 3, step 2 of 5 of the next\n" in main.err
    for name in ("model.safetensors", "features.h5"):
        assert (tmp_path / "two" / name).read_bytes() == (trained / name).read_bytes()
    assert [row["train_loss"] for row in log_of(tmp_path / "two")] == [row["train_loss"] for row in log_of(trained)]
    assert sessions_in(tmp_path / "two") == [(0, 0), (1, 2)]


def test_a_process_that_dies_in_extraction_costs_no_block_that_was_written(
    tmp_path: Path, small_config: Path, trained: Path, whole: bytes
) -> None:
    arguments = loaded(small_config, trained, tmp_path)
    main, other = two_processes(SMALL_BLOCKS + DIE_AFTER_A_BLOCK + MAIN, *arguments)
    assert (main.code, other.code) == (3, 9)
    assert "error: another process of this run has stopped, " in main.err
    folder = tmp_path / "two"
    assert not (folder / "features.h5").exists()
    logs = {rank: (folder / f"features.h5.partial.{rank}.log").read_text().split("\n") for rank in range(2)}
    written = [line for lines in logs.values() for line in lines if line]
    assert any(line.startswith("train 0 1 ") for line in logs[1]), "the second block of view 0"

    # One process goes on with what two have written.
    count = "from gol_decouple.features.writer import FeatureWriter\nreal = FeatureWriter.write\n"
    count += "def told(self, block, **rows):\n    print(block, file=sys.stderr)\n    real(self, block, **rows)\n"
    count += "FeatureWriter.write = told\n"
    code = f"import sys\nsys.argv = {['gol-decouple', *map(str, arguments)]!r}\n{SMALL_BLOCKS}{count}{MAIN}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "features.h5").read_bytes() == whole
    assert done.stderr.count("Block(") == 12 - len(written)
    assert not list(folder.glob("*.log"))


def test_a_mistake_is_told_once(tmp_path: Path, small_config: Path) -> None:
    outcomes = two_processes(MAIN, *stage1(small_config, tmp_path, "--data-root", tmp_path / "nowhere.npz"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    told = "".join(outcome.err for outcome in outcomes)
    assert told.count("error: ") == 1
    assert "nowhere.npz" in told
    assert not (tmp_path / "two").exists()


def test_a_mistake_that_every_process_finds_is_told_once(tmp_path: Path, small_config: Path) -> None:
    outcomes = two_processes(MAIN, *stage1(small_config, tmp_path, "--set", "stage1.sync_batchnorm=true"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    told = "".join(outcome.err for outcome in outcomes)
    assert told.count("error: stage1.sync_batchnorm = true needs GPUs") == 1
    assert told.count("error: ") == 1


@pytest.mark.parametrize(
    ("differs", "message"),
    [
        ("sys.argv += ['--seed', os.environ['RANK']]\n", "do not agree on the config's seed: process 1 has 1"),
        ("os.environ.pop('MASTER_ADDR')\n", "is not connected with the others (MASTER_ADDR=, MASTER_PORT="),
    ],
)
def test_processes_that_do_not_belong_together(tmp_path: Path, small_config: Path, differs: str, message: str) -> None:
    outcomes = two_processes(differs + MAIN, *stage1(small_config, tmp_path))
    told = "".join(outcome.err for outcome in outcomes)
    assert message in told
    assert "hint: " in told
    assert "Traceback" not in told
    assert all(outcome.code in (2, 3) for outcome in outcomes)
    assert not (tmp_path / "two").exists()


def test_one_device_for_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in as_torchrun(0, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="'cuda:1' is one for all of 2 processes"), joined("cuda:1"):
        raise AssertionError("not reached")


@pytest.mark.parametrize("command", ["stage2", "tune"])
def test_what_is_for_one_process_is_refused_in_several(
    trained: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    more = ["--activation", "gumbel"] if command == "stage2" else []
    for rank, told in ((0, f"error: {command} is work for one process, and 2 were started\n"), (1, "")):
        for name, value in as_torchrun(rank, 1).items():
            monkeypatch.setenv(name, value)
        outcome = run_cli(command, trained, *more)
        assert outcome.code == 2
        assert told in outcome.err if told else outcome.err == ""


def test_torchrun_starts_it(tmp_path: Path, small_config: Path, trained: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "gol_decouple", *map(str, stage1(small_config, tmp_path, "--set", "stage1.epochs=0"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 epochs, 2 processes" in done.stderr
    assert (tmp_path / "two" / "manifest.json").is_file()


def test_srun_starts_it(tmp_path: Path, small_config: Path) -> None:
    arguments = stage1(small_config, tmp_path, "--set", "stage1.epochs=0")
    main, other = two_processes(MAIN, *arguments, environment=as_srun)
    assert (main.code, other.code) == (0, 0), main.err
    assert "0 epochs, 2 processes" in main.err
    assert (other.out, other.err) == ("", "")


# Who is who


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World()),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, World(5, 8, 1)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}, World(3, 4, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, World()),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, World(1, 2, 0)),
    ],
    ids=["alone", "torchrun", "srun", "a batch script", "torchrun under srun"],
)
def test_the_environment_tells_which_process_this_is(environment: dict[str, str], world: World) -> None:
    assert World(*find_place(environment)) == world
    assert world.is_main == (world.rank == 0)


@pytest.mark.parametrize("rank", ["one", "2", "-1", ""])
def test_an_environment_that_makes_no_sense(rank: str) -> None:
    with pytest.raises(InputError, match=f"RANK={rank}, WORLD_SIZE=2"):
        find_place({"RANK": rank, "WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("node1", "node1"), ("node[003-005,12],other", "node003"), ("a-b7,c", "a-b7"), ("gpu[7]", "gpu7")],
)
def test_the_first_host_keeps_the_connection(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


# Synchronised BatchNorm: equality needs GPUs, the wiring does not


def test_sync_batchnorm_replaces_every_batchnorm_and_no_tensor() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    model = with_sync_batchnorm(plain)
    kinds = [type(module) for module in model.modules() if "BatchNorm" in type(module).__name__]
    assert kinds == [nn.SyncBatchNorm] * 2
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_sync_batchnorm_is_for_gpus(small_config: Path) -> None:
    settings = load_config(str(small_config), ["stage1.sync_batchnorm=true"]).stage1
    with pytest.raises(InputError, match="needs GPUs"):
        check(settings, torch.device("cpu"))
    check(settings, torch.device("cuda"))
