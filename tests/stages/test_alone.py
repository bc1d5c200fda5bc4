"""What comes of a classifier does not depend, bit by bit, on those it is trained with as one stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_together import STACKABLE

from gol_decouple import methods
from gol_decouple.losses import ClassFacts
from gol_decouple.methods import Method
from gol_decouple.stages.jobs import Weights, loss_of
from gol_decouple.stages.stack import Stack

MOST = 7
# Features, classes and batch size, that of an epoch's last batch a third: products that are multiples of what a CPU
# works on at a time, and none that is; and more logits than losses work on at a time.
SHAPES = [(64, 10, 64), (5, 3, 37), (33, 21, 16), (27, 51, 1), (29, 54, 4), (353, 4, 33), (5, 2001, 30)]
CPU = torch.device("cpu")


class Trained:
    """Seven classifiers with learning rates, starts and batches of their own, of which some are trained as a stack."""

    def __init__(self, method: Method, size: int, classes: int, batch_size: int, own_batches: bool) -> None:
        draws = torch.Generator().manual_seed(7)
        counts = np.maximum(500 * 0.95 ** np.arange(classes), 1).astype(np.int64)
        self._method, self._classes = method.with_settings(batch_size=batch_size), classes
        self._loss = loss_of(self._method, ClassFacts(counts))
        columns = self._loss.num_columns(classes)
        self._starts: list[Weights] = [
            (torch.randn(columns, size, generator=draws), torch.randn(columns, generator=draws)) for _ in range(MOST)
        ]
        self._batches = [
            (torch.randn(MOST, count, size, generator=draws), torch.randint(classes, (MOST, count), generator=draws))
            for count in (batch_size, batch_size // 3 + 1, batch_size)
        ]
        self._minus_lrs = -method.lr * torch.linspace(1.0, 2.0, MOST).unsqueeze(1)
        self._own_batches = own_batches

    def __call__(self, members: Sequence[int], kept: Sequence[int] | None = None) -> torch.Tensor:
        """What is trained of each [K, ...], its momentum, losses and gradients; after the first batch some are kept."""
        own = list(members)
        stack = Stack(
            [self._starts[one] for one in own], self._method, self._loss, self._batch_size, CPU, self._classes
        )
        for number, (x, labels) in enumerate(self._batches):
            if number == 1:
                stack.loss_sums.zero_()
                stack.gradients.sums.zero_()
                if kept is not None:
                    stack.keep([own.index(one) for one in kept])
                    own = list(kept)
            seen = own if self._own_batches else [0]
            stack.step(x[seen], labels[seen], self._minus_lrs[own])
        parts = (stack.trained, stack.velocity, stack.loss_sums.unsqueeze(1), stack.gradients.sums.flatten(1))
        return torch.cat([part.double() for part in parts], dim=1)

    @property
    def _batch_size(self) -> int:
        return self._batches[0][1].shape[1]


@pytest.mark.parametrize("own_batches", [False, True], ids=["one batch for all", "batches of their own"])
@pytest.mark.parametrize("name", STACKABLE)
def test_each_is_what_it_is_alone(name: str, own_batches: bool) -> None:
    for shape in SHAPES:
        trained = Trained(methods.get(name), *shape, own_batches)
        wanted = torch.cat([trained([one]) for one in range(MOST)])
        for members in (range(MOST), (4, 1, 6), (5, 2)):
            assert torch.equal(trained(members), wanted[list(members)]), (shape, members)
        assert torch.equal(trained(range(MOST), kept=(1, 2, 6)), wanted[[1, 2, 6]]), shape


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0.1},
        {"clip_norm": 0.05},
        {"classifier": "cosine", "classifier_params": {"learn_scale": True}},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["sigmoid", "lws", "ldam_drw", "disalign"])
def test_with_other_settings(name: str, settings: dict[str, Any]) -> None:
    for shape in ((33, 21, 16), (3, 10, 45)):
        trained = Trained(replace(methods.get(name), **settings), *shape, own_batches=True)
        assert torch.equal(trained(range(MOST)), torch.cat([trained([one]) for one in range(MOST)])), shape
