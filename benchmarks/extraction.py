"""Extraction's rate beside its two limits: the bare forward pass on tensors in memory, and decoding alone.

python -m benchmarks extraction CONFIG --set data.path=images
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.timing import rates, report, spread
from gol_decouple import runtime
from gol_decouple.backbones import build_model
from gol_decouple.backbones.resolving import resolve
from gol_decouple.config import load_config
from gol_decouple.data import Dataset, load_data
from gol_decouple.data.loading import Batches, clean_keys
from gol_decouple.data.transforms import Normalise
from gol_decouple.features.extract import extract


def main(
    config: str,
    set_: Annotated[list[str] | None, typer.Option("--set")] = None,
    rounds: int = 5,
    images: int = 4096,
    out: Path | None = None,
) -> None:
    """Print images/s of extraction, forward pass and decoding on the first `images` train images, and their ratios."""
    settings = resolve(load_config(config, [*(set_ or []), "features.views=1"]))
    dataset = load_data(settings.data)
    split = dataset.splits["train"]
    split = split.take(np.arange(min(images, len(split))))
    dataset = Dataset(dataset.name, dataset.class_names, {"train": split})
    device = runtime.select_device(settings.device)
    model = build_model(settings.backbone.name, dataset.num_classes, 0, settings.transform.size).to(device).eval()
    precision = runtime.autocast_dtype(device, settings.stage1.precision)
    normalise, size = Normalise(settings.transform), settings.features.batch_size

    def batches() -> Batches:
        keys = clean_keys(range(len(split)), size)
        pinned = device.type == "cuda"
        return Batches(split, settings.transform, keys, 0, settings.stage1.num_workers, pinned)

    loaded = [batch.to(device) for batch, _ in batches()]

    def decoding() -> int:
        return sum(len(batch) for batch, _ in batches())

    @torch.inference_mode()
    def forward() -> int:
        for batch in loaded:
            with runtime.autocast(device, precision):
                features = model.backbone(normalise(batch))
        features.sum().item()  # waits for the device
        return len(split)

    def extraction() -> int:
        with tempfile.TemporaryDirectory() as folder:
            extract(model, dataset, settings, Path(folder) / "features.h5")
        return len(split)

    measured = rates({"decoding": decoding, "forward": forward, "extraction": extraction}, rounds)
    workers = runtime.default_workers() if settings.stage1.num_workers is None else settings.stage1.num_workers
    figures = {
        "shape": f"{settings.backbone.name}, {len(split):,} images of {dataset.name}, {workers} workers, {device}",
        **{f"{name}, images/s": round(statistics.median(values)) for name, values in measured.items()},
        "extraction / forward": spread(measured["extraction"], measured["forward"]),
        "extraction / decoding": spread(measured["extraction"], measured["decoding"]),
    }
    report("extraction", figures, out)
