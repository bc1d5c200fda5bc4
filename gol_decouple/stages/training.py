"""Training of the Softmax model: the loop, its checkpoints and its log."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple import runtime
from gol_decouple.backbones import ImageClassifier
from gol_decouple.data import Dataset
from gol_decouple.data.loading import Batches, EpochKeys, Key, clean_keys
from gol_decouple.data.transforms import Normalise
from gol_decouple.errors import InputError
from gol_decouple.files import write_text
from gol_decouple.progress import Bar, Progress
from gol_decouple.schedules import lr_factor
from gol_decouple.settings import Config, Stage1Config
from gol_decouple.stages.averaging import MovingAverage
from gol_decouple.stages.mixup import mix
from gol_decouple.stages.training_state import load_state, save_state

MIXUP = 3  # random stream; those of the images' order and augmentation are in data.loading
LOG_FIELDS = ("epoch", "lr", "train_loss", "accuracy", "images_per_second", "seconds")


class Trainer:
    """Trains a model on a dataset's train split, epoch by epoch, resuming from the last checkpoint in `folder`.

    Every random draw is keyed by seed, epoch and position, so an interrupted run continues as if it had not been.
    """

    def __init__(self, model: ImageClassifier, dataset: Dataset, config: Config, folder: Path) -> None:
        self._settings: Stage1Config = config.stage1
        self._seed = config.seed
        self.device = runtime.select_device(config.device)
        self._model = model.to(self.device)
        self._dataset = dataset
        self._folder = folder
        self._transform = config.transform
        self._normalise = Normalise(config.transform)
        self._precision = runtime.autocast_dtype(self.device, config.stage1.precision)
        self._optimizer = torch.optim.SGD(
            model.parameters(),
            lr=config.stage1.lr,
            momentum=config.stage1.momentum,
            weight_decay=config.stage1.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._precision is torch.float16)
        self._average = MovingAverage(model, config.stage1.ema) if config.stage1.ema else None
        self._keys = EpochKeys(
            dataset.splits["train"].labels, config.stage1.batch_size, config.seed, config.stage1.sampler
        )
        self._batches = self._load("train", self._keys)
        self._log: list[dict[str, Any]] = []

    def run(self, progress: Progress) -> None:
        """Train to the last epoch; the result is `model`.

        Raises:
            InputError: loss or weights are no longer finite, or there are checkpoints that cannot be used.
        """
        first = self._resume(progress)
        epochs = self._settings.epochs
        num_images = len(self._dataset.splits["train"])
        if first == epochs:
            return
        with progress.bar("stage one", total=(epochs - first) * num_images, unit="images") as bar:
            for epoch in range(first, epochs):
                started = time.monotonic()
                loss = self._epoch(epoch, bar)
                seconds = time.monotonic() - started
                self._log.append(
                    {
                        "epoch": epoch + 1,
                        "lr": self._lr(epoch, 0),
                        "train_loss": loss,
                        "accuracy": self._accuracy(epoch),
                        "images_per_second": num_images / seconds,
                        "seconds": seconds,
                    }
                )
                self._save(epoch + 1)

    @property
    def model(self) -> ImageClassifier:
        """The model as trained so far: its last weights, or their moving average if `stage1.ema` asks for that."""
        return self._model if self._average is None else self._average.model

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, those before an interruption included."""
        return sum(float(row["seconds"]) for row in self._log)

    def _epoch(self, epoch: int, bar: Bar) -> float:
        self._model.train()
        self._keys.epoch = epoch
        total = 0.0
        for step, (images, labels) in enumerate(self._batches):
            for group in self._optimizer.param_groups:
                group["lr"] = self._lr(epoch, step)
            inputs = self._normalise(images.to(self.device, non_blocking=True))
            targets = labels.to(self.device, non_blocking=True)
            loss = self._loss(inputs, targets, epoch, step)
            self._optimizer.zero_grad()
            torch.autograd.backward(self._scaler.scale(loss))
            self._scaler.step(self._optimizer)
            self._scaler.update()
            if self._average is not None:
                self._average.update(self._model)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._diverged(epoch, f"the loss is {value} in step {step + 1}")
            total += value * len(labels)
            bar.advance(len(labels), f"epoch {epoch + 1}/{self._settings.epochs}, loss {value:.3f}")
        if not all(parameter.isfinite().all() for parameter in self._model.parameters()):
            raise self._diverged(epoch, "weights are not finite")
        return total / len(self._dataset.splits["train"])

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor, epoch: int, step: int) -> torch.Tensor:
        smoothing, alpha = self._settings.label_smoothing, self._settings.mixup
        if not alpha:
            return F.cross_entropy(self._logits(inputs), targets, label_smoothing=smoothing)
        inputs, others, share = mix(inputs, alpha, runtime.generator(self._seed, MIXUP, epoch, step))
        logits = self._logits(inputs)
        return share * F.cross_entropy(logits, targets, label_smoothing=smoothing) + (1 - share) * F.cross_entropy(
            logits, targets[others], label_smoothing=smoothing
        )

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        with runtime.autocast(self.device, self._precision):
            logits: torch.Tensor = self._model(inputs)
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
        return settings.lr * lr_factor(settings.schedule, progress, milestones, settings.gamma, warmup)

    def _accuracy(self, epoch: int) -> float | None:
        """Percent correct on val, or on test where there is no val; for the log only, nothing is chosen by it."""
        every = self._settings.evaluate_every
        if not every or ((epoch + 1) % every and epoch + 1 < self._settings.epochs):
            return None
        name = "val" if "val" in self._dataset.splits else "test"
        return 100.0 * float(np.mean(self._predict(name) == self._dataset.splits[name].labels))

    @torch.inference_mode()
    def _predict(self, name: str, batch_size: int = 256) -> np.ndarray[Any, Any]:
        model = self.model.eval()
        keys = clean_keys(range(len(self._dataset.splits[name])), batch_size)
        predictions = []
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
            "log": self._log,
            "data_sha256": self._dataset.sha256,
        }
        save_state(self._folder, state)
        write_text(self._folder / "log.csv", _as_csv(self._log))

    def _resume(self, progress: Progress) -> int:
        """Take up the newest checkpoint; returns the number of epochs done."""
        state = load_state(self._folder, self._dataset.sha256, progress)
        if state is None:
            return 0
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._log = state["log"]
        progress.say(f"continuing stage one after epoch {state['epochs_done']} of {self._settings.epochs}")
        return int(state["epochs_done"])


def _as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
