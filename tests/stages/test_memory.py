"""Memory is told before a training and bounds how many classifiers it has; what is beyond it says what to lower."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli

from gol_decouple import features, runtime
from gol_decouple.methods import METHODS
from gol_decouple.stages import memory, stage_one_memory
from gol_decouple.stages.jobs import Job, Weights
from gol_decouple.stages.memory import Memory, size_of
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.together import stackable, train_together

EPOCHS = ("--set", "stage2.epochs=2", "--device", "cpu")


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")


def jobs_of(*names: str, seeds: int = 1) -> list[Job]:
    return [Job(METHODS[name].with_settings(epochs=2, start="fresh"), seed) for name in names for seed in range(seeds)]


def test_what_a_classifier_takes(gaussian_rows: InMemory) -> None:
    """8 features and 3 classes in batches of 64: 27 numbers and their momentum, twice, and 192 logits."""
    size = size_of(gaussian_rows, METHODS["softmax"])
    assert size.kept == 4 * (4 * 27 + 64 * 3)
    scaled = size_of(gaussian_rows, METHODS["lws"])
    assert scaled.kept == 4 * (4 * 3 + 27 + 64 * 3), "stage one's weights stay beside what is trained"
    assert size_of(gaussian_rows, METHODS["softmax"].with_settings(batch_size=4096)).kept == 4 * (4 * 27 + 95 * 3)
    assert gaussian_rows.num_bytes == 3 * 95 * 8 * 4


def test_all_are_trained_at_once_where_they_fit(gaussian_rows: InMemory) -> None:
    lines, jobs = Lines(), jobs_of("softmax", "gumbel", seeds=2)
    assert Memory(lines).portions(gaussian_rows, jobs, 20_000_000_000) == [jobs]  # type: ignore[arg-type]
    assert [line for line in lines.said if "groups" in line or "warning" in line] == []
    (told,) = lines.said
    assert told.startswith("memory: features ")
    assert ", 4 classifiers " in told
    assert told.endswith("; 20 GB free")


def test_the_most_is_told_once(gaussian_rows: InMemory) -> None:
    lines = Lines()
    own = Memory(lines)  # type: ignore[arg-type]
    for names in (["softmax"], ["softmax"], ["gumbel", "softmax", "crt"], ["softmax"]):
        own.portions(gaussian_rows, jobs_of(*names), 10**9)
    assert len(lines.said) == 2


def test_classifiers_that_do_not_fit_are_trained_in_groups(gaussian_rows: InMemory, stage_one: Weights) -> None:
    """A stack stays together, so that each is bit by bit what it would be among all."""
    names = ("softmax", "gumbel", "lws", "disalign", "sigmoid")
    jobs = [Job(METHODS[name].with_settings(epochs=2), seed, stage_one) for name in names for seed in range(3)]
    stacks = stackable(gaussian_rows, jobs)
    assert len(stacks) == 5
    one_stack = max(sum(size_of(gaussian_rows, job.method).kept for job in stack) for stack in stacks)
    of_rows = gaussian_rows.num_bytes + 95 * memory._BYTES_A_SAMPLE
    lines = Lines()
    free = of_rows + int(2 * one_stack / memory._SHARE) + 1
    portions = Memory(lines).portions(gaussian_rows, jobs, free)  # type: ignore[arg-type]
    assert 1 < len(portions) < 5
    assert [job for portion in portions for job in portion] == [job for stack in stacks for job in stack]
    assert "15 classifiers do not fit in memory together: they are trained in " in lines.said[-1]
    alone = {str(job): result for job, result in train_together(gaussian_rows, jobs)}
    for portion in portions:
        for job, result in train_together(gaussian_rows, portion):
            assert torch.equal(result.weight, alone[str(job)].weight)


def test_where_nothing_is_free_each_stack_is_trained_by_itself_with_a_warning(gaussian_rows: InMemory) -> None:
    lines, jobs = Lines(), jobs_of("softmax", "gumbel")
    assert len(Memory(lines).portions(gaussian_rows, jobs, 0)) == 2  # type: ignore[arg-type]
    (warning,) = [line for line in lines.said if line.startswith("warning: ")]
    for setting in ("stage2.memory_gb", "stage2.batch_size", "fewer methods, seeds"):
        assert setting in warning


def test_a_run_in_groups_makes_what_one_makes(
    tmp_path: Path, finished_run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, share in (("together", memory._SHARE), ("groups", 0.0)):
        monkeypatch.setattr(memory, "_SHARE", share)
        folder = Path(shutil.copytree(finished_run, tmp_path / name))
        outcome = run_cli("stage2", folder, "--method", "gumbel", "--method", "crt", "--method", "lws", *EPOCHS)
        assert outcome.code == 0, outcome.err
        assert ("3 classifiers do not fit in memory together: they are trained in 3 groups" in outcome.err) == (
            name == "groups"
        )
        assert outcome.err.count("memory: features ") == 1
        weights = sorted((folder / "stage2").rglob("classifier.safetensors"))
        found.append({path.parent.name: path.read_bytes() for path in weights})
    assert found[0] == found[1]
    assert len(found[0]) == 3


# Stage one


def test_stage_one_tells_what_its_model_takes(
    tmp_path: Path, small_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "free_memory", lambda device: 3_000_000_000)
    monkeypatch.setattr(stage_one_memory, "_room", lambda folder: 10_000)
    changes = ("--set", "stage1.max_steps=1", "--set", "stage1.num_workers=1", "--device", "cpu")
    outcome = run_cli("stage1", small_config, "--runs-dir", tmp_path / "runs", *changes)
    assert outcome.code == 0, outcome.err
    told = "memory: the model with its gradients and momentum 5.6 MB, images less than 1 MB, batches of workers "
    assert told in outcome.err
    assert "; 3 GB free\n" in outcome.err
    warning = (
        "warning: 1 workers have batches of less than 1 MB, and /dev/shm has room for less than 1 MB: lower stage1."
    )
    assert warning in outcome.err
    assert "--shm-size" in outcome.err


# Beyond the memory


# All of the program is imported before, and of its space of addresses it may have little more than that.
LITTLE_MEMORY = """
import resource, sys
import gol_decouple.stages.classifier
from gol_decouple.__main__ import main
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 40_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
sys.exit(main())
"""


def test_out_of_memory_ends_stage_two_with_what_to_lower(tmp_path: Path) -> None:
    """By the limit of the system on what a process may have."""
    x, y = np.zeros((80_000, 1024), np.float32), np.arange(80_000) % 2
    path = features.write(tmp_path / "large.h5", {"train": (x, y), "test": (x[:4], y[:4])})
    command = ("stage2", path, "--method", "crt", "--runs-dir", tmp_path / "runs", *EPOCHS)
    child = [sys.executable, "-c", LITTLE_MEMORY, *command]
    ended = subprocess.run(child, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert "memory" in next(line for line in lines if line.startswith("error: "))
    assert "lower stage2.memory_gb or stage2.batch_size" in lines[-1]
