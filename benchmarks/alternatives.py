"""What people do today beside stage two: the frozen backbone on every image in every epoch, and scikit-learn."""

from __future__ import annotations

import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn

from benchmarks.inputs import gaussians
from benchmarks.timing import report, spread
from gol_decouple import methods
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.together import train_together


def alternatives(rounds: int = 3, images: int = 16, threads: int = 1, out: Path | None = None) -> None:
    """The time of an image in classifier-balancing's second stage, and of logistic regression, over ours."""
    torch.set_num_threads(threads)
    report("alternatives", _frozen_backbone(rounds, images) | _logistic_regression(rounds), out)


def _frozen_backbone(rounds: int, images: int) -> dict[str, Any]:
    """ResNet-50 at 224 pixels, forward only, then a step of the classifier; images and not epochs, since it is slow."""
    backbone = torchvision.models.resnet50()
    backbone.fc = nn.Identity()
    backbone.eval()
    layer = nn.Linear(2048, 1000)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, 0.9)
    pixels, labels = torch.randn(images, 3, 224, 224), torch.arange(images)
    found = []
    with gaussians(20_480, 2048, 1000) as file:
        rows = InMemory(file, torch.device("cpu"), 1)
        method = methods.get("crt").with_settings(epochs=1, batch_size=256)
        for number in range(rounds + 1):
            started = time.perf_counter()
            with torch.no_grad():
                features = backbone(pixels)
            loss = nn.functional.cross_entropy(layer(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            theirs = (time.perf_counter() - started) / images
            started = time.perf_counter()
            list(train_together(rows, [Job(method, 0)]))
            ours = (time.perf_counter() - started) / 20_480
            if number:
                found.append(theirs / ours)
    return {"frozen ResNet-50 with cRT / cRT on cached features, time an image and epoch": spread(found)}


def _logistic_regression(rounds: int) -> dict[str, Any]:
    """To the train loss that lbfgs ends with (C = 1, at most 100 iterations)."""
    with gaussians(20_000, 512, 200, "float32") as file:
        x, labels = file["train"].features[0], file["train"].labels
        rows = InMemory(file, torch.device("cpu"), 1)
        found, losses = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = LogisticRegression(max_iter=100).fit(x, labels)
            theirs = time.perf_counter() - started
            wanted = log_loss(labels, model.predict_proba(x))
            seconds, loss, epochs = _until(rows, x, labels, wanted)
            found.append(theirs / seconds)
            losses.append((wanted, loss))
    return {
        "LogisticRegression (lbfgs) / softmax here, time to its train loss": spread(found),
        "train loss, theirs and ours": [round(float(statistics.median(part)), 5) for part in zip(*losses, strict=True)],
        "epochs that ours took": epochs,
    }


def _until(rows: InMemory, x: np.ndarray, labels: np.ndarray, wanted: float) -> tuple[float, float, int]:
    """Seconds, loss and epochs of the shortest training, of 1, 2, 4, ... epochs, that reaches a train loss."""
    for epochs in (1, 2, 4, 8, 16, 32, 64):
        method = methods.get("softmax").with_settings(start="fresh", epochs=epochs, lr=0.02)
        started = time.perf_counter()
        ((_, result),) = train_together(rows, [Job(method, 0)])
        seconds = time.perf_counter() - started
        if isinstance(result, Exception):
            raise result
        logits = torch.addmm(result.bias, torch.from_numpy(x), result.weight.t())
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
        if loss <= wanted:
            break
    return seconds, loss, epochs
