"""RoIs of a detector of another framework as its classifiers see them: a features file for each of its stages.

`docs/export_mmdetection.py` and `docs/export_detectron2.py` are detectors for this. Everything that is not the
framework's is here: the images, which RoIs are drawn, their labels, and the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple.data.annotated import AnnotatedDataset, tell_annotated
from gol_decouple.data.lvis import load_annotated
from gol_decouple.detection.roi_sampling import FOREGROUND_IOU, Sampling
from gol_decouple.detector_settings import CODER_WEIGHTS
from gol_decouple.errors import InputError
from gol_decouple.features.extract import row_order
from gol_decouple.features.roi_writer import RoiWriter
from gol_decouple.features.rois import ImageRows
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import AnnotationsConfig, DataConfig, FeatureDtype

# Boxes [P, 4], x1, y1, x2, y2 in pixels of the original image, surest first, to indices [R] of those that are cached.
Choose = Callable[[torch.Tensor], torch.Tensor]
Seen = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Stage:
    """One classifier of a detector, of which a cascade has several.

    Attributes:
        feature_size: D.
        iou: from this IoU on, a RoI is of the object that it overlaps most.
        classifier: weight [C + 1, D] and bias [C + 1], background last, if it is a linear layer with softmax.
        regressor: weight [G, 4, D] and bias [G, 4], G being C or 1; None: boxes are final.
        coder_weights: what the regressor's deltas are divided by.
    """

    feature_size: int
    iou: float = FOREGROUND_IOU
    classifier: tuple[Any, Any] | None = None
    regressor: tuple[Any, Any] | None = None
    coder_weights: Sequence[float] = CODER_WEIGHTS


class Detector(Protocol):
    """What an export needs of a detector.

    Attributes:
        num_classes: C.
        class_names: in label order; None if it does not know them.
        stages: one, or those of a cascade.
    """

    num_classes: int
    class_names: Sequence[str] | None
    stages: Sequence[Stage]

    def rois(self, image: Path, objects: torch.Tensor, choose: Choose) -> Seen:
        """For each stage what its classifier sees of an image's RoIs, [R, D], and their boxes [R, 4].

        Boxes are in pixels of the original image, row r of all stages the same proposal.

        Args:
            objects: boxes [n, 4] that are proposals too, after the others; none where it is tested.
            choose: says which of the boxes are the RoIs (of the first stage).
        """


@dataclass(frozen=True)
class Export:
    """What is exported, and where to; numbers as in the settings `[detector]`.

    Attributes:
        images: the folder of the images.
        train, val: annotations in LVIS's format.
        out: the features file; of a cascade of three NAME_stage1.h5, NAME_stage2.h5 and NAME_stage3.h5.
        name: of the dataset, as reports show it; None: that of the images' folder.
        limit: at most so many images of each split, for trials.
        seed: of the images' order, and of the RoIs that are drawn.

    Raises:
        InputError: a number that is out of range.
    """

    images: Path
    train: Path
    val: Path
    out: Path
    rois_per_image: int = 512
    foreground_fraction: float = 0.25
    val_rois_per_image: int = 1000
    dtype: FeatureDtype = "float16"
    name: str | None = None
    limit: int | None = None
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("rois_per_image", "val_rois_per_image", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} is {value}", "it is at least 1")
        if not 0 < self.foreground_fraction <= 1:
            raise InputError(f"foreground_fraction is {self.foreground_fraction}", "it is above 0 and at most 1")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}", "it is at least 0")

    def paths(self, num_stages: int) -> list[Path]:
        """The file of each stage."""
        if num_stages == 1:
            return [self.out]
        stem, suffix = self.out.stem, self.out.suffix
        return [self.out.with_name(f"{stem}_stage{number}{suffix}") for number in range(1, num_stages + 1)]


def export_rois(detector: Detector, origin: dict[str, Any], wanted: Export, progress: Progress = SILENT) -> list[Path]:
    """Write the RoIs of a detector to a features file for each of its stages; continues what was interrupted.

    Args:
        origin: `backbone`, with `name` and the `sha256` of all weights, and what else decides on features.

    Raises:
        InputError: annotations or images that cannot be used, other classes than the detector's, or files that exist.
        EnvironmentFailure: the disk is full.
    """
    annotations = AnnotationsConfig(train=str(wanted.train.absolute()), val=str(wanted.val.absolute()))
    config = DataConfig(
        kind="lvis", name=wanted.name, path=str(wanted.images), annotations=annotations, limit=wanted.limit
    )
    dataset = load_annotated(config)
    tell_annotated(dataset, progress)
    _check_classes(detector, dataset)
    orders = {name: row_order(len(split), wanted.seed, at) for at, (name, split) in enumerate(dataset.splits.items())}
    paths = wanted.paths(len(detector.stages))
    with ExitStack() as stack:
        writers = []
        for number, (path, stage) in enumerate(zip(paths, detector.stages, strict=True), 1):
            told = {**origin, "rois": {"stage": number, **_plain(wanted)}}
            writers.append(stack.enter_context(_writer(path, stage, dataset, orders, told, wanted)))
        left = {key for writer in writers for key in writer.pending()}
        with progress.bar("features of RoIs", len(left), "images") as bar:
            for name, order in orders.items():
                for at in order.tolist():
                    image_id = int(dataset.splits[name].ids[at])
                    if (name, image_id) not in left:
                        continue
                    for writer, columns in zip(writers, _of_image(detector, dataset, name, at, wanted), strict=True):
                        writer.add(name, image_id, *columns)
                    bar.advance(1, name)
    return paths


def dense_rois(
    inputs: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    boxes: Sequence[torch.Tensor],
    choose: Choose,
    most: int = 1000,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The RoIs of a detector without proposals, whose classifier is a 3x3 convolution: its surest anchors.

    Args:
        inputs: what the convolution sees of each level, [channels, H, W].
        scores: of the likeliest class of each anchor, [H * W * A], anchors of a place beside each other.
        boxes: those of the anchors, decoded, [H * W * A, 4].
        most: of a level, as many are taken.

    Returns:
        the 3x3 patches [R, channels * 9], as the convolution's filters are flattened, and boxes [R, 4].
    """
    values, patches, found = [], [], []
    for seen, of_anchors, decoded in zip(inputs, scores, boxes, strict=True):
        top = of_anchors.topk(min(most, len(of_anchors)))
        places = top.indices // (len(of_anchors) // (seen.shape[1] * seen.shape[2]))
        values.append(top.values)
        patches.append(F.unfold(seen[None], 3, padding=1)[0].T[places])
        found.append(decoded[top.indices])
    order = torch.cat(values).sort(descending=True, stable=True).indices
    all_boxes = torch.cat(found)[order]
    chosen = choose(all_boxes)
    return torch.cat(patches)[order[chosen]], all_boxes[chosen]


