"""Training of the Softmax model: the loop, its checkpoints and its log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from gol_decouple import runtime
from gol_decouple.backbones import ImageClassifier
from gol_decouple.data import Dataset
from gol_decouple.data.loading import Batches, EpochKeys, Key, Pass, clean_keys
from gol_decouple.data.transforms import Normalise
from gol_decouple.distributed import ALONE, World
from gol_decouple.errors import InputError
from gol_decouple.progress import Bar, Progress
from gol_decouple.schedules import lr_factor
from gol_decouple.settings import Config, Stage1Config
from gol_decouple.stages.averaging import MovingAverage
from gol_decouple.stages.mixup import mix
from gol_decouple.stages.parallel import accumulating, check, parallel
from gol_decouple.stages.training_log import TrainingLog
from gol_decouple.stages.training_state import load_state, save_state

MIXUP, NOISE = 3, 4  # random streams; those of the images' order and augmentation are in data.loading


class Trainer:
    """Trains a model on a dataset's train split, epoch by epoch, resuming from the last checkpoint in `folder`.

    Every random draw is keyed by seed, epoch and position, so an interrupted run continues as if it had not been, and
    how many processes share a batch changes nothing but the order of sums, and what BatchNorm and mixup see together.

    Raises:
        InputError: a setting that this machine cannot follow.
    """

    def __init__(
        self,
        model: ImageClassifier,
        dataset: Dataset,
        config: Config,
        folder: Path,
        world: World = ALONE,
        device: torch.device | None = None,
    ) -> None:
        self._settings: Stage1Config = config.stage1
        self._seed = config.seed
        self._world = world
        self.device = runtime.select_device(config.device) if device is None else device
        check(config.stage1, self.device)
        self._model = model.to(self.device)
        self._network: nn.Module = self._model  # what trains it: in several processes, one that averages gradients
        self._dataset = dataset
        self._folder = folder
        self._transform = config.transform
        self._normalise = Normalise(config.transform)
        self._precision = runtime.autocast_dtype(self.device, config.stage1.precision)
        self._optimizer = torch.optim.SGD(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=config.stage1.scaled_lr,
            momentum=config.stage1.momentum,
            weight_decay=config.stage1.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._precision is torch.float16)
        self._average = MovingAverage(model, config.stage1.ema) if config.stage1.ema else None
        self._keys = EpochKeys(
            dataset.splits["train"].labels,
            config.stage1.batch_size,
            config.seed,
            config.stage1.sampler,
            config.stage1.passes,
            world,
        )
        self._batches = self._load("train", self._keys)
        self._log = TrainingLog(folder, config.stage1.tensorboard, world.is_main)

    def run(self, progress: Progress) -> None:
        """Train to the last epoch; the result is `model`, the same in all processes.

        Raises:
            InputError: loss or weights are no longer finite, or there are checkpoints that cannot be used.
        """
        first = self._resume(progress)
        epochs = self._settings.epochs
        if first < epochs:
            self._network = parallel(self._model, self._world, self.device, self._settings.sync_batchnorm)
            left = (epochs - first) * len(self._dataset.splits["train"])
            with progress.bar("stage one", total=left, unit="images") as bar:
                for epoch in range(first, epochs):
                    self._log.add(self._logged_epoch(epoch, bar))
                    if self._world.is_main:
                        self._save(epoch + 1)
            self._network = self._model  # lets go of the connection between the processes
        self._world.share_model(self.model)

    @property
    def model(self) -> ImageClassifier:
        """The model as trained so far: its last weights, or their moving average if `stage1.ema` asks for that."""
        return self._model if self._average is None else self._average.model

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, those before an interruption included."""
        return self._log.seconds

    def _logged_epoch(self, epoch: int, bar: Bar) -> dict[str, Any]:
        started = time.monotonic()
        loss = self._epoch(epoch, bar)
        seconds = time.monotonic() - started
        return {
            "epoch": epoch + 1,
            "lr": self._lr(epoch, 0),
            "train_loss": loss,
            "accuracy": self._accuracy(epoch),
            "images_per_second": len(self._dataset.splits["train"]) / seconds,
            "seconds": seconds,
        }

    def _epoch(self, epoch: int, bar: Bar) -> float:
        self._network.train()
        self._keys.epoch = epoch
        total, step_loss = 0.0, torch.zeros((), device=self.device)
        for part, (images, labels) in zip(self._keys.passes(), self._batches, strict=True):
            if part.number == 0:
                self._optimizer.zero_grad()
                step_loss = torch.zeros((), device=self.device)
            step_loss += self._pass(images, labels, part, epoch)
            if not part.is_last:
                continue
            self._step(epoch, part.step)
            value = float(self._world.total(step_loss))
            if not math.isfinite(value):
                raise self._diverged(epoch, f"the loss is {value} in step {part.step + 1}")
            total += value * part.step_images
            bar.advance(part.step_images, f"epoch {epoch + 1}/{self._settings.epochs}, loss {value:.3f}")
        if not all(parameter.isfinite().all() for parameter in self._model.parameters()):
            raise self._diverged(epoch, "weights are not finite")
        return total / len(self._dataset.splits["train"])

    def _pass(self, images: torch.Tensor, labels: torch.Tensor, part: Pass, epoch: int) -> torch.Tensor:
        """Add a pass's gradient to the others; returns its part of the step's loss."""
        inputs = self._normalise(images.to(self.device, non_blocking=True))
        targets = labels.to(self.device, non_blocking=True)
        share = part.images / part.step_images
        # The processes' gradients are averaged once, with the step's last pass.
        with nullcontext() if part.is_last else accumulating(self._network):
            # The first pass of the main process draws as the only one does.
            own = (self._world.rank, part.number)
            at = (epoch, part.step, *(own if any(own) else ()))
            torch.manual_seed(runtime.stream_seed(self._seed, NOISE, *at))  # of dropout and the like in the model
            loss = self._loss(inputs, targets, *at)
            torch.autograd.backward(self._scaler.scale(loss * (share * self._world.size)))
        return loss.detach() * share

    def _step(self, epoch: int, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr(epoch, step)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self._model)

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor, *at: int) -> torch.Tensor:
        """The loss of a pass; `at`, the epoch, the step and more, keys the draws of mixup."""
        smoothing, alpha = self._settings.label_smoothing, self._settings.mixup
        if not alpha:
            return F.cross_entropy(self._logits(inputs), targets, label_smoothing=smoothing)
        inputs, others, share = mix(inputs, alpha, runtime.generator(self._seed, MIXUP, *at))
        logits = self._logits(inputs)
        return share * F.cross_entropy(logits, targets, label_smoothing=smoothing) + (1 - share) * F.cross_entropy(
            logits, targets[others], label_smoothing=smoothing
        )

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        try:
            with runtime.autocast(self.device, self._precision):
                logits: torch.Tensor = self._network(inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"BatchNorm needs more than one image a pass, and the last batch leaves {len(inputs)}",
                f"--set stage1.batch_size={self._settings.batch_size + 1}, or fewer processes or stage1.passes",
            ) from None
        return logits.float()

    def _diverged(self, epoch: int, sign: str) -> InputError:
        lower = f"{self._settings.lr / 10:g}"
        return InputError(
            f"stage one diverged in epoch {epoch + 1}: {sign}", f"try --set stage1.lr={lower} --overwrite"
        )

    def _lr(self, epoch: int, step: int) -> float:
        settings = self._settings
        progress = (epoch + step / len(self._keys)) / settings.epochs
        written_for = settings.recipe_epochs or settings.epochs
        milestones = [milestone / written_for for milestone in settings.milestones]
        warmup = settings.warmup_epochs / written_for
        return settings.scaled_lr * lr_factor(settings.schedule, progress, milestones, settings.gamma, warmup)

    def _accuracy(self, epoch: int) -> float | None:
        """Percent correct on val, or on test where there is no val; for the log only, nothing is chosen by it."""
        every = self._settings.evaluate_every
        if not every or ((epoch + 1) % every and epoch + 1 < self._settings.epochs):
            return None
        name = "val" if "val" in self._dataset.splits else "test"
        self._world.share_model(self.model)
        labels = self._dataset.splits[name].labels
        right = np.count_nonzero(self._predict(name) == labels[self._world.rank :: self._world.size])
        return 100.0 * int(self._world.total(torch.tensor(right, device=self.device))) / len(labels)

    @torch.inference_mode()
    def _predict(self, name: str, batch_size: int = 256) -> NDArray[np.int64]:
        """The predicted classes of this process's share of a split: every `size`-th image, from its rank on."""
        model = self.model.eval()
        share = range(self._world.rank, len(self._dataset.splits[name]), self._world.size)
        keys = clean_keys(share, batch_size)
        predictions = [np.empty(0, np.int64)]
        for images, _ in self._load(name, keys):
            with runtime.autocast(self.device, self._precision):
                logits = model(self._normalise(images.to(self.device, non_blocking=True)))
            predictions.append(logits.argmax(dim=1).cpu().numpy())
        return np.concatenate(predictions)

    def _load(self, name: str, keys: Iterable[Sequence[Key]]) -> Batches:
        split, workers = self._dataset.splits[name], self._settings.num_workers
        return Batches(split, self._transform, keys, self._seed, workers, pinned=self.device.type == "cuda")

    def _save(self, epochs_done: int) -> None:
        state = {
            "epochs_done": epochs_done,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average is not None else {},
            "log": self._log.rows,
            "data_sha256": self._dataset.sha256,
        }
        save_state(self._folder, state)
        self._log.write()

    def _resume(self, progress: Progress) -> int:
        """Take up the newest checkpoint; returns the number of epochs done."""
        state = load_state(self._folder, self._dataset.sha256, progress)
        self._world.check_same("the last checkpoint", state and state["epochs_done"])
        if state is None:
            return 0
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._log.rows = state["log"]
        if self._world.is_main:
            self._log.write()  # a process that was killed may have written the checkpoint only
        progress.say(f"continuing stage one after epoch {state['epochs_done']} of {self._settings.epochs}")
        return int(state["epochs_done"])
