"""What stage one trains a detector for: images with boxes and masks, and torchvision's five losses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from gol_decouple import runtime
from gol_decouple.backbones.class_order import labels_to_torchvision
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.data.annotated_batches import AnnotatedBatch, AnnotatedBatches
from gol_decouple.data.loading import EpochKeys, Order, by_factors, by_labels
from gol_decouple.distributed import World
from gol_decouple.samplers import repeat_factors
from gol_decouple.settings import Config


class Detection:
    """The task of torchvision's Mask R-CNN (see `tasks.Task`)."""

    columns: tuple[str, ...] = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")

    def __init__(self, dataset: AnnotatedDataset, config: Config, world: World, device: torch.device) -> None:
        settings = config.stage1
        self._num_classes = dataset.num_classes
        self._device = device
        self._precision = runtime.autocast_dtype(device, settings.precision)
        self.keys = EpochKeys(
            _order(dataset, config),
            settings.batch_size,
            settings.passes,
            world,
            least=1,  # no layer looks at a batch
            max_steps=settings.max_steps,
        )
        self.batches: Iterable[AnnotatedBatch] = AnnotatedBatches(
            dataset.splits["train"],
            self.keys,
            config.seed,
            config.transform.flip,
            workers=settings.num_workers,
            pinned=device.type == "cuda",
        )
        self.data_sha256 = dataset.sha256

    def losses(self, network: nn.Module, batch: AnnotatedBatch, *_: int) -> dict[str, torch.Tensor]:
        """The losses of a pass, which are added up; what they draw, torchvision draws from PyTorch's own generator."""
        there = batch.to(self._device)
        targets = there.targets()
        for target in targets:
            target["labels"] = labels_to_torchvision(target["labels"], self._num_classes)
        with runtime.autocast(self._device, self._precision):
            losses: dict[str, torch.Tensor] = network(there.images(), targets)
        return {name: losses[name].float() for name in self.columns}

    def measured(self, *_: object) -> dict[str, float | None]:
        """Nothing beside the losses: average precision is evaluated once stage one is done."""
        return {}


def _order(dataset: AnnotatedDataset, config: Config) -> Order:
    train = dataset.splits["train"]
    assert config.detector is not None  # as data.kind = "lvis" has it
    if config.stage1.sampler != "repeat_factor":
        return by_labels(train.ids, config.seed)
    factors = repeat_factors(train.image_labels, dataset.num_classes, config.detector.repeat_threshold)
    return by_factors(factors, config.seed)
