"""Learning-rate schedules, shared by both stages."""

from __future__ import annotations

import math
from collections.abc import Sequence


def lr_factor(
    schedule: str, progress: float, milestones: Sequence[float] = (), gamma: float = 1.0, warmup: float = 0.0
) -> float:
    """What the base learning rate is multiplied by at `progress`, the share of all steps done, in [0, 1).

    Args:
        schedule: "constant"; "cosine", from 1 at the end of the warm-up to 0; "step", times `gamma` at each milestone
            passed.
        milestones: shares of the training at which "step" falls.
        warmup: share of the training in which the factor rises from 0 to 1, in proportion.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))
    if schedule == "step":
        # A milestone written in epochs and divided by their number may miss its own epoch by a rounding error.
        return gamma ** sum(progress >= milestone - 1e-9 for milestone in milestones)
    return 1.0
