"""LVIS evaluation beside the `lvis` package: time and peak memory, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import lvis_runs
from benchmarks.timing import report, spread


def main(
    images: int = 2000, full_images: int = 19_809, mask_images: int = 200, rounds: int = 3, out: Path | None = None
) -> None:
    """Boxes (300 an image) and masks (100 an image) beside `lvis`; a whole validation set of boxes alone."""
    figures: dict[str, Any] = {"boxes": f"{images} images x {lvis_runs.DETECTIONS}"}
    with tempfile.TemporaryDirectory() as folder:
        lvis_runs.make_boxes(Path(folder), images, as_json=True)
        figures |= _beside("boxes", folder, "bbox", {"columns": "columns.npz", "json": "results.json"}, rounds)
    with tempfile.TemporaryDirectory() as folder:
        lvis_runs.make_masks(Path(folder), mask_images)
        figures["masks"] = f"{mask_images} images x {lvis_runs.MASK_DETECTIONS}"
        figures |= _beside("masks", folder, "segm", {"json": "results.json"}, rounds)
    with tempfile.TemporaryDirectory() as folder:
        figures["whole set"] = f"{full_images} images x {lvis_runs.DETECTIONS}"
        lvis_runs.make_boxes(Path(folder), full_images, as_json=True)
        for name, given in (("columns", "columns.npz"), ("json", "results.json")):
            figures[f"whole set, {name}"] = _run(folder, given, "columnar", "bbox")
    report("lvis", figures, out)


def _beside(what: str, folder: str, iou_type: str, forms: dict[str, str], rounds: int) -> dict[str, Any]:
    """Ratios of the package's time and memory to ours, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("lvis", *forms)}
    for _ in range(rounds):
        found["lvis"].append(_run(folder, "results.json", "lvis", iou_type))
        for name, given in forms.items():
            found[name].append(_run(folder, given, "columnar", iou_type))
    if any(abs(run["ap"] - found["lvis"][0]["ap"]) > 1e-7 for runs in found.values() for run in runs):
        raise SystemExit(f"the evaluators differ: {found}")
    figures: dict[str, Any] = {f"{what}, {name}": runs[-1] for name, runs in found.items()}
    for name in forms:
        for unit in ("cpu_seconds", "gibibytes"):
            ratio = spread([run[unit] for run in found["lvis"]], [run[unit] for run in found[name]])
            figures[f"{what}, lvis / {name}, {unit}"] = ratio
    return figures


def _run(folder: str, given: str, evaluator: str, iou_type: str) -> dict[str, float]:
    arguments = json.dumps({"folder": folder, "given": given, "evaluator": evaluator, "iou_type": iou_type})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.lvis_runs", arguments]
    one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | one_core, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
