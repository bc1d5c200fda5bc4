"""The engine of stage two: retrains a classifier on cached features held in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from gol_decouple import activations, classifiers, losses, methods, runtime, samplers
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.metrics import Metrics
from gol_decouple.progress import SILENT, Progress
from gol_decouple.schedules import lr_factor
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.evaluation import evaluate as evaluate_classifier

_START_STREAM, _ORDER_STREAM, _VIEW_STREAM = 0, 1, 2


@dataclass(frozen=True)
class TrainFeatures:
    """A train split on a device: `views` float32 [V, N, D], the clean one first, `labels` int64 [N], counts [C]."""

    views: torch.Tensor
    labels: torch.Tensor
    class_counts: NDArray[np.int64]

    @classmethod
    def load(cls, features: FeaturesFile, device: torch.device, chosen: Sequence[Method]) -> TrainFeatures:
        """Read from a features file the views that the methods in `chosen` train on.

        Raises:
            InputError: the file is damaged, or a feature is not finite.
        """
        train = features["train"]
        if features.classifier is None:
            chosen = [*chosen, methods.first_softmax()]
        needed = slice(None) if any(method.views == "random" for method in chosen) else slice(1)
        array = train.features[needed].astype(np.float32)
        labels = torch.from_numpy(train.labels).to(device)
        return cls(torch.from_numpy(array).to(device), labels, features.classes.train_counts)


@dataclass(frozen=True)
class Retrained:
    """A retrained classifier.

    Attributes:
        weight, bias: float32 [C, D] and [C], on the CPU.
        method: what trained it, with all settings.
        num_views: views of each train sample it was trained on.
        history: for each epoch, its number (from 1), learning rate at its start, and mean train loss.
        seconds: wall time of the training alone.
        metrics: top-1 metrics on test; None if there is no test split or `evaluate=False`.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    method: Method
    loss: Loss
    num_views: int
    history: list[dict[str, float]]
    seconds: float
    metrics: Metrics | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.history)

    def scores(self, x: torch.Tensor | NDArray[np.floating]) -> torch.Tensor:
        """Scores [N, C] after the activation, of features [N, D]. Rank classes by logits: scores can underflow."""
        features = torch.as_tensor(x).float().cpu()
        return self.loss.scores(torch.addmm(self.bias, features, self.weight.t()))

    def to_linear(self) -> nn.Linear:
        """The classifier as an ordinary layer, D to C, that gives logits."""
        return classifiers.linear(self.weight, self.bias)


def retrain(
    features: str | Path | FeaturesFile,
    method: str | Method = "gumbel",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str = "auto",
    evaluate: bool = True,
    **params: Any,
) -> Retrained:
    """Retrain a classifier on a features file.

    Args:
        features: a features file, open or by path.
        method: a name from `methods.METHODS`, or a record of your own.
        epochs, batch_size, lr: instead of the method's own.
        seed: of the start and of the order of samples.
        evaluate: also fill `.metrics` from the test split, if there is one.
        params: other settings of the method: `start`, `schedule`, `views`, `momentum`, `weight_decay`, `clip_norm`,
            and `q_min` for Gumbel.

    A method that starts from the stage-one classifier, on a file that has none, first trains a Softmax classifier.

    Raises:
        InputError: unknown method or setting, a damaged file, or training that diverges.
    """
    opened = features if isinstance(features, FeaturesFile) else open_features(features)
    chosen = methods.get(method) if isinstance(method, str) else method
    chosen = chosen.with_settings(epochs=epochs, batch_size=batch_size, lr=lr, **params)
    train = TrainFeatures.load(opened, runtime.select_device(device), [chosen])
    start: Any = opened.classifier
    if chosen.start == "stage_one" and start is None:
        start = train_classifier(train, methods.first_softmax(), None, seed)
    result = train_classifier(train, chosen, start, seed)
    if not evaluate or "test" not in opened:
        return result
    return replace(result, metrics=evaluate_classifier(result, opened))


