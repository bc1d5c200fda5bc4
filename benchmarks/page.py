"""How large and how fast the report's page is, on a made-up study of many classes and methods."""

from __future__ import annotations

import csv
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import report
from gol_decouple.class_stats import group_masks, long_tail_counts
from gol_decouple.progress import SILENT

PER_CLASS = 5  # test samples


def main(
    classes: int = 1203, methods: int = 30, seeds: int = 3, out: Path | None = None, keep: Path | None = None
) -> None:
    """Bytes and seconds of the page of a study, whole and without its figures; --keep FILE writes the page there."""
    from gol_decouple.report import gains, rows
    from gol_decouple.report.figures.write import figures as draw
    from gol_decouple.report.page.write import to_html

    with tempfile.TemporaryDirectory() as folder:
        make_study(Path(folder) / "made_up", classes, methods, seeds)
        found = gains.add_gains(rows.collect_rows([Path(folder)], Path(folder)))
        started = time.perf_counter()
        command = ["gol-decouple", "report", "runs/made_up", "--format", "html"]
        text = to_html(found, SILENT, command, drawn=draw(found, SILENT))
        seconds = time.perf_counter() - started
    if keep is not None:
        keep.write_text(text, encoding="utf-8")
    plain = re.sub(r"<svg\b.*?</svg>", "", text, flags=re.DOTALL)
    figures = {
        "study": f"{classes} classes, {methods} methods, {seeds} seeds",
        "megabytes": round(len(text.encode()) / 1e6, 2),
        "megabytes without figures": round(len(plain.encode()) / 1e6, 2),
        "seconds": round(seconds, 1),
    }
    report("page", figures, out)


def make_study(run: Path, classes: int, methods: int, seeds: int) -> None:
    """A finished run and its classifiers: made-up predictions, better for rare classes the later the method."""
    counts = np.array(long_tail_counts(1200, classes, 600))
    labels = np.repeat(np.arange(classes), PER_CLASS)
    stream = np.random.default_rng(0)
    share = np.log(counts) / np.log(counts.max())
    _write(run, counts, labels, _hits(stream, 0.75 * share[labels]), {"stage": 1, "method": "softmax"})
    run.joinpath("config.toml").write_text(
        '[data]\nkind = "npz"\npath = "made_up.npz"\n\n[methods]\n', encoding="utf-8"
    )
    for method in range(methods):
        chance = np.clip(0.75 * share + 0.3 * method / methods * (1 - share), 0, 1)[labels]
        for seed in range(seeds):
            told = {"stage": 2, "method": f"method_{method:02}", "seed": seed}
            folder = run / "stage2" / f"method_{method:02}-seed{seed}"
            _write(folder, counts, labels, _hits(stream, chance), told)


def _hits(stream: np.random.Generator, chance: NDArray[np.float64]) -> NDArray[np.bool_]:
    drawn: NDArray[np.bool_] = stream.random(len(chance)) < chance
    return drawn


def _write(
    folder: Path, counts: NDArray[np.int64], labels: NDArray[np.int64], hits: NDArray[np.bool_], told: dict[str, Any]
) -> None:
    folder.mkdir(parents=True)
    classes = np.where(hits, labels, (labels + 1) % len(counts))
    others = np.stack([(classes + offset) % len(counts) for offset in range(5)], axis=1)
    scores = np.tile(np.array([0.5, 0.2, 0.1, 0.05, 0.02], dtype=np.float32), (len(labels), 1))
    np.savez(folder / "predictions.npz", id=np.arange(len(labels)), label=labels, classes=others, scores=scores)
    accuracy = 100 * np.bincount(labels, hits) / np.bincount(labels)
    masks = group_masks(counts)
    group = np.select([masks["many"], masks["medium"]], ["many", "medium"], "few")
    with (folder / "per_class.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("class", "name", "train_count", "group", "samples", "accuracy"))
        for place, count in enumerate(counts.tolist()):
            name = f"a class with a name {place}"
            table.writerow((place, name, count, group[place], PER_CLASS, f"{accuracy[place]:.4f}"))
    metrics = {f"top1_{name}": float(accuracy[mask].mean()) if mask.any() else None for name, mask in masks.items()}
    metrics |= {f"num_{name}": int(mask.sum()) for name, mask in masks.items()}
    mean = float(accuracy.mean())
    tree = {
        **{"dataset": "made_up", "imbalance_factor": 600.0, "backbone": "resnet32", "split": "test", "seed": 0},
        **{"activation": "softmax", "loss": "cross_entropy", "sampler": "random", "classifier": "linear"},
        **{"settings": {"start": "stage_one", "lr": 0.1, "epochs": 30}, "changed_settings": {}, "seconds": 1.0},
        **{"features": {"fingerprint": "f" * 64}, "train_counts": counts.tolist()},
        **{"metrics": metrics | {"top1": mean, "top1_balanced": mean}, "folder": "/home/me"},
        **{"command": ["gol-decouple", "stage2", "runs/made_up", "--method", "all"]},
        **told,
    }
    (folder / "manifest.json").write_text(json.dumps(tree), encoding="utf-8")
