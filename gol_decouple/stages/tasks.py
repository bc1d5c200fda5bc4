"""What stage one can train: the parts of its loop that differ between an image classifier and a detector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from gol_decouple.data import Dataset
from gol_decouple.data.annotated import AnnotatedDataset
from gol_decouple.data.loading import EpochKeys
from gol_decouple.distributed import World
from gol_decouple.settings import Config
from gol_decouple.stages.classification import Classification
from gol_decouple.stopping import Stop


class Task(Protocol):
    """A dataset's train split and the loss on it, for one kind of model.

    Attributes:
        keys: which images an epoch visits, in which steps and passes; `batches` are those of its present epoch.
        columns: what log.csv has of each epoch beside the whole loss: parts of it, and what `measured` gives.
        data_sha256: of the dataset.
    """

    keys: EpochKeys
    batches: Iterable[Any]
    columns: tuple[str, ...]
    data_sha256: str

    def losses(self, network: nn.Module, batch: Any, *at: int) -> dict[str, torch.Tensor]:
        """The parts of a pass's loss, means over its images, which are added up; `at` keys what they draw."""

    def measured(self, model: nn.Module, epoch: int, is_last: bool, stop: Stop) -> dict[str, float | None] | None:
        """What the log has of a model after an epoch (None: not measured then); None if `stop` cut it short."""


def task_of(dataset: Dataset | AnnotatedDataset, config: Config, world: World, device: torch.device) -> Task:
    """The task that a dataset is for."""
    if isinstance(dataset, Dataset):
        return Classification(dataset, config, world, device)
    from gol_decouple.stages.detection import Detection

    return Detection(dataset, config, world, device)
