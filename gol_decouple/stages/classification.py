"""What stage one trains an image classifier for: images of one label, the Softmax loss, and the log's accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from gol_decouple import runtime
from gol_decouple.data import Dataset
from gol_decouple.data.loading import Batch, Batches, EpochKeys, Key, by_labels, clean_keys
from gol_decouple.data.transforms import Normalise
from gol_decouple.distributed import World
from gol_decouple.errors import InputError
from gol_decouple.settings import Config
from gol_decouple.stages.mixup import mix
from gol_decouple.stopping import Stop

MIXUP = 3  # a random stream; those of the images' order and augmentation are in data.loading


class Classification:
    """The task of a model from images [N, 3, H, W] to logits [N, C] (see `tasks.Task`)."""

    columns: tuple[str, ...] = ("accuracy",)

    def __init__(self, dataset: Dataset, config: Config, world: World, device: torch.device) -> None:
        settings = config.stage1
        self._dataset = dataset
        self._config = config
        self._world = world
        self._device = device
        self._normalise = Normalise(config.transform)
        self._precision = runtime.autocast_dtype(device, settings.precision)
        order = by_labels(dataset.splits["train"].labels, config.seed, settings.sampler)
        self.keys = EpochKeys(order, settings.batch_size, settings.passes, world, max_steps=settings.max_steps)
        self.batches: Iterable[Batch] = self._load("train", self.keys)
        self.data_sha256 = dataset.sha256

    def losses(self, network: nn.Module, batch: Batch, *at: int) -> dict[str, torch.Tensor]:
        """The loss of a pass; `at`, the epoch, the step and more, keys the draws of mixup."""
        images, labels = (part.to(self._device, non_blocking=True) for part in batch)
        return {"loss": self._loss(network, self._normalise(images), labels, *at)}

    def measured(self, model: nn.Module, epoch: int, is_last: bool, stop: Stop) -> dict[str, float | None] | None:
        """Percent correct on val, or on test where there is no val; for the log only, nothing is chosen by it.

        None, in all processes, where `stop` was requested of one of them before it was done.
        """
        every = self._config.stage1.evaluate_every
        if not every or ((epoch + 1) % every and not is_last):
            return {"accuracy": None}
        name = "val" if "val" in self._dataset.splits else "test"
        self._world.share_model(model)
        labels = self._dataset.splits[name].labels
        share = labels[self._world.rank :: self._world.size]
        predicted = self.predict(model, name, stop)
        right = np.count_nonzero(predicted == share[: len(predicted)])
        told = torch.tensor([right, len(share) - len(predicted)], device=self._device)
        correct, left = self._world.total(told).tolist()
        return {"accuracy": 100.0 * correct / len(labels)} if not left else None

    @torch.inference_mode()
    def predict(
        self, model: nn.Module, name: str, stop: Stop | None = None, batch_size: int = 256
    ) -> NDArray[np.int64]:
        """The predicted classes of this process's share of a split, every `size`-th image from its rank on, or fewer
        if `stop` is requested meanwhile.
        """
        model.eval()
        share = range(self._world.rank, len(self._dataset.splits[name]), self._world.size)
        predictions = [np.empty(0, np.int64)]
        for images, _ in self._load(name, clean_keys(share, batch_size)):
            if stop is not None and stop.requested:
                break
            with runtime.autocast(self._device, self._precision):
                logits = model(self._normalise(images.to(self._device, non_blocking=True)))
            predictions.append(logits.argmax(dim=1).cpu().numpy())
        return np.concatenate(predictions)

    def _loss(self, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, *at: int) -> torch.Tensor:
        smoothing, alpha = self._config.stage1.label_smoothing, self._config.stage1.mixup
        if not alpha:
            return F.cross_entropy(self._logits(network, inputs), targets, label_smoothing=smoothing)
        inputs, others, share = mix(inputs, alpha, runtime.generator(self._config.seed, MIXUP, *at))
        logits = self._logits(network, inputs)
        return share * F.cross_entropy(logits, targets, label_smoothing=smoothing) + (1 - share) * F.cross_entropy(
            logits, targets[others], label_smoothing=smoothing
        )

    def _logits(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        try:
            with runtime.autocast(self._device, self._precision):
                logits: torch.Tensor = network(inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"BatchNorm needs more than one image a pass, and the last batch leaves {len(inputs)}",
                f"--set stage1.batch_size={self._config.stage1.batch_size + 1}, or fewer processes or stage1.passes",
            ) from None
        return logits.float()

    def _load(self, name: str, keys: Iterable[Sequence[Key]]) -> Batches:
        split, workers = self._dataset.splits[name], self._config.stage1.num_workers
        pinned = self._device.type == "cuda"
        return Batches(split, self._config.transform, keys, self._config.seed, workers, pinned)
