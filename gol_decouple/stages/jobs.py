"""What stage two trains and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gol_decouple import activations, classifiers, losses, methods, posthoc
from gol_decouple.classifiers import Classifier, Trained
from gol_decouple.errors import InputError, check_parameters
from gol_decouple.features import Classes
from gol_decouple.losses import ClassFacts, Loss
from gol_decouple.methods import NEAREST_MEAN, OF_STAGE_ONE, Method
from gol_decouple.metrics import Metrics
from gol_decouple.stages.calibration import tempered
from gol_decouple.stages.samples import class_facts

History = list[dict[str, float]]
Weights = tuple[torch.Tensor, torch.Tensor]
Stacked = Sequence[Mapping[str, Any]]  # of each classifier of a stack, in what it can differ: seed, lr and start


def loss_of(method: Method, facts: ClassFacts) -> Loss:
    """A method's loss on its activation."""
    activation = activations.get(method.activation, **method.activation_params)
    return losses.get(method.loss, activation=activation, **vars(facts), **method.loss_params)


def makes(method: Method) -> partial[Trained]:
    """What makes the classifiers that a method trains."""
    return classifiers.get(method.classifier, **method.classifier_params)


def check(method: Method, classes: Classes) -> None:
    """Raise an InputError for what would be found after a training: a setting that a part refuses, or no background."""
    if len(classes) < 2:
        raise InputError(f"there is one class, {classes.names[0]!r}: a classifier needs at least two")
    facts = class_facts(classes, classes.train_counts)
    _check_background(method, classes)
    loss_of(method, facts)
    if method.is_trained:
        makes(method)
    elif method.classifier == NEAREST_MEAN:
        check_parameters(f"classifier {NEAREST_MEAN!r}", method.classifier_params, ["space"])
    if method.classifier in OF_STAGE_ONE and method.start != "stage_one":
        what = f"a fresh start leaves {method.classifier} nothing to change"
        raise InputError(f"method {method.name}: {what}", "start = 'stage_one'")
    if method.posthoc:
        weight = torch.ones(len(classes), 1)
        posthoc.get(method.posthoc, class_counts=classes.train_counts, weight=weight, **method.posthoc_params)


def _check_background(method: Method, classes: Classes) -> None:
    """Refuse methods for RoIs on images, and the reverse."""
    if classes.images is None:
        if method.background:
            raise InputError(
                f"method {method.name} is for features with background samples, and there are none",
                "--method all leaves such methods out",
            )
        return
    without = method.is_trained and (method.activation, method.loss) not in losses.background_pairs()
    if without or not (method.is_trained or method.background):
        hint = f"methods for RoIs: {', '.join(methods.fits(background=True))}"
        raise InputError(f"method {method.name} makes no sense with background samples, as RoIs have them", hint)
    if method.temperature != "none":
        raise InputError("a temperature is fitted to samples of one class each, and RoIs are none", "temperature none")
    if not classes.train_counts.any():
        raise InputError("train has no RoI of any class, only background", "match proposals to annotated boxes")


@dataclass(frozen=True)
class State:
    """A classifier between two epochs, or after the last one; on the device it is trained on.

    Attributes:
        trained, velocity: what is trained and its momentum, [P] (see `classifiers.Trained`).
        loss: the loss's own state, by name.
        gradients: float64 [epochs done, 3, C] (see `gradients.GradientMass`), where they are summed.
    """

    trained: torch.Tensor
    velocity: torch.Tensor
    history: History
    loss: Mapping[str, torch.Tensor] = field(default_factory=dict)
    gradients: torch.Tensor | None = None

    def fits(self, method: Method, loss: Loss, num_classes: int, feature_size: int) -> bool:
        """Whether it can be one of a method's classifiers, with epochs left or just trained."""
        columns = loss.num_columns(num_classes)
        start = (torch.empty(1, columns, feature_size, device="meta"), torch.empty(1, columns, device="meta"))
        wanted = makes(method)(*start).initial[0]
        same = all(_like(tensor, wanted) for tensor in (self.trained, self.velocity))
        of_loss = loss.state_dict()
        same &= self.loss.keys() == of_loss.keys() and all(_like(self.loss[name], of_loss[name]) for name in of_loss)
        history = isinstance(self.history, list) and all(isinstance(entry, dict) for entry in self.history)
        if self.gradients is not None:
            same &= self.gradients.shape == (len(self.history), 3, num_classes)
        return history and same and 0 < len(self.history) <= method.epochs


def _like(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    return (tensor.shape, tensor.dtype) == (other.shape, other.dtype)


@dataclass(frozen=True, eq=False)
class Job:
    """One classifier to train.

    Attributes:
        stage_one: weight [C, D] and bias [C] of the Softmax classifier, for methods that start from it; of RoIs, with
            one row more, that of background.
        started_from: where those are from, as reports tell it.
        state: what to continue from.
        temperature: of its scores, where that was fitted before.
    """

    method: Method
    seed: int
    stage_one: Weights | None = None
    started_from: str = "fresh"
    state: State | None = None
    temperature: float | None = None

    def __str__(self) -> str:
        return f"{self.method.name} (lr {self.method.lr:g}, seed {self.seed})"


@dataclass(frozen=True)
class Retrained:
    """A retrained classifier.

    Attributes:
        classifier: on the CPU; the first C of its columns are the classes.
        loss: what it was trained with; it turns logits into scores.
        method: what trained it, with all settings.
        num_views: views of each train sample it was trained on.
        history: for each epoch, its number (from 1), learning rate at its start, and mean train loss.
        seconds: wall time of the passes it was trained in, alone or together with others.
        shuffled_rows: how many train samples were shuffled among each other; None: all.
        temperature: see `calibration.tempered`; None leaves scores as they are.
        metrics: top-1 metrics on test; None if there is no test split or `evaluate=False`.
        gradients: float64 [epochs, 3, C] (see `gradients.GradientMass`), if they were summed.
        stack: what it was trained with as one stack, itself included; on several threads, last bits can depend on it.
    """

    classifier: Classifier
    method: Method
    loss: Loss
    num_views: int
    history: History
    seconds: float
    shuffled_rows: int | None = None
    temperature: float | None = None
    metrics: Metrics | None = None
    gradients: torch.Tensor | None = None
    stack: Stacked = ()

    @property
    def weight(self) -> torch.Tensor:
        """Float32 [columns, D]."""
        return self.classifier.weight

    @property
    def bias(self) -> torch.Tensor:
        """Float32 [columns]."""
        return self.classifier.bias

    @property
    def normalise(self) -> bool:
        """Whether features are scaled to length 1 before weight and bias are applied."""
        return self.classifier.normalise

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.history)

    def logits(self, x: torch.Tensor | NDArray[np.floating]) -> torch.Tensor:
        """Logits [N, columns] of features [N, D]."""
        return self.classifier.logits(torch.as_tensor(x).cpu())

    def scores(self, x: torch.Tensor | NDArray[np.floating]) -> torch.Tensor:
        """Scores [N, C] after the activation, of features [N, D]. Rank classes by logits: scores can underflow."""
        return tempered(self.loss, self.logits(x), self.temperature)[0]

    def to_linear(self) -> nn.Linear:
        """The classifier as an ordinary layer (see `classifiers.Classifier.to_linear`)."""
        return self.classifier.to_linear()
