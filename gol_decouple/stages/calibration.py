"""How far scores can be taken as probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from gol_decouple.losses import Loss
from gol_decouple.metrics import Metrics

BINS = 15
# Temperatures that are tried, so many of them a decade, and how closely the best one is found then, as a factor.
COLDEST, HOTTEST, A_DECADE, CLOSE = 0.01, 100.0, 10, 1.001


def tempered(loss: Loss, logits: torch.Tensor, temperature: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [N, C] of logits [N, columns], and their logarithms.

    With a temperature T they are the scores of logits / T, made to sum to 1 over the classes (of BAGS the scores to the
    power 1 / T). Of softmax that is temperature scaling as Guo et al. have it (ICML 2017, equation 9); scores of
    one-vs-all activations become the probabilities of exactly one class.
    """
    if temperature is None:
        return loss.scores(logits), loss.log_scores(logits)
    log_scores = loss.log_scores_at(logits, temperature).log_softmax(1)
    return log_scores.exp(), log_scores


@torch.inference_mode()
def best_temperature(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature from 0.01 to 100 with the least negative log-likelihood of labels [N], given logits [N, columns].

    The best of ten a decade, then closer by golden sections between its neighbours.
    """

    def cost(log_temperature: float) -> float:
        _, log_scores = tempered(loss, logits, math.exp(log_temperature))
        return -log_scores.gather(1, labels.unsqueeze(1)).double().mean().item()

    first, step = math.log(COLDEST), math.log(10.0) / A_DECADE
    tried = [first + place * step for place in range(round((math.log(HOTTEST) - first) / step) + 1)]
    best = min(tried, key=cost)
    return math.exp(_least(cost, max(best - step, tried[0]), min(best + step, tried[-1]), math.log(CLOSE)))


def _least(function: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Where a function with one minimum between `low` and `high` has it, to half of `width`."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > width:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2.0


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
        """`ece`, `classwise_ece` and `nll`; the last is None where a label's score is 0 even in logarithms."""
        of_classes = self._of_classes.view(-1, BINS).abs().sum(1).mean()
        log_loss = self._log_loss.item() / self._samples
        return {
            "ece": 100.0 * self._of_predicted.abs().sum().item() / self._samples,
            "classwise_ece": 100.0 * of_classes.item() / self._samples,
            "nll": log_loss if math.isfinite(log_loss) else None,
        }
