"""Finished folders with all that figures are drawn from, on six classes, two of each group."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from test_report import manifest, stage_one

COUNTS = [400, 200, 80, 40, 10, 5]
GROUPS = ["many", "many", "medium", "medium", "few", "few"]
NAMES = [f"class {label}" for label in range(6)]
SIZES: dict[str, Any] = {"num_many": 2, "num_medium": 2, "num_few": 2}
LABELS = np.repeat(np.arange(6), 4)


def fill(folder: Path, seed: int = 0, norms: bool = True, names: Sequence[str] = NAMES) -> Path:
    """Predictions, classes and log of a finished folder."""
    stream = np.random.default_rng(seed)
    classes = np.stack([(LABELS + stream.integers(0, 2, 24)) % 6, (LABELS + 2) % 6], axis=1)
    scores = np.sort(stream.random((24, 2), np.float32), axis=1)[:, ::-1]
    np.savez(folder / "predictions.npz", id=np.arange(24), label=LABELS, classes=classes, scores=scores)
    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["class", "name", "train_count", "group", "samples", "accuracy", *["weight_norm"] * norms])
        for label in range(6):
            accuracy = 100.0 * (classes[:, 0] == LABELS)[label == LABELS].mean()
            own = (label, names[label], COUNTS[label], GROUPS[label], 4, f"{accuracy:.4f}")
            table.writerow([*own, *[f"{3 - label / 4 + seed}"] * norms])
    (folder / "log.csv").write_text("epoch,lr,train_loss\n1,0.1,2.0\n2,0.01,1.5\n")
    return folder


def base(root: Path, run: str = "lt", **changes: Any) -> Path:
    """Stage one of a run."""
    told = {"train_counts": COUNTS, "metrics": SIZES, "run": run} | changes
    return fill(stage_one(root / run, **told))


def method(root: Path, name: str, seed: int = 0, run: str = "lt", **changes: Any) -> Path:
    """A classifier of stage two."""
    folder = root / run / "stage2" / f"{name}-seed{seed}-{len(list(root.rglob('manifest.json')))}"
    told = {"train_counts": COUNTS, "metrics": SIZES, "run": run} | changes
    return fill(manifest(folder, method=name, seed=seed, **told), seed)


def study(root: Path, methods: Sequence[str] = ("softmax", "gumbel"), run: str = "lt") -> Path:
    """Stage one and methods with two seeds each."""
    base(root, run)
    for name in methods:
        for seed in (0, 1):
            method(root, name, seed, run)
    return root
