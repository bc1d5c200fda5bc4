"""Extraction: the features of every split, in eval mode, into one features file.

Three things go on at once, so that the device is never without work: worker processes decode and transform images, the
device computes, and a thread takes features from the device and writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gol_decouple import runtime
from gol_decouple.backbones import ImageClassifier
from gol_decouple.data import Dataset, Split
from gol_decouple.data.loading import VIEW, Batches, Key, in_batches
from gol_decouple.data.transforms import Normalise
from gol_decouple.distributed import ALONE, World
from gol_decouple.errors import InputError
from gol_decouple.features.layout import Block, Header, LinearWeights, Samples, SplitLayout, rows_per_block
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.features.writer_thread import WriterThread
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config


def extract(
    model: ImageClassifier,
    dataset: Dataset,
    config: Config,
    path: Path,
    progress: Progress = SILENT,
    world: World = ALONE,
    shard: bool = False,
) -> None:
    """Write the features of `dataset` as `model`'s classifier sees them to `path`; continues an interrupted file.

    Train images have `features.views` views: the clean one, and others augmented as in stage one, each drawn by
    (features.seed, view, image). The backbone is in eval mode and no gradient is kept: nothing of the model moves, its
    BatchNorm statistics included.

    Args:
        world: the processes, each of which computes and writes its share; the file does not depend on their number.
        shard: each writes a file of its own, which `shards.merge` joins.

    Raises:
        InputError: features that are not finite or overflow the file's dtype, an image that cannot be decoded, or
            views without an augmentation that would make them differ.
        EnvironmentFailure: the disk is full.
    """
    check_views(config)
    model.eval()
    header = _header(model, dataset, config)
    orders = {
        name: row_order(len(split), config.features.seed, position)
        for position, (name, split) in enumerate(dataset.splits.items())
    }
    layouts = {
        name: SplitLayout(
            Samples(split.labels[orders[name]], split.ids[orders[name]]),
            config.features.views if name == "train" else 1,
            rows_per_block(header.row_bytes),
        )
        for name, split in dataset.splits.items()
    }
    extraction = _Extraction(model.backbone, config, next(model.parameters()).device)
    with FeatureWriter(path, header, layouts, world=world, shard=shard) as writer:
        pending = writer.pending
        total = sum(block.stop - block.start for block in pending)
        with progress.bar("features", total, "images") as bar, WriterThread(writer) as thread:
            for name, blocks in groupby(pending, key=lambda block: block.split):
                for block, rows in extraction.run(dataset.splits[name], orders[name], list(blocks)):
                    thread.write(block, partial(_columns, rows))
                    bar.advance(block.stop - block.start, f"{name}, view {block.view}" if block.view else name)
        if not shard:
            writer.publish()


def check_views(config: Config) -> None:
    """Refuse views that would all be the clean one.

    Raises:
        InputError: there is no augmentation in the transform.
    """
    if config.features.views > 1 and not config.transform.is_random:
        raise InputError(
            f"features.views = {config.features.views}, but the transform has no augmentation",
            "set transform.flip, crop_padding, random_resized_crop, auto_augment or cutout",
        )


def imbalance_factor(dataset: Dataset, config: Config) -> float:
    """The factor the config makes; where it leaves the data as they are, that of the data."""
    made = config.data.imbalance_factor
    return made if made is not None and made > 1 else dataset.imbalance_factor


def image_size(dataset: Dataset, config: Config) -> list[int]:
    """Height and width of the clean view, which all images share."""
    size = config.transform.size
    return list(next(iter(dataset.splits["train"].sizes))) if size is None else [size, size]


def weights_sha256(model: nn.Module) -> str:
    """sha256 over the names and bytes of all weights and statistics."""
    return tensors_sha256(model.state_dict())


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The same of a model's tensors by name, such as those in its file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Forward:
    """A backbone in eval mode as extraction applies it: images uint8 [N, H, W, 3] to features float32 [N, D]."""

    def __init__(self, backbone: nn.Module, config: Config, device: torch.device) -> None:
        self._backbone = backbone.eval()
        self._normalise = Normalise(config.transform)
        self._device = device
        self._precision = runtime.autocast_dtype(device, config.stage1.precision)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features on the device, where they may still be being computed."""
        with runtime.autocast(self._device, self._precision):
            features: torch.Tensor = self._backbone(self._normalise(images.to(self._device, non_blocking=True)))
        return features.float()


class _Extraction:
    """Computes features, [stop - start, D] a block; a batch never crosses a block."""

    def __init__(self, backbone: nn.Module, config: Config, device: torch.device) -> None:
        self._forward = Forward(backbone, config, device)
        self._config = config
        self._device = device

    def run(
        self, split: Split, order: NDArray[np.int64], blocks: Sequence[Block]
    ) -> Iterator[tuple[Block, list[torch.Tensor]]]:
        """Each block with its features, in batches on the device, where they may still be being computed."""
        config, size = self._config, self._config.features.batch_size
        keys = (batch for block in blocks for batch in _keys(block, order, size))
        workers, pinned = config.stage1.num_workers, self._device.type == "cuda"
        batches = iter(Batches(split, config.transform, keys, config.features.seed, workers, pinned))
        for block in blocks:
            count = -(-(block.stop - block.start) // size)
            yield block, [self._forward(images) for images, _ in islice(batches, count)]


def _columns(batches: list[torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {"features": np.concatenate([batch.cpu().numpy() for batch in batches])}


def _header(model: ImageClassifier, dataset: Dataset, config: Config) -> Header:
    classifier = LinearWeights(*map(as_float32, (model.classifier.weight, model.classifier.bias)))
    return Header(
        class_names=dataset.class_names,
        dtype=config.features.dtype,
        feature_size=model.classifier.in_features,
        classifier=classifier if model.has_classifier else None,
        origin={
            "backbone": {"name": config.backbone.name, "sha256": weights_sha256(model)},
            "dataset": {
                "name": dataset.name,
                "imbalance_factor": imbalance_factor(dataset, config),
                "sha256": dataset.sha256,
            },
            "transform": config.transform.model_dump(mode="json", exclude_none=True)
            | {"image_size": image_size(dataset, config)},
        },
        row_order_seed=config.features.seed,
    )


def _keys(block: Block, order: NDArray[np.int64], batch_size: int) -> Iterator[list[Key]]:
    images = order[block.start : block.stop].tolist()
    # View 0 is the clean one.
    keys = [Key(image, (VIEW, block.view, image) if block.view else None) for image in images]
    return in_batches(keys, batch_size)


def row_order(count: int, seed: int, position: int) -> NDArray[np.int64]:
    """A seeded random order, so that neighbouring rows are not of one class; streaming reads neighbours together.

    Args:
        count: of the images in a split, and `position`, which of the splits it is.
    """
    return np.random.default_rng(runtime.stream_seed(seed, position)).permutation(count)


def as_float32(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
