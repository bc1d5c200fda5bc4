"""Extraction: the features of every split, in eval mode, into one features file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gol_decouple import runtime
from gol_decouple.backbones import ImageClassifier
from gol_decouple.data import Dataset, Split
from gol_decouple.data.transforms import Normalise, clean_images
from gol_decouple.features.layout import Block, Classes, Header, LinearWeights, SplitLayout, rows_per_block
from gol_decouple.features.writer import FeatureWriter
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config


def extract(model: ImageClassifier, dataset: Dataset, config: Config, path: Path, progress: Progress = SILENT) -> None:
    """Write the features of `dataset` as `model`'s classifier sees them to `path`; continues an interrupted file.

    The backbone is in eval mode and no gradient is kept: nothing of the model moves, its BatchNorm statistics included.

    Raises:
        InputError: features that are not finite or overflow the file's dtype.
        EnvironmentFailure: the disk is full.
    """
    model.eval()
    device = next(model.parameters()).device
    header = Header(
        classes=Classes(dataset.class_names, dataset.train_counts),
        dtype=config.features.dtype,
        feature_size=model.classifier.in_features,
        classifier=LinearWeights(*map(_numpy, (model.classifier.weight, model.classifier.bias)))
        if model.has_classifier
        else None,
        origin={
            "backbone": {"name": config.backbone.name, "sha256": weights_sha256(model)},
            "dataset": {
                "name": dataset.name,
                "imbalance_factor": imbalance_factor(dataset, config),
                "sha256": dataset.sha256,
            },
            "transform": config.transform.model_dump(mode="json", exclude_none=True),
        },
        row_order_seed=config.features.seed,
    )
    shuffled = {
        name: split.take(_row_order(split, config.features.seed, position))
        for position, (name, split) in enumerate(dataset.splits.items())
    }
    per_block = rows_per_block(header.row_bytes)
    layouts = {name: SplitLayout(split.labels, split.ids, 1, per_block) for name, split in shuffled.items()}
    forward = _Forward(model.backbone, config, device)
    with FeatureWriter(path, header, layouts) as writer:
        pending = writer.pending
        total = sum(block.stop - block.start for block in pending)
        with progress.bar("features", total, "images") as bar:
            for block in pending:
                writer.write(block, forward(shuffled[block.split], block))
                bar.advance(block.stop - block.start, block.split)
        writer.publish()


def imbalance_factor(dataset: Dataset, config: Config) -> float:
    """The factor the config makes; where it leaves the data as they are, that of the data."""
    made = config.data.imbalance_factor
    return made if made is not None and made > 1 else dataset.imbalance_factor


def weights_sha256(model: nn.Module) -> str:
    """sha256 over the names and bytes of all weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Forward:
    """Features of a block's images, [stop - start, D]; a batch never crosses a block."""

    def __init__(self, backbone: nn.Module, config: Config, device: torch.device) -> None:
        self._backbone = backbone
        self._transform = config.transform
        self._normalise = Normalise(config.transform)
        self._batch_size = config.features.batch_size
        self._device = device
        self._precision = runtime.autocast_dtype(device, config.stage1.precision)

    @torch.inference_mode()
    def __call__(self, split: Split, block: Block) -> NDArray[np.float32]:
        parts = []
        for start in range(block.start, block.stop, self._batch_size):
            stop = min(start + self._batch_size, block.stop)
            images = clean_images(split.images[start:stop], self._transform).to(self._device)
            with runtime.autocast(self._device, self._precision):
                features = self._backbone(self._normalise(images))
            parts.append(features.float().cpu().numpy())
        return np.concatenate(parts)


def _row_order(split: Split, seed: int, position: int) -> NDArray[np.int64]:
    """A seeded random order, so that neighbouring rows are not of one class; streaming reads neighbours together."""
    return np.random.default_rng(runtime.stream_seed(seed, position)).permutation(len(split))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()
