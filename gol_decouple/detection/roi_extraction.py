"""Extraction of RoIs: what the classifier of a frozen detector sees of every image, into one features file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gol_decouple import runtime
from gol_decouple.backbones import conventions
from gol_decouple.backbones.class_order import classifier_from_torchvision, regressor_from_torchvision
from gol_decouple.data.annotated import AnnotatedDataset, AnnotatedSplit
from gol_decouple.data.annotated_batches import AnnotatedBatch, AnnotatedBatches
from gol_decouple.data.loading import clean_keys
from gol_decouple.detection.roi_sampling import Rois, Sampling, train_rois, val_rois
from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.distributed import ALONE, World
from gol_decouple.features.existing import is_written
from gol_decouple.features.extract import as_float32, backbone_facts, row_order
from gol_decouple.features.layout import Block, Header, LinearWeights, SplitLayout, rows_per_block
from gol_decouple.features.roi_writer import filled_up
from gol_decouple.features.rois import ClassImages, ImageRows, Regressor
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.features.writer_thread import WriterThread
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config

# Settings that decide which RoIs are cached, and of which pixels.
_OF_ROIS = (
    *("min_size", "max_size", "rois_per_image", "foreground_fraction", "proposals", "proposals_before_nms"),
    "val_rois_per_image",
)


class Fitted(NamedTuple):
    """Which predictors of a detector are for the classes of the data, and neither random nor anybody else's.

    Attributes:
        classifier: as a Softmax one, which stage two starts from.
        regressor: of boxes.
    """

    classifier: bool
    regressor: bool


def extract_rois(
    detector: nn.Module,
    dataset: AnnotatedDataset,
    config: Config,
    fitted: Fitted,
    path: Path,
    progress: Progress = SILENT,
    world: World = ALONE,
    shard: bool = False,
) -> None:
    """Write the RoIs of `dataset` as the classifier of a detector sees them to `path`; continues an interrupted file,
    and keeps a finished one.

    Of train images those that `roi_sampling.train_rois` draws, of val images the best proposals. Nothing of the
    detector moves.

    Args:
        fitted: which of its predictors the file gets.
        world: the processes, each of which computes and writes its share; the file does not depend on their number.
        shard: each writes a file of its own, which `shards.merge` joins.

    Raises:
        InputError: features that are not finite or overflow the file's dtype, an image that cannot be decoded, or a
            file there that is of other features.
        EnvironmentFailure: the disk is full.
    """
    header = _header(detector, dataset, config, fitted)
    orders, layouts = {}, {}
    for position, (name, split) in enumerate(dataset.splits.items()):
        order = orders[name] = row_order(len(split), config.features.seed, position)
        height, width = split.sizes[order].T
        rows = ImageRows(split.ids[order], height, width, _rois_per_image(config, name))
        layouts[name] = SplitLayout(rows, 1, rows_per_block(header.row_bytes, rows.rois_per_image))
    if is_written(path, (header, layouts), world, progress, shard):
        return
    extraction = _Extraction(detector, config, dataset.num_classes)
    with FeatureWriter(path, header, layouts, world=world, shard=shard) as writer:
        pending = writer.pending
        per_image = {name: _rois_per_image(config, name) for name in layouts}
        total = sum((block.stop - block.start) // per_image[block.split] for block in pending)
        with progress.bar("features of RoIs", total, "images") as bar, WriterThread(writer) as thread:
            for name, blocks in groupby(pending, key=lambda block: block.split):
                for block, rois in extraction.run(name, dataset.splits[name], orders[name], list(blocks)):
                    thread.write(block, partial(_columns, rois, per_image[name]))
                    bar.advance(len(rois), name)
        if not shard:
            writer.publish()


class _Extraction:
    """Computes the RoIs of the images that own a block."""

    def __init__(self, detector: nn.Module, config: Config, num_classes: int) -> None:
        device = next(detector.parameters()).device
        settings = _settings(config)
        sampling = Sampling(settings.rois_per_image, settings.foreground_fraction, config.features.seed)
        given: dict[str, Any] = {"num_classes": num_classes}
        given["precision"] = runtime.autocast_dtype(device, config.stage1.precision)
        self._detector = detector.eval()
        self._config = config
        self._device = device
        self._train: Callable[..., list[Rois]] = partial(train_rois, detector, sampling=sampling, **given)
        self._val: Callable[..., list[Rois]] = partial(
            val_rois, detector, num_rois=settings.val_rois_per_image, **given
        )

    def run(
        self, name: str, split: AnnotatedSplit, order: NDArray[np.int64], blocks: Sequence[Block]
    ) -> Iterator[tuple[Block, list[Rois]]]:
        """Each block with the RoIs of its images."""
        per_image = _rois_per_image(self._config, name)
        images = [order[block.start // per_image : block.stop // per_image] for block in blocks]
        # One at a time: padded to the size of others, an image would have other features.
        keys = clean_keys(np.concatenate(images).tolist(), 1)
        workers, pinned = self._config.stage1.num_workers, self._device.type == "cuda"
        loaded = iter(AnnotatedBatches(split, keys, masks=False, workers=workers, pinned=pinned))
        for block, own in zip(blocks, images, strict=True):
            yield block, [self._rois(name, split, batch) for batch in islice(loaded, len(own))]

    def _rois(self, name: str, split: AnnotatedSplit, batch: AnnotatedBatch) -> Rois:
        there = batch.to(self._device)
        images, targets = there.images(), there.targets()
        if name == "train":
            return self._train(images, targets, split.ids[batch.indices.numpy()].tolist())[0]
        return self._val(images, targets)[0]


def _columns(rois: Sequence[Rois], per_image: int) -> dict[str, NDArray[Any]]:
    """The rows of images, each filled up to as many as it owns."""
    given = [
        {"features": one.features, "labels": one.labels, "boxes": one.boxes, "iou": one.ious.clamp(0, 1)}
        for one in rois
    ]
    images = [{name: tensor.cpu().numpy() for name, tensor in one.items()} for one in given]
    return filled_up(images, per_image)


def _header(detector: Any, dataset: AnnotatedDataset, config: Config, fitted: Fitted) -> Header:
    predictor = detector.roi_heads.box_predictor
    weight, bias = regressor_from_torchvision(predictor.bbox_pred.weight, predictor.bbox_pred.bias)
    classifier = classifier_from_torchvision(predictor.cls_score.weight, predictor.cls_score.bias)
    regressor = Regressor(as_float32(weight), as_float32(bias), tuple(detector.roi_heads.box_coder.weights))
    counts, settings = dataset.train_counts, _settings(config)
    present = counts[counts > 0]
    return Header(
        class_names=dataset.class_names,
        dtype=config.features.dtype,
        feature_size=predictor.cls_score.in_features,
        classifier=LinearWeights(*map(as_float32, classifier)) if fitted.classifier else None,
        origin={
            "backbone": backbone_facts(detector, config),
            "dataset": {
                "name": dataset.name,
                "imbalance_factor": float(present.max() / present.min()),
                "sha256": dataset.sha256,
            },
            "transform": {
                **config.transform.model_dump(mode="json", include={"mean", "std"}),
                **settings.model_dump(mode="json", include=set(_OF_ROIS)),
                "conventions": conventions.of_model(detector).model_dump(mode="json"),
            },
        },
        row_order_seed=config.features.seed,
        class_images=ClassImages(dataset.image_counts, len(dataset.splits["train"]), dataset.frequency),
        regressor=regressor if fitted.regressor else None,
    )


def _rois_per_image(config: Config, split: str) -> int:
    settings = _settings(config)
    return settings.rois_per_image if split == "train" else settings.val_rois_per_image


def _settings(config: Config) -> DetectorConfig:
    assert config.detector is not None  # as data.kind = "lvis" has it
    return config.detector