def train_classifier(
    train: TrainFeatures, method: Method, stage_one: Any, seed: int, progress: Progress = SILENT
) -> Retrained:
    """Train one classifier; every random draw is keyed by (seed, epoch).

    Args:
        stage_one: weight [C, D] and bias [C] of the Softmax classifier, for methods that start from it.

    Raises:
        InputError: the loss is no longer finite.
    """
    _check(method)
    activation = activations.get(method.activation, **method.activation_params)
    loss = losses.get(method.loss, activation=activation, class_counts=train.class_counts)
    sampler = samplers.get(method.sampler)
    device = train.views.device
    classifier = _start(train, method, loss, activation, stage_one, seed).to(device)
    optimizer = torch.optim.SGD(
        classifier.parameters(), method.lr, method.momentum, weight_decay=method.weight_decay, fused=True
    )
    history, started = [], time.perf_counter()
    step_size = method.batch_size * classifier.weight.numel()
    total = method.epochs * len(train.labels)
    with progress.bar(f"{method.name}, seed {seed}", total, "samples") as bar, runtime.threads_for(step_size):
        for epoch in range(method.epochs):
            order = sampler(train.labels, runtime.generator(seed, _ORDER_STREAM, epoch)).to(device)
            rows = _rows(train, method, order, runtime.generator(seed, _VIEW_STREAM, epoch))
            mean_loss = _epoch(train, classifier, loss, optimizer, method, epoch, rows)
            if not (math.isfinite(mean_loss) and classifier.weight.isfinite().all()):
                raise InputError(
                    f"{method.name}, seed {seed}, diverged in epoch {epoch + 1}: the loss is {mean_loss}",
                    f"lower stage2.lr (now {method.lr:g})",
                )
            history.append({"epoch": epoch + 1, "lr": _lr(method, epoch), "loss": mean_loss})
            bar.advance(len(order), f"epoch {epoch + 1}/{method.epochs}, loss {mean_loss:.3f}")
    weight, bias = classifiers.as_tensors(classifier)
    num_views = len(train.views) if method.views == "random" else 1
    return Retrained(weight, bias, method, loss, num_views, history, seconds=time.perf_counter() - started)


def _epoch(
    train: TrainFeatures,
    classifier: nn.Linear,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    method: Method,
    epoch: int,
    rows: torch.Tensor,
) -> float:
    """One pass over `rows` [M] of all views; returns their mean loss."""
    features, num_samples = train.views.flatten(0, 1), len(train.labels)
    batches = torch.split(rows, method.batch_size)
    total = torch.zeros((), device=rows.device)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = _lr(method, epoch + step / len(batches))
        batch_loss = loss(classifier(features[batch]), train.labels[batch % num_samples])
        optimizer.zero_grad()
        torch.autograd.backward(batch_loss)
        if method.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), method.clip_norm)
        optimizer.step()
        total += batch_loss.detach() * len(batch)
    return float(total) / len(rows)


def _rows(train: TrainFeatures, method: Method, order: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Rows [M] of all views, one after the other, of the samples in `order` [M]."""
    if method.views == "clean":
        return order
    views = torch.randint(len(train.views), (len(order),), generator=draws)
    return views.to(order.device) * len(train.labels) + order


def _lr(method: Method, epochs_done: float) -> float:
    return method.lr * lr_factor(method.schedule, epochs_done / method.epochs)


def _check(method: Method) -> None:
    """The ranges that the command line's config checks, for those who come through the library."""
    try:
        Stage2Config.model_validate(method.settings)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{problem['loc'][0]} = {problem['input']!r}: {problem['msg']}") from None


def _start(
    train: TrainFeatures, method: Method, loss: Loss, activation: activations.Activation, stage_one: Any, seed: int
) -> nn.Linear:
    if method.start == "stage_one":
        return classifiers.linear(*classifiers.as_tensors(stage_one))
    num_classes = len(train.class_counts)
    draws = runtime.generator(seed, _START_STREAM)
    return classifiers.fresh(loss.num_columns(num_classes), num_classes, train.views.shape[2], activation, draws)
