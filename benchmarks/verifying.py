"""What it costs that stage two reads and checks a whole features file first, beside loading it and an epoch."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import gaussians
from benchmarks.timing import rates, report, spread
from gol_decouple import features, methods
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.together import train_together


def main(rounds: int = 5, rows: int = 120_000, out: Path | None = None) -> None:
    """A file of float32 rows of 2,048 (about 1 GB), in the page cache: checked, loaded, and both; an epoch of it."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with gaussians(rows, 2048, 1000, dtype="float32") as file:
        path, gigabytes = file.path, file.path.stat().st_size / 1e9

        def check() -> int:
            features.verify(features.open(path))
            return 1

        def load() -> int:
            InMemory(features.open(path), cpu, 1)
            return 1

        def both() -> int:
            opened = features.open(path)
            features.verify(opened)
            InMemory(opened, cpu, 1)
            return 1

        def epoch() -> int:
            method = methods.get("gumbel").with_settings(epochs=1, batch_size=256, start="fresh")
            list(train_together(InMemory(file, cpu, 1), [Job(method, 0)]))
            return 1

        work = {"check": check, "load": load, "both": both}
        wall = rates(work, rounds)
        processor = rates(work | {"epoch": epoch}, rounds, time.process_time)
    figures: dict[str, Any] = {
        "file, GB": round(gigabytes, 2),
        "checking, GB/s": round(statistics.median(wall["check"]) * gigabytes, 2),
        "checking, GB/s and core": round(statistics.median(processor["check"]) * gigabytes, 2),
        "checked first and loaded / loaded, which checks too: time": spread(wall["load"], wall["both"]),
        "the same, processor time": spread(processor["load"], processor["both"]),
        "checking / loading and one epoch (batch 256, Gumbel), processor time": spread(
            processor["epoch"], processor["check"]
        ),
    }
    report("verifying", figures, out)
