"""How far scores can be taken as probabilities."""

from __future__ import annotations

import math

import torch

from gol_decouple.losses import Loss
from gol_decouple.metrics import Metrics

BINS = 15
# Temperatures that are tried, and how closely the best one is found, as factors.
COLDEST, HOTTEST, CLOSE = 0.01, 100.0, 1.001


def tempered(loss: Loss, logits: torch.Tensor, temperature: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [N, C] of logits [N, columns], and their logarithms.

    With a temperature T they are softmax(log scores / T), which sum to 1 over the classes and rank them as before. Of
    softmax that is temperature scaling as Guo et al. have it (ICML 2017, equation 9); scores of one-vs-all activations
    become the probabilities of exactly one class.
    """
    log_scores = loss.log_scores(logits)
    if temperature is None:
        return loss.scores(logits), log_scores
    log_scores = (log_scores / temperature).log_softmax(1)
    return log_scores.exp(), log_scores


@torch.inference_mode()
def best_temperature(log_scores: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature from 0.01 to 100 with the least negative log-likelihood of labels [N], given log scores [N, C].

    The likelihood has one maximum over 1/T (its logarithm is concave in it), which a golden-section search closes in.
    """

    def cost(log_temperature: float) -> float:
        own = (log_scores.double() / math.exp(log_temperature)).log_softmax(1)
        return -own.gather(1, labels.unsqueeze(1)).mean().item()

    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = math.log(COLDEST), math.log(HOTTEST)
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    costs = [cost(value) for value in inner]
    while high - low > math.log(CLOSE):
        if costs[0] <= costs[1]:
            high, inner[1], costs[1] = inner[1], inner[0], costs[0]
            inner[0] = high - ratio * (high - low)
            costs[0] = cost(inner[0])
        else:
            low, inner[0], costs[0] = inner[0], inner[1], costs[1]
            inner[1] = low + ratio * (high - low)
            costs[1] = cost(inner[1])
    return math.exp((low + high) / 2.0)


class Calibration:
    """Gathers, batch by batch, what calibration errors and the log-likelihood of N samples over C classes need.

    With D(S) the sum, over 15 equal bins of the scores S, of |how many are right - the sum of their scores| / N:
    `ece` is D of each sample's predicted class (Guo et al., ICML 2017), `classwise_ece` the mean over classes of D of
    that class's scores on all samples (Kull et al., NeurIPS 2019), both in percent. Scores are taken as they are;
    `nll` is the mean of -log of the label's score over the sum of all, in nats, so that of one-vs-all scores too.
    """

    def __init__(self, num_classes: int, device: torch.device | None) -> None:
        self._of_predicted = torch.zeros(BINS, dtype=torch.float64, device=device)
        self._of_classes = torch.zeros(num_classes * BINS, dtype=torch.float64, device=device)
        self._log_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._samples = 0

    def add(
        self, scores: torch.Tensor, log_scores: torch.Tensor, predicted: torch.Tensor, labels: torch.Tensor
    ) -> None:
        """Scores [N, C] and their logarithms, the predicted and the true classes [N]."""
        column = labels.unsqueeze(1)
        excess = scores.double().neg().scatter_add_(1, column, scores.new_ones((1, 1)).double().expand_as(column))
        bins = (scores * BINS).long().clamp_(0, BINS - 1)
        offsets = torch.arange(scores.shape[1], device=scores.device) * BINS
        self._of_classes.scatter_add_(0, (bins + offsets).flatten(), excess.flatten())
        top = predicted.unsqueeze(1)
        self._of_predicted.scatter_add_(0, bins.gather(1, top).squeeze(1), excess.gather(1, top).squeeze(1))
        log_loss = log_scores.logsumexp(1) - log_scores.gather(1, column).squeeze(1)
        self._log_loss += log_loss.double().sum()
        self._samples += len(labels)

    def metrics(self) -> Metrics:
        """`ece`, `classwise_ece` and `nll`."""
        of_classes = self._of_classes.view(-1, BINS).abs().sum(1).mean()
        return {
            "ece": 100.0 * self._of_predicted.abs().sum().item() / self._samples,
            "classwise_ece": 100.0 * of_classes.item() / self._samples,
            "nll": self._log_loss.item() / self._samples,
        }
