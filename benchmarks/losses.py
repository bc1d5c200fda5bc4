"""What a loss costs beside softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.timing import rates, report, spread
from gol_decouple import losses
from gol_decouple.class_stats import long_tail_counts

REPEATS = 10


def main(samples: int = 512, classes: int = 1000, rounds: int = 15, threads: int = 1, out: Path | None = None) -> None:
    """Forward and backward of every loss, over PyTorch's softmax cross-entropy; with background, three rows in four."""
    torch.set_num_threads(threads)
    counts = np.array(long_tail_counts(1280, classes, 256))
    labels = torch.from_numpy(np.random.default_rng(0).integers(classes, size=samples))
    of_background = torch.where(torch.arange(samples) % 4 > 0, classes, labels)
    plain = partial(_both, F.cross_entropy, _logits(samples, classes), labels)
    figures: dict[str, Any] = {"shape": f"{samples} x {classes}"}
    for activation, name in losses.pairs():
        make = partial(losses.get, name, activation=activation, class_counts=counts)
        for background in (False, True)[: 1 + (activation in make().with_background)]:
            loss = make(background=background)
            logits = _logits(samples, loss.num_columns(classes))
            work = {"plain": plain, "loss": partial(_both, loss, logits, of_background if background else labels)}
            measured = rates(work, rounds)
            kind = f"{name}, {activation}{', with background' * background}"
            figures[kind] = spread(measured["plain"], measured["loss"])
    report("losses", figures, out)


def _logits(samples: int, columns: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return (2.0 * torch.rand(samples, columns, generator=draws) - 1.0).requires_grad_(True)  # a cosine, for LDAM


def _both(loss: Callable[..., torch.Tensor], logits: torch.Tensor, labels: torch.Tensor) -> int:
    for _ in range(REPEATS):
        logits.grad = None
        loss(logits, labels).backward()
    return REPEATS
