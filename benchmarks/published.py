"""Where GOL's published Gumbel code and the exact one differ: in the gradient, and in training on real features."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import report
from gol_decouple import activations, evaluate, features, losses, methods
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.stages.jobs import Job, Retrained, Weights
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.together import train_together

LOGITS = (2.0, 0.0, -2.0, -3.0, -3.2, -3.3, -3.4, -3.6, -4.0, -5.0, -6.0)
DEAD_BELOW = -3.32
KINDS = ("gumbel", "gumbel_published")
# Start, what is taken from all its logits (nothing changes for softmax), learning rate, epochs, schedule.
TRAININGS = (
    ("stage_one", 0.0, 1e-5, 30, "constant"),
    ("stage_one", 0.0, 1e-4, 30, "constant"),
    ("stage_one", 0.0, 1e-3, 30, "constant"),
    ("stage_one", 8.0, 1e-5, 30, "constant"),
    ("stage_one", 16.0, 1e-5, 30, "constant"),
    ("fresh", 0.0, 1e-3, 15, "cosine"),
    ("fresh", 0.0, 1e-2, 15, "cosine"),
)


def main(file: Path, split: str = "val", seeds: int = 5, out: Path | None = None) -> None:
    """The gradients of a positive; then both trained on a features file, and judged on one of its splits."""
    torch.set_num_threads(1)
    opened = features.open(file)
    if opened.classifier is None:
        raise InputError(f"{file} has no Softmax classifier to start from", "name the features.h5 of a run")
    figures: dict[str, Any] = {f"gradient at q = {q:g}": _gradients(q) for q in LOGITS}
    weight, bias = as_tensors(opened.classifier)
    names, jobs = {}, []
    for start, lower, lr, epochs, schedule in TRAININGS:
        figures[f"positives with no gradient at the start, logits lowered by {lower:g}, %"] = _dead(
            opened, (weight, bias - lower)
        )
        for kind in KINDS:
            method = methods.get(kind).with_settings(start=start, lr=lr, epochs=epochs, schedule=schedule)
            for seed in range(seeds):
                jobs.append(Job(method, seed, (weight, bias - lower)))
                from_where = f"{start} - {lower:g}" if lower else start
                names[id(jobs[-1])] = f"{kind}, {from_where}, lr {lr:g}, {epochs} epochs"
    found = defaultdict(list)
    rows = open_rows(opened, torch.device("cpu"), [job.method for job in jobs], None)
    for job, result in train_together(rows, jobs):
        if isinstance(result, InputError):
            raise result
        found[names[id(job)]].append(result)
    summaries = {name: _summary(opened, split, found[name]) for name in dict.fromkeys(names.values())}
    report("published", figures | summaries, out)


def _gradients(q: float) -> dict[str, float]:
    """Of a positive's cost by its logit, in float32."""
    found = {"equation 9": -float(torch.exp(torch.tensor(-q, dtype=torch.float64)))}
    for kind in KINDS:
        logits = torch.tensor([[q]], requires_grad=True)
        losses.get("cross_entropy", activation=activations.get(kind))(logits, torch.tensor([0])).backward()
        assert logits.grad is not None
        found[kind] = logits.grad.item()
    return {name: float(f"{value:.3g}") for name, value in found.items()}


def _summary(opened: FeaturesFile, split: str, results: list[Retrained]) -> dict[str, float]:
    accuracies = torch.tensor([evaluate(result, opened, split)["top1_balanced"] for result in results])
    dead = torch.tensor([_dead(opened, (result.weight, result.bias)) for result in results])
    return {
        "top1_balanced": round(accuracies.mean().item(), 2),
        "deviation": round(accuracies.std().item(), 2),
        "train loss": round(sum(result.history[-1]["loss"] for result in results) / len(results), 3),
        "positives with no gradient, %": round(dead.mean().item(), 3),
    }


def _dead(opened: FeaturesFile, weights: Weights) -> float:
    """The percentage of train samples, over all views, whose label's logit has no gradient in the published code."""
    train, (weight, bias) = opened["train"], weights
    labels = torch.from_numpy(train.labels)
    dead = 0
    for view in range(len(train.features)):
        x = torch.from_numpy(train.features[view]).float()
        logits = torch.addmm(bias, x, weight.t()).gather(1, labels.unsqueeze(1))
        dead += int((logits < DEAD_BELOW).sum())
    return round(100.0 * dead / (len(train.features) * len(labels)), 3)
