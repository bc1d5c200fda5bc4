"""The two sums that losses are made of, each in one pass over the logits, which leaves the gradient in their place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from gol_decouple.lanes import LANES

# Logits that are worked on at a time: their intermediate values stay in a core's cache, and small enough for the
# allocator to use the same memory again, where larger ones come back from the system page by page.
AT_ONCE = 131072

# (logits of the labels [N, 1], labels [N, 1]) -> their costs as positives, and the slopes of these.
Positives = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
# (some rows of the logits [n, C], which of the N) -> their costs as negatives [n, C]; slopes replace the logits.
Negatives = Callable[[torch.Tensor, slice], torch.Tensor]


def softmax_(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)_y of each sample [N]; its gradient replaces the logits [N, C]."""
    column = labels.unsqueeze(1)
    log_prob = F.log_softmax(logits, dim=1)
    losses = -log_prob.gather(1, column).squeeze(1)
    torch.exp(log_prob, out=logits).scatter_add_(1, column, logits.new_full((1, 1), -1.0).expand_as(column))
    return losses


def one_vs_all_(
    logits: torch.Tensor, labels: torch.Tensor, positives: Positives, negatives_: Negatives, background: bool = False
) -> torch.Tensor:
    """The sum over classes [N] of a positive's cost for the label and a negative's for every other class.

    Every class is worked out as a negative; then the label's entry of each row is replaced. With background, rows with
    label C keep all entries. The gradient replaces the logits [N, C].
    """
    column = labels.unsqueeze(1)
    is_class = column < logits.shape[1] if background else None
    column = column.clamp(max=logits.shape[1] - 1) if background else column
    cost, slope = positives(logits.gather(1, column), column)
    losses = []
    rows = _rows_at_once(logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        slopes, at = logits[part], column[part]
        costs = negatives_(slopes, part)
        for entries, of_labels in ((costs, cost), (slopes, slope)):
            own = of_labels[part]
            if is_class is not None:
                own = torch.where(is_class[part], own, entries.gather(1, at))
            entries.scatter_(1, at, own)
        losses.append(costs.sum(1))
    return torch.cat(losses)


def _rows_at_once(columns: int) -> int:
    """So many that nothing is left over (see `lanes`): where in a batch a sample is makes no difference."""
    step = LANES // math.gcd(LANES, columns)
    return max(1, AT_ONCE // columns // step) * step
