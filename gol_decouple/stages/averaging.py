"""The exponential moving average of a model's weights and statistics, which often generalises better than the last."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    """average = decay * average + (1 - decay) * weights, after every step; the first step's weights begin it."""

    def __init__(self, model: M, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    @property
    def model(self) -> M:
        """The model with the averaged weights and BatchNorm statistics."""
        return cast(M, self._averaged.module)

    def update(self, model: M) -> None:
        """Take the weights of a step into the average."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """The average, for a checkpoint."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the average of a checkpoint."""
        self._averaged.load_state_dict(state)
