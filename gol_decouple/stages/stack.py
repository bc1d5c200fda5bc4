"""Classifiers that are trained in step: K of them, side by side in one set of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from gol_decouple import classifiers
from gol_decouple.classifiers import Classifier
from gol_decouple.lanes import LANES, in_lanes
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.stages.gradients import GradientMass
from gol_decouple.stages.jobs import Weights, makes
from gol_decouple.stages.replay import Replay


class Stack:
    """K classifiers of one method, which differ in their weights and may in their learning rates.

    Momentum SGD as PyTorch writes it: v <- m v + g, W <- W - lr v, with the gradient of each one's own mean loss.
    Where nothing comes between, g is added to v by the matrix product that makes it.

    On one thread of a CPU, in float32, each comes out bit by bit as it would alone, since what belongs to it begins
    where a CPU begins to work on several numbers at a time (see `lanes`). To that end the logits have some more rows
    than the batch, which are not used.

    Attributes:
        trained, velocity: float32 [K, P], what is trained of each; for linear ones its weight [C, D] and bias [C].
        loss_sums: float32 [K], the sum of all samples' losses.
        gradients: the sums of all samples' gradients; None unless it was asked for those of so many classes.
    """

    def __init__(
        self,
        starts: Sequence[Weights],
        method: Method,
        loss: Loss,
        batch_size: int,
        device: torch.device,
        gradients_of: int | None = None,
    ) -> None:
        self._gradients_of = gradients_of
        self._method = method
        self._loss = loss
        self._batch_size = batch_size
        weight, bias = (torch.stack(parts).to(device) for parts in zip(*starts, strict=True))
        self._columns = weight.shape[1]
        self._classifiers = makes(method)(weight, bias)
        self.trained = in_lanes(self._classifiers.initial)
        self.velocity = in_lanes(torch.zeros_like(self.trained))
        self._prepare()

    def classifier(self, position: int) -> Classifier:
        """One of them as it is applied, on the CPU."""
        return self._classifiers.classifier(self.trained, position)

    def finite(self) -> list[bool]:
        """Of each, whether its losses and parameters all are."""
        finite: list[bool] = (self.loss_sums.isfinite() & self.trained.isfinite().all(1)).tolist()
        return finite

    def keep(self, positions: list[int]) -> None:
        """Drop all but those at `positions`."""
        self.trained, self.velocity = in_lanes(self.trained[positions]), in_lanes(self.velocity[positions])
        self._classifiers.keep(positions)
        self._prepare()

    @torch.no_grad()
    def step(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        minus_lr: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        """One step of SGD.

        Args:
            x: features [S, B, D] in the dtype of the products; S is 1, one batch for all, or K; B up to `batch_size`.
            labels: [S, B].
            minus_lr: the learning rates, [K, 1], with their sign turned.
            generator: of a loss that draws; a recording would repeat the draws of its first time.
        """
        if generator is None:
            self._replay(x, labels, minus_lr)
        else:
            self._step(x, labels, minus_lr, generator)

    def _prepare(self) -> None:
        count, device = len(self.trained), self.trained.device
        self.loss_sums = torch.zeros(count, device=device)
        self.gradients = None if self._gradients_of is None else GradientMass(count, self._gradients_of, device)
        # The same memory in every step: new memory comes from the system page by page.
        self._logits = torch.zeros(count * self._rows(self._batch_size) * self._columns, device=device)
        self._ones = torch.ones(1, 1, self._batch_size, device=device).expand(count, -1, -1)
        self._replay = Replay(self._step)

    def _step(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        minus_lr: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        count, batch_size = len(self.trained), labels.shape[1]
        x = F.normalize(x, dim=2) if self._classifiers.normalise else x
        x, rows = in_lanes(x).expand(count, -1, -1), self._rows(batch_size)
        labels = (F.pad(labels, (0, rows - batch_size)) if rows > batch_size else labels).expand(count, -1)
        logits = self._logits[: count * rows * self._columns].view(count, rows, -1)
        of_batch = logits[:, :batch_size] if rows > batch_size else logits
        self._classifiers.logits(self.trained, x, of_batch)
        losses = self._loss.per_sample_(logits.flatten(0, 1), labels.flatten(), generator)
        self.loss_sums += losses.view(count, rows)[:, :batch_size].sum(1)
        if self.gradients is not None:
            logits[:, batch_size:] = 0.0
            self.gradients.add(logits, labels)
        self._descend(x, of_batch, minus_lr)

    def _rows(self, batch_size: int) -> int:
        """Rows of logits for a batch; a loss that looks at all of them has no others."""
        if self._loss.random or not self._loss.independent:
            return batch_size
        return -(-batch_size // LANES) * LANES

    def _descend(self, x: torch.Tensor, slopes: torch.Tensor, minus_lr: torch.Tensor) -> None:
        """Move what is trained, given features [K, B, D] and the losses' gradients in the logits [K, B, C]."""
        method, share = self._method, 1.0 / x.shape[1]
        of = self._classifiers
        if isinstance(of, classifiers.Linear) and x.dtype is torch.float32 and method.clip_norm is None:
            weight, bias = of.weights(self.velocity)
            weight.baddbmm_(slopes.mT, x, beta=method.momentum, alpha=share)
            # As a product too, which is faster than a sum over samples.
            bias.unsqueeze(1).baddbmm_(self._ones[:, :, : x.shape[1]], slopes, beta=method.momentum, alpha=share)
        else:
            gradient = of.gradient(self.trained, x, slopes).mul_(share)
            if method.clip_norm is not None:
                norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
                gradient.mul_((method.clip_norm / (norm + 1e-6)).clamp_(max=1.0))
            self.velocity.mul_(method.momentum).add_(gradient)
        if method.weight_decay:
            self.velocity.add_(self.trained, alpha=method.weight_decay)
        self.trained.addcmul_(self.velocity, minus_lr)