@torch.inference_mode()
def _of_image(
    detector: Detector, dataset: AnnotatedDataset, name: str, at: int, wanted: Export
) -> Iterator[tuple[torch.Tensor, ...]]:
    """For each stage features, labels, boxes and IoUs of an image's RoIs."""
    split, is_train = dataset.splits[name], name == "train"
    own = slice(split.starts[at], split.starts[at + 1])
    objects, labels = torch.from_numpy(split.boxes[own]), torch.from_numpy(split.labels[own])
    sampling = Sampling(wanted.rois_per_image, wanted.foreground_fraction, wanted.seed)

    def choose(boxes: torch.Tensor) -> torch.Tensor:
        if not is_train:
            return torch.arange(min(len(boxes), wanted.val_rois_per_image), device=boxes.device)
        matched, _ = match(boxes, objects, labels, dataset.num_classes, detector.stages[0].iou)
        return sampling.choose(matched, dataset.num_classes, int(split.ids[at])).to(boxes.device)

    seen = detector.rois(split.images.root / split.images.names[at], objects if is_train else objects[:0], choose)
    for stage, (features, boxes) in zip(detector.stages, seen, strict=True):
        of_stage, ious = match(boxes, objects, labels, dataset.num_classes, stage.iou)
        yield features, of_stage, boxes, ious


def match(
    boxes: torch.Tensor, objects: torch.Tensor, labels: torch.Tensor, num_classes: int, iou: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The label of each of R boxes, and its largest IoU with an object, both [R] on the CPU.

    A box has the label of the object that it overlaps most, by at least `iou`, else `num_classes`, background.
    """
    boxes = boxes.detach().float().cpu()
    if not len(objects):
        return torch.full((len(boxes),), num_classes), torch.zeros(len(boxes))
    low = torch.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(some[:, 2:] - some[:, :2]).prod(1) for some in (boxes, objects)]
    ious = (shared / (areas[0][:, None] + areas[1] - shared)).nan_to_num(0.0).clamp(0, 1)
    largest, of = ious.max(1)
    return torch.where(largest >= iou, labels[of], num_classes), largest


def _writer(
    path: Path,
    stage: Stage,
    dataset: AnnotatedDataset,
    orders: dict[str, Any],
    origin: dict[str, Any],
    wanted: Export,
) -> RoiWriter:
    rows = {"train": wanted.rois_per_image, "val": wanted.val_rois_per_image}
    images = {}
    for name, order in orders.items():
        split = dataset.splits[name].take(order)
        images[name] = ImageRows(split.ids, split.sizes[:, 0], split.sizes[:, 1], rows[name])
    counts = dataset.train_counts[dataset.train_counts > 0]
    told = {"name": dataset.name, "sha256": dataset.sha256, "imbalance_factor": float(counts.max() / counts.min())}
    return RoiWriter(
        path,
        images,
        class_names=dataset.class_names,
        feature_size=stage.feature_size,
        image_counts=dataset.image_counts,
        num_images=len(dataset.splits["train"]),
        frequency=dataset.frequency.tolist(),
        classifier=stage.classifier,
        regressor=stage.regressor,
        coder_weights=stage.coder_weights,
        dtype=wanted.dtype,
        origin={**origin, "dataset": told},
        resume=True,
        overwrite=wanted.overwrite,
    )


def _plain(wanted: Export) -> dict[str, Any]:
    """The settings that decide on RoIs."""
    names = ("rois_per_image", "foreground_fraction", "val_rois_per_image", "seed")
    return {name: value for name, value in asdict(wanted).items() if name in names}


def _check_classes(detector: Detector, dataset: AnnotatedDataset) -> None:
    names = dataset.class_names
    if detector.num_classes != len(names):
        told = f"the detector has {detector.num_classes:,} classes, and the annotations have {len(names):,}"
        raise InputError(told, "export with the annotations that it was trained on")
    own = list(detector.class_names or names)
    if own != names and sorted(own) == sorted(names):
        at = int(np.argmax([one != other for one, other in zip(own, names, strict=True)]))
        told = f"class {at} of the detector is {own[at]!r}, but in the order of category ids {names[at]!r}"
        raise InputError(told, "give categories ids in the order of the detector's classes")
