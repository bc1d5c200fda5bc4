"""What a report of many runs costs, beside reading and parsing their manifests and reading their predictions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.timing import rates, report, spread
from gol_decouple import predictions, runs
from gol_decouple.class_stats import group_masks, long_tail_counts
from gol_decouple.metrics import top1_metrics
from gol_decouple.progress import SILENT
from gol_decouple.report import collected, tables, written

CLASSES, PER_RUN = 100, 10
METHODS = ("gumbel", "sigmoid", "crt")


def main(
    finished: Annotated[int, typer.Option("--runs", help="How many finished runs and classifiers.")] = 1000,
    samples: int = 10_000,
    rounds: int = 3,
    out: Path | None = None,
) -> None:
    """Runs of a stage one, three methods and three seeds each, with predictions of every sample, in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        folders = list(_write(root, finished, samples))

        def manifests() -> int:
            return sum(1 for path in root.rglob(runs.MANIFEST) if json.loads(path.read_bytes()))

        def read() -> int:
            return sum(1 for each in folders if len(predictions.read(each / runs.PREDICTIONS).hits))

        def gains() -> int:
            return len(collected.collect([root], root, SILENT).rows)

        def as_tables() -> int:
            return len(written.as_text(tables.leveled_tables(found))) and len(found)

        def as_json() -> int:
            return len(json.loads(tables.to_json(found)))

        found = collected.collect([root], root, SILENT).rows
        work = {"manifests": manifests, "predictions": read, "rows": gains, "table": as_tables, "json": as_json}
        measured = rates(work, rounds)
        for each in folders:
            (each / runs.PREDICTIONS).unlink()
        measured["rows without predictions"] = rates({"rows": gains}, rounds)["rows"]
    seconds = {f"{name}, seconds": spread([finished / rate for rate in found]) for name, found in measured.items()}
    reading = zip(measured["manifests"], measured["predictions"], strict=True)
    both = [1 / (1 / one + 1 / other) for one, other in reading]
    figures: dict[str, Any] = {
        "finished runs and classifiers": finished,
        **seconds,
        "rows with gains / reading and parsing the manifests and predictions": spread(both, measured["rows"]),
        "rows without predictions / reading and parsing the manifests": spread(
            measured["manifests"], measured["rows without predictions"]
        ),
    }
    report("report", figures, out)


def _write(root: Path, finished: int, samples: int) -> Iterator[Path]:
    stream = np.random.default_rng(0)
    counts, labels = long_tail_counts(500, CLASSES, 100), np.arange(samples) % CLASSES
    for number in range(finished):
        run = root / f"run{number // PER_RUN:04d}"
        place = number % PER_RUN
        method, seed = METHODS[(place - 1) % len(METHODS)], (place - 1) // len(METHODS)
        folder = run / runs.STAGE2 / f"{method}-seed{seed}" if place else run
        folder.mkdir(parents=True)
        if not place:
            (folder / runs.CONFIG).touch()
        hits = stream.random(samples) < 0.4 + 0.01 * (place % 4)
        classes = (labels[:, None] + np.arange(5) + ~hits[:, None]) % CLASSES
        arrays = {"classes": classes.astype(np.int32), "scores": stream.random((samples, 5), dtype=np.float32)}
        np.savez_compressed(folder / runs.PREDICTIONS, id=np.arange(samples), label=labels, **arrays)
        runs.write_manifest(folder, _manifest(run.name, place, method, seed, counts, labels, classes[:, 0]))
        yield folder


def _manifest(
    run: str, place: int, method: str, seed: int, counts: list[int], labels: NDArray[Any], predicted: NDArray[Any]
) -> dict[str, Any]:
    name = method if place else "softmax"
    sizes = {f"num_{group}": int(mask.sum()) for group, mask in group_masks(np.array(counts)).items()}
    return {
        **{"stage": 2 if place else 1, "run": run, "dataset": "cifar100", "imbalance_factor": 100.0},
        **{"backbone": "resnet32", "features": {"fingerprint": f"{run:0>64}"}, "train_counts": counts},
        **{"method": name, "activation": "softmax", "loss": "cross_entropy", "sampler": "random"},
        **{"classifier": "linear", "seed": max(seed, 0), "changed_settings": {}, "split": "test", "seconds": 1.0},
        "settings": {"start": "stage_one", "lr": 0.1, "epochs": 30, **dict.fromkeys(map(str, range(40)), 0.5)},
        "classes": [f"class {number}" for number in range(CLASSES)],
        "metrics": top1_metrics(predicted, labels, np.array(counts)) | sizes,
    }
