"""The time of one stage-two run on features in memory, beside its matrix products alone.

python -m benchmarks.stage2
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
import typer

from benchmarks.timing import rates, ratio
from gol_decouple import features, methods, retrain, runtime


def main(samples: int = 10_847, size: int = 64, classes: int = 100, epochs: int = 15, rounds: int = 3) -> None:
    """Print seconds a run of each activation, and how often its matrix products would fit into that time."""
    stream = np.random.default_rng(0)
    labels = stream.permutation(np.arange(samples) % classes)
    x = (stream.normal(size=(classes, size))[labels] + stream.normal(size=(samples, size))).astype(np.float32)
    batch = methods.get("gumbel").batch_size

    def products() -> int:
        rows, weight = torch.from_numpy(x), torch.zeros(classes, size)
        with runtime.threads_for(batch * weight.numel()):
            for _ in range(epochs):
                for part in rows.split(batch):
                    logits = part @ weight.t()
                    _ = logits.t() @ part
        return 1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        features.write(path, {"train": (x, labels)}, dtype="float32")
        opened = features.open(path)

        def run(method: str) -> int:
            retrain(opened, method, epochs=epochs, start="fresh", evaluate=False)
            return 1

        names = ("softmax", "sigmoid", "gumbel")
        work = {name: (lambda name=name: run(name)) for name in names}
        measured = rates({"products": products, **work}, rounds)
    print(f"{samples:,} x {size} features, {classes} classes, {epochs} epochs, batches of {batch}")
    for name, values in measured.items():
        seconds = 1 / statistics.median(values)
        print(f"{name:<9} {seconds:6.2f} s, matrix products' share {ratio(values, measured['products'])}")


if __name__ == "__main__":
    typer.run(main)
