"""Balanced group softmax: classes compete with those of like size only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from gol_decouple.activations import Activation, at_least_float32
from gol_decouple.losses.draws import drawn
from gol_decouple.losses.loss import ClassFacts, Loss
from gol_decouple.losses.terms import softmax_


class BAGS(Loss):
    """A softmax for each group of classes of like size, with a further column for "others" (Li et al., CVPR 2020).

    Groups are divided at `edges` train samples; those without classes are left out, and one alone has no others. A
    group's loss is the mean over its own samples and up to `ratio` times as many of the others, drawn in each batch;
    the loss is the sum over groups. With background there is one group more, of foreground and background, over all
    samples; background is of the others in the rest. Scores are those within the groups, times that of foreground.
    """

    name = "bags"
    activations = ("softmax",)
    with_background = activations
    random = True
    independent = False
    plain_at = ({"edges": ()},)

    def __init__(
        self,
        activation: Activation,
        facts: ClassFacts,
        edges: Sequence[int] = (10, 100, 1000),
        ratio: float = 8.0,
    ) -> None:
        super().__init__(activation, facts)
        self._require(sorted(set(edges)) == list(edges), "edges", edges, "numbers in rising order")
        self._require(ratio >= 0, "ratio", ratio, "at least 0")
        self.ratio = ratio
        counts = self._given_counts()
        bins = np.searchsorted(np.asarray(edges), counts, side="right")
        groups = [np.flatnonzero(bins == found) for found in np.unique(bins)]
        self.num_groups = len(groups)
        self._has_others = self.num_groups > 1 or self.background
        self.extra_columns = self.num_groups * self._has_others + 2 * self.background
        for number, members in enumerate(groups):
            others = [len(counts) + number] if self._has_others else []
            places = np.full(len(counts) + 1, len(members))  # of each class among the group's columns, or of others
            places[members] = np.arange(len(members))
            self._constant(f"columns_{number}", np.append(members, others).astype(np.int64))
            self._constant(f"places_{number}", places)

    def per_sample_(
        self, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        losses = torch.zeros_like(logits[:, 0])
        for columns, places in self._groups():
            part, label = logits.index_select(1, columns), places[labels]
            counted = label < len(columns) - self._has_others
            counted |= drawn(~counted, counted.sum() * self.ratio, generator)
            weights = counted * (len(labels) / counted.sum().clamp(min=1).to(logits.dtype))
            losses += softmax_(part, label).mul_(weights)
            logits.index_copy_(1, columns, part.mul_(weights.unsqueeze(1)))
        if self.background:
            part, num_classes = logits[:, -2:].clone(), logits.shape[1] - self.extra_columns
            losses += softmax_(part, (labels == num_classes).to(labels.dtype))
            logits[:, -2:] = part
        return losses

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        return self.log_scores(logits).exp()

    def log_scores(self, logits: torch.Tensor) -> torch.Tensor:
        ranking = self.ranking(logits)
        return ranking + self.activation.log_scores(logits[:, -2:])[:, :1] if self.background else ranking

    def log_scores_at(self, logits: torch.Tensor, temperature: float) -> torch.Tensor:
        # With divided logits, classes of different groups would change their order.
        return self.log_scores(logits) / temperature

    def ranking(self, logits: torch.Tensor) -> torch.Tensor:
        ranking = at_least_float32(self._of_classes(logits)).clone()
        for columns, _ in self._groups():
            members = columns[: len(columns) - self._has_others]
            ranking[:, members] = F.log_softmax(at_least_float32(logits[:, columns]), dim=1)[:, : len(members)]
        return ranking

    def _groups(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Of each group its columns, those of its classes first, and every label's place among them."""
        for number in range(self.num_groups):
            yield self.get_buffer(f"columns_{number}"), self.get_buffer(f"places_{number}")
