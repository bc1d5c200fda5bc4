"""Stage two's training beside its matrix products alone, and many classifiers beside one."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.inputs import gaussians
from benchmarks.timing import Interleaved, machine, rates, report, spread, times
from gol_decouple import methods, runtime
from gol_decouple.features import FeaturesFile
from gol_decouple.methods import Method
from gol_decouple.stages.feed import Batch, Feed
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.together import train_together

SLICE = 4096  # samples


def epoch(
    samples: int = 115_846,
    size: int = 2048,
    classes: int = 1000,
    batch_size: int = 256,
    rounds: int = 3,
    threads: int = 1,
    device: str = "auto",
    out: Path | None = None,
) -> None:
    """One epoch of Gumbel at ImageNet-LT's shape: the engine and a plain PyTorch loop beside the matrix products alone.

    On a GPU, ten epochs of the engine instead, in seconds. With bfloat16 instructions, its speed with them too.
    """
    torch.set_num_threads(threads)
    method = methods.get("gumbel").with_settings(batch_size=batch_size, epochs=1, start="fresh")
    chosen = runtime.select_device(device)
    with gaussians(samples, size, classes) as file:
        figures = _on_gpu(file, method, chosen) if chosen.type == "cuda" else _on_cpu(file, method, rounds)
    report(f"epoch_batch{batch_size}", {"shape": f"{samples:,} x {size}, {classes} classes"} | figures, out)


def together(threads: int = 1, rounds: int = 5, large_samples: int = 20_000, out: Path | None = None) -> None:
    """Eight classifiers in one pass beside one: where products bind, and with small features, where overhead does."""
    torch.set_num_threads(threads)
    figures: dict[str, Any] = {}
    shapes = {
        "2048 x 1000, batch 256": (large_samples, 2048, 1000, 256, 1),
        "64 x 100, batch 64": (10_847, 64, 100, 64, 5),
    }
    for name, (samples, size, classes, batch_size, epochs) in shapes.items():
        settings = {"batch_size": batch_size, "epochs": epochs, "start": "fresh", "lr": 1e-4}
        one = methods.get("gumbel").with_settings(**settings)
        jobs = {
            "one": [Job(one, 0)],
            "8 learning rates": [Job(one.with_settings(lr=1e-4 * (place + 1)), 0) for place in range(8)],
            "8 seeds": [Job(one, seed) for seed in range(8)],
        }
        with gaussians(samples, size, classes) as file:
            rows = InMemory(file, torch.device("cpu"), 1)
            measured = rates({kind: partial(_train, rows, members) for kind, members in jobs.items()}, rounds)
        for kind in list(jobs)[1:]:
            figures[f"{name}: {kind} / one"] = spread(measured["one"], measured[kind])
        figures[f"{name}: one, s"] = times(measured["one"])
    report("together", figures, out)


def _on_cpu(file: FeaturesFile, method: Method, rounds: int) -> dict[str, Any]:
    rows = _Sliced(file, torch.device("cpu"), 1)
    x, labels = torch.from_numpy(file["train"].features[0].astype(np.float32)), torch.from_numpy(file["train"].labels)
    half = machine()["bfloat16"]
    found: dict[str, list[float]] = {"engine": [], "plain loop": [], "bfloat16": []}
    for _ in range(rounds):
        turns = Interleaved(
            {
                "products": products(torch.split(x, method.batch_size), len(file.classes)),
                "plain loop": _plain_loop(x, labels, len(file.classes), method),
            }
        )
        seconds = _timed(rows, method, turns)
        found["engine"].append(seconds / turns.seconds["products"])
        found["plain loop"].append(turns.seconds["plain loop"] / turns.seconds["products"])
        if half:
            found["bfloat16"].append(
                seconds / _timed(rows, method.with_settings(precision="bfloat16"), Interleaved({}))
            )
    return {
        "products, s (last round)": round(turns.seconds["products"], 2),
        "engine / products": spread(found["engine"]),
        "plain PyTorch loop / products": spread(found["plain loop"]),
        "float32 / bfloat16": spread(found["bfloat16"])
        if half
        else "not measured: the CPU has no bfloat16 instructions",
    }


def _on_gpu(file: FeaturesFile, method: Method, device: torch.device) -> dict[str, Any]:
    rows = InMemory(file, device, 1)
    figures = {}
    for precision in ("float32", "bfloat16"):
        job = Job(method.with_settings(epochs=10, precision=precision), 0)
        _train(rows, [job])
        measured = rates({"ten epochs": partial(_train, rows, [job])}, 5)
        figures[f"10 epochs, {precision}, s"] = times(measured["ten epochs"])
        with torch.profiler.profile() as profile:
            _train(rows, [job])
        split = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:8]
        figures[f"10 epochs, {precision}, ms on the device"] = {
            event.key[:60]: round(event.self_device_time_total / 1000, 1) for event in split
        }
    return figures


def _train(rows: InMemory, jobs: Sequence[Job]) -> int:
    for _, result in train_together(rows, jobs):
        if isinstance(result, Exception):
            raise result
    return 1


class _Sliced(InMemory):
    """Gives others a turn after each slice of batches."""

    turns: Interleaved

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        return with_turns(super().batches(feeds, epoch), self.turns)


def with_turns(batches: Iterator[Batch], turns: Interleaved) -> Generator[Batch, None, None]:
    """The batches, with a turn of others after each slice of them."""
    for number, batch in enumerate(batches):
        if number and number % max(1, SLICE // batch.feed.batch_size) == 0:
            turns.turn()
        yield batch


def _timed(rows: _Sliced, method: Method, turns: Interleaved) -> float:
    rows.turns = turns
    _train(rows, [Job(method, 0)])
    return turns.finish()


def products(batches: Sequence[torch.Tensor], columns: int) -> Iterator[None]:
    """Forward and weight gradient of batches, the first the largest, in memory that is there already; by slices."""
    batch_size, feature_size = batches[0].shape
    weight = torch.zeros(columns, feature_size)
    logits, gradient = torch.zeros(batch_size, columns), torch.empty_like(weight)
    for number, part in enumerate(batches):
        torch.mm(part, weight.t(), out=logits[: len(part)])
        torch.mm(logits[: len(part)].t(), part, out=gradient)
        if (number + 1) % max(1, SLICE // batch_size) == 0:
            yield


def _plain_loop(x: torch.Tensor, labels: torch.Tensor, classes: int, method: Method) -> Iterator[None]:
    """What the public code does: DataLoader, one-hot, clamp, two exponentials, binary cross entropy, autograd."""
    layer = nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.SGD(layer.parameters(), method.lr, method.momentum)
    loader = DataLoader(TensorDataset(x, labels), method.batch_size, shuffle=True)
    for number, (part, part_labels) in enumerate(loader):
        eta = torch.exp(-torch.exp(-layer(part).clamp(-4.0, 10.0)))
        targets = F.one_hot(part_labels, classes).float()
        loss = F.binary_cross_entropy(eta, targets, reduction="sum") / len(part)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (number + 1) % max(1, SLICE // method.batch_size) == 0:
            yield
