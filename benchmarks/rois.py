"""RoIs: extraction beside the detector's bare forward pass, and streamed training beside its matrix products alone.

In processor time of all threads, so that other work on the machine changes it little, and what another thread does
meanwhile counts too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import products, with_turns
from benchmarks.inputs import gaussian_rois, photographs
from benchmarks.timing import Interleaved, rates, report, spread
from gol_decouple import features, methods, runtime
from gol_decouple.backbones.detector_resolving import resolve_detector
from gol_decouple.backbones.mask_rcnn import build_detector
from gol_decouple.config import load_config
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.detection.roi_extraction import Fitted, extract_rois
from gol_decouple.features import FeaturesFile
from gol_decouple.methods import Method
from gol_decouple.stages.feed import Batch, Feed
from gol_decouple.stages.jobs import Job, loss_of
from gol_decouple.stages.streamed import Streamed
from gol_decouple.stages.together import train_together

BACKBONES = ("torchvision:resnet18", "torchvision:resnet50")
METHODS = ("gol", "softmax")
CLASSES = 1203  # of the detectors, as LVIS v1 has them
CPU = torch.device("cpu")
SECONDS = "s of processor time"


def main(
    photos: int = 8,
    roi_images: int = 1968,
    size: int = 1024,
    classes: int = 200,
    rounds: int = 3,
    out: Path | None = None,
) -> None:
    """Extracting 512 RoIs an image beside the forward pass; an epoch on a million streamed RoIs beside its products."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    with photographs(photos, CLASSES) as dataset:
        for name in BACKBONES:
            found = _extraction(dataset, name, rounds)
            figures |= {f"{name}: {figure}": value for figure, value in found.items()}
    with gaussian_rois(roi_images, 512, size, classes) as file:
        figures |= _training(file, rounds)
    report("rois", figures, out)


def _extraction(dataset: AnnotatedDataset, backbone: str, rounds: int) -> dict[str, Any]:
    """From JPEGs to a features file, beside the same images and as many RoIs in memory."""
    settings = ["detector.min_size=480", f"backbone.name={backbone}", "stage1.num_workers=0"]
    config = resolve_detector(load_config("lvis_v1_maskrcnn_r50", settings))
    assert config.detector is not None
    detector = build_detector(backbone, CLASSES, 0, config.detector, config.transform, frozen_batchnorm=True).eval()
    precision = runtime.autocast_dtype(CPU, config.stage1.precision)
    files, per_image = dataset.splits["train"].images, config.detector.rois_per_image
    images = [torch.from_numpy(files[index]).permute(2, 0, 1) / 255.0 for index in range(len(files))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"

        def forward() -> int:
            return sum(_forward(detector, image, per_image, precision) for image in images)

        def extraction() -> int:
            path.unlink(missing_ok=True)
            extract_rois(detector, dataset, config, Fitted(True, True), path=path)
            return len(images) * per_image

        measured = rates({"forward": forward, "extraction": extraction}, rounds, time.process_time)
        labels = features.open(path)["train"].labels
    if forward() != len(labels) or labels.min() < 0:
        raise SystemExit(f"{backbone}: an image has fewer than {per_image} RoIs")
    return {
        "shape": f"{len(images)} images of 480x640, {len(labels):,} RoIs, {precision or torch.float32}",
        **{f"{name}, RoIs/s and core": round(statistics.median(values)) for name, values in measured.items()},
        "extraction / forward, RoIs/s": spread(measured["extraction"], measured["forward"]),
    }


@torch.inference_mode()
def _forward(detector: Any, image: torch.Tensor, most: int, precision: torch.dtype | None) -> int:
    """The detector up to the features of at most so many RoIs; how many there are."""
    resized, _ = detector.transform([image])
    with runtime.autocast(CPU, precision):
        maps = detector.backbone(resized.tensors)
        proposals, _ = detector.rpn(resized, maps)
    maps = {name: one.float() for name, one in maps.items()}
    pooled = detector.roi_heads.box_roi_pool(maps, [proposals[0][:most]], resized.image_sizes)
    return len(detector.roi_heads.box_head(pooled))


def _training(file: FeaturesFile, rounds: int) -> dict[str, Any]:
    """One epoch from a file four times larger than the memory."""
    array = file["train"].features
    memory = array.shape[1] * array.shape[2] * array.dtype.itemsize // 4
    rows = _SlicedStream(file, CPU, 1, memory)
    figures: dict[str, Any] = {
        "stage two: shape": f"{rows.num_samples:,} x {rows.feature_size} {array.dtype}, {len(file.classes)} classes, "
        f"memory_gb {memory / 1e9:.3f}, {rows.shuffled_rows:,} rows shuffled"
    }
    for name in METHODS:
        method = methods.default(name, background=True).with_settings(epochs=1, start="fresh")
        found = [_epoch(rows, method) for _ in range(rounds + 1)][1:]  # the first verifies the blocks' checksums too
        figures[f"{name}: products, {SECONDS}"] = spread([alone for _, alone in found])
        figures[f"{name}: epoch, {SECONDS}"] = spread([whole for whole, _ in found])
        figures[f"{name}: epoch / products"] = spread(*map(list, zip(*found, strict=True)))
    return figures


def _epoch(rows: _SlicedStream, method: Method) -> tuple[float, float]:
    """Seconds of an epoch, and of its products."""
    columns = loss_of(method, rows.facts).num_columns(len(rows.class_counts))
    sizes = [min(method.batch_size, rows.num_samples - at) for at in range(0, rows.num_samples, method.batch_size)]
    x = torch.randn(8 * sizes[0], rows.feature_size)  # more than a cache holds
    batches = [x[number % 8 * sizes[0] :][:count] for number, count in enumerate(sizes)]
    rows.turns = Interleaved({"products": products(batches, columns)}, processor=True)
    for _, result in train_together(rows, [Job(method, 0)]):
        if isinstance(result, Exception):
            raise result
    return rows.turns.finish(), rows.turns.seconds["products"]


class _SlicedStream(Streamed):
    """Gives others a turn after each slice of batches."""

    turns: Interleaved

    def batches(self, feeds: Sequence[Feed], epoch: int) -> Generator[Batch, None, None]:
        return with_turns(super().batches(feeds, epoch), self.turns)
