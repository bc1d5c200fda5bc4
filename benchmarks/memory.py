"""What stage two says that it takes of memory, beside the most that its process had."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import torch

from gol_decouple import features
from gol_decouple.config import override_section
from gol_decouple.progress import Progress
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.targets import find_target, stage2_settings


class _Lines(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def main(
    samples: int = 6000,
    size: int = 2048,
    classes: int = 1000,
    methods: str = "softmax,gumbel,crt",
    seeds: int = 3,
    memory_gb: float = 0.0,
) -> None:
    """Train methods for one epoch on made features, in this process; the peak is above what it had before (Linux)."""
    torch.set_num_threads(1)
    stream = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), stream.integers(0, classes, samples - classes)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.h5"
        x = stream.standard_normal((samples, size), np.float32)
        splits = {"train": (x, labels), "test": (x[:4096], labels[:4096])}
        features.write(path, splits, classifier=(0.01 * x[:classes], np.zeros(classes)))
        del x, splits
        target, lines = find_target(path, Path(folder)), _Lines()
        changes = ["stage2.epochs=1", *([f"stage2.memory_gb={memory_gb}"] if memory_gb else [])]
        grid = override_section(stage2_settings(target), changes, "stage2")
        before = _peak()
        run_stage2(target, methods.split(","), range(seeds), grid, "cpu", progress=lines)
        print("\n".join(line for line in lines.said if line.startswith("memory:")))
        print(f"peak above what there was before: {(_peak(reset=False) - before) / 1e9:.2g} GB")


def _peak(reset: bool = True) -> int:
    """The most memory that the process had, in bytes, since that was reset last."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
