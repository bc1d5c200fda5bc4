"""What every loss is: a module from logits and labels to the mean loss over samples, with its gradient known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gol_decouple.activations import Activation, at_least_float32
from gol_decouple.class_stats import COMMON_UP_TO, frequency_masks
from gol_decouple.errors import InputError

# Parameters with which a loss is cross entropy.
Limits: TypeAlias = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ClassFacts:
    """What a loss can know of the classes it is for; see `losses.get`."""

    class_counts: NDArray[np.int64] | None = None
    image_frequency: NDArray[np.float64] | None = None
    num_images: int | None = None
    background: bool = False


class Loss(nn.Module):
    """A loss on one of its activations.

    The first C columns of the logits are the classes in label order; those a loss has beside them come after. With
    background, label C is a sample of no class. State that training changes is in persistent buffers (`state_dict` has
    nothing else), and changes in training mode only.

    Attributes:
        name: what `losses.get` calls it.
        activations: those it goes with.
        with_background: those of them with which it takes background samples.
        random: whether it draws; then calls take `generator=`, by default PyTorch's own.
        independent: whether a sample's loss depends on nothing but that sample.
        held_constant: the method whose result depends on the logits, but lets no gradient through.
        plain_at: parameters with which it is cross entropy, each for a test.
        plain_when_uniform: whether it is cross entropy when all classes are equally large.
        extra_columns: how many columns it has beside those of the classes.
    """

    name: ClassVar[str]
    activations: ClassVar[tuple[str, ...]]
    with_background: ClassVar[tuple[str, ...]] = ()
    random: bool = False
    independent: bool = True
    held_constant: ClassVar[str | None] = None
    plain_at: ClassVar[Limits] = ()
    plain_when_uniform: ClassVar[bool] = False

    def __init__(self, activation: Activation, facts: ClassFacts) -> None:
        super().__init__()
        if facts.background and activation.name not in self.with_background:
            raise InputError(
                f"loss {self.name!r} on {activation.name} does not take background samples",
                f"it does on {', '.join(self.with_background)}" if self.with_background else None,
            )
        self.activation = activation
        self.background = facts.background
        self.extra_columns = 0
        self._facts = facts

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Logits [N, columns] and labels [N] in 0..C-1, or C for background, to a scalar in float32 or better."""
        loss: torch.Tensor = _ClosedForm.apply(logits, labels, self, generator)
        return loss

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Each sample's loss [N] from logits [N, columns] in float32 or better, which its gradient replaces."""
        raise NotImplementedError

    def num_columns(self, num_classes: int) -> int:
        """How many logits a sample has when there are `num_classes` classes."""
        return num_classes + self.extra_columns

    def softmax_columns(self, num_classes: int) -> int:
        """How many of its first columns are those of a Softmax classifier, which it can start from.

        That is one a class; with background such a classifier has one more, which is another thing for most losses.
        """
        return num_classes

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores [N, C] from logits [N, columns]."""
        return self._of_classes(self.activation.scores(logits))

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logarithms [N, C] of the scores, where these underflow too."""
        return self._of_classes(self.activation.log_scores(logits))

    def log_scores_at(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logarithms [N, C] of the scores at a temperature, which orders a sample's classes as they were.

        They are those of divided logits; up to a constant for each sample.
        """
        return self.log_scores(logits / temperature)

    def ranking(self, logits: torch.Tensor) -> torch.Tensor:
        """Values [N, C] that order a sample's classes as its scores do, but do not underflow."""
        return self._of_classes(logits)

    def start_epoch(self, share_done: float) -> None:
        """Told before every epoch which share of the training is done, from 0 to 1; for losses that change with it."""

    def _of_classes(self, columns: torch.Tensor) -> torch.Tensor:
        return columns[:, : columns.shape[1] - self.extra_columns]

    def _constant(self, name: str, value: NDArray[Any] | torch.Tensor) -> None:
        """A buffer that moves with the module and is no part of its state."""
        self.register_buffer(name, torch.as_tensor(value), persistent=False)

    def _counts(self) -> NDArray[np.float64]:
        """Train samples of each class [C]; a class without any counts as if it had one."""
        return np.maximum(self._given_counts(), 1.0)

    def _frequency(self) -> NDArray[np.float64]:
        """Share of the images that hold each class [C]; that of the samples, where an image is a sample."""
        if self._facts.image_frequency is not None:
            return np.asarray(self._facts.image_frequency, np.float64)
        counts = self._given_counts()
        share: NDArray[np.float64] = counts / counts.sum()
        return share

    def _image_counts(self) -> NDArray[np.float64]:
        """Train images that hold each class, [C]."""
        if self._facts.image_frequency is None:
            return self._given_counts()
        if self._facts.num_images is None:
            raise InputError(
                f"loss {self.name!r} needs num_images, of which image_frequency is a share, to tell which classes are "
                f"in {COMMON_UP_TO} images or fewer",
                "give num_images, or lambda_ where the loss takes it",
            )
        return np.rint(np.asarray(self._facts.image_frequency, np.float64) * self._facts.num_images)

    def _given_counts(self) -> NDArray[np.float64]:
        if self._facts.class_counts is None:
            raise InputError(f"loss {self.name!r} needs class_counts, the train samples of each class")
        return np.asarray(self._facts.class_counts, np.float64)

    def _frequency_groups(self) -> dict[str, NDArray[np.bool_]]:
        return frequency_masks(self._image_counts().astype(np.int64))

    def _require(self, holds: bool, parameter: str, value: Any, wanted: str) -> None:
        if not holds:
            raise InputError(f"loss {self.name!r}: {parameter} = {value!r}: must be {wanted}")


class _ClosedForm(torch.autograd.Function):
    """The mean of `per_sample_`, with the gradient that came with it."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, labels: torch.Tensor, loss: Loss, generator: torch.Generator | None
    ) -> torch.Tensor:
        gradient = at_least_float32(logits).clone()
        losses = loss.per_sample_(gradient, labels, generator)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * (grad / len(gradient))).to(ctx.dtype), None, None, None
